"""The command that writes a study's report."""

from pathlib import Path
from typing import Annotated

import typer

from zostudy.cli.app import AsJson, Assignments, StudyPath, app, load_study, print_json


@app.command()
def report(
    study: StudyPath,
    assignments: Assignments,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; else report-STUDY here.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a study's results as a page that needs no network, with its pictures and tables."""
    from zostudy.study.report import page
    from zostudy.study.report.results import document

    file = load_study(study, assignments)
    folder = output or Path(f"report-{file.config.study}")
    written = page.write(file, document(file), folder, force=force)
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    typer.echo(f"{written[0]}: open it in a browser; pictures and tables lie beside it")
