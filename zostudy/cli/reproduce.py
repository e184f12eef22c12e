"""The command that runs a trial again and compares: reproduce."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from zostudy.cli.app import AsJson, Assignments, app, chosen_trial, load_study, print_json
from zostudy.errors import ConfigError


@app.command()
def reproduce(
    study: Annotated[
        str, typer.Argument(metavar="STUDY|RUN_ID", help="The study file, or a run in MLflow.")
    ],
    assignments: Assignments,
    trial: Annotated[int | None, typer.Option(help="Trial number; else the best.")] = None,
    uri: Annotated[
        str, typer.Option("--tracking-uri", metavar="URI", help="The MLflow store of RUN_ID.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the new run in, new or empty.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a trial again from its record, and say whether it is identical or where it differs.

    Nothing of the study or of MLflow is used or changed. The exit code is 0 where all is identical,
    1 where something differs, and 2 where the trial cannot be reproduced here.
    """
    if uri and (trial is not None or assignments):
        raise ConfigError("--tracking-uri: is for RUN_ID, which takes neither --trial nor --set")
    if output is not None and output.exists() and not _is_empty(output):
        raise ConfigError(
            f"--output: {str(output)!r} exists already; allowed: a new folder, or an empty one"
        )

    from zostudy.study.report import console, progress
    from zostudy.study.report.results import document
    from zostudy.study.reproduction import recorded
    from zostudy.study.reproduction.again import again

    with (
        progress.reporter(console.output(stderr=True)) as reporter,
        contextlib.ExitStack() as kept,
    ):
        if uri:
            found = recorded.of_run(uri, study)
        else:
            file = load_study(Path(study), assignments)
            found = recorded.of_study(file, chosen_trial(document(file), trial), reporter.report)
        folder = output or Path(kept.enter_context(tempfile.TemporaryDirectory()))
        done = again(found, folder.resolve(), reporter.report)
        text = json.dumps(done.document(), indent=2, ensure_ascii=False) + "\n"
        (folder / "reproduction.json").write_text(text, encoding="utf-8")
    if as_json:
        print_json(done.document())
    else:
        typer.echo("\n".join(done.lines()))
    if done.differing is not None:
        raise typer.Exit(1)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
