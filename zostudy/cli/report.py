"""The command that writes a report: of a study, or of results from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from zostudy.cli.app import AsJson, Assignments, app, load_study, print_json
from zostudy.errors import ConfigError


@app.command()
def report(
    assignments: Assignments,
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY]", help="The study file (YAML).", show_default=False),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="In place of a study: results from elsewhere as CSV, methods beside random ones.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; else report-STUDY or report-FILE here.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write results as a page that needs no network, with its pictures and tables."""
    if (study is None) == (table is None):
        raise ConfigError("report: needs a study file or --table FILE, one of them")
    if table is not None:
        _report_table(table, assignments, output, force=force, as_json=as_json)
        return
    assert study is not None
    from zostudy.study.report import page
    from zostudy.study.report.report_folder import check_output
    from zostudy.study.report.results import document
    from zostudy.study.report.trial_pictures import trial_pictures

    file = load_study(study, assignments)
    folder = output or Path(f"report-{file.config.study}")
    check_output(folder, force=force)
    found = document(file)
    written = page.write(file, found, folder, force=force, seen=trial_pictures(file, found))
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    _say_where(written[0])


def _report_table(
    table: Path, assignments: list[str], output: Path | None, *, force: bool, as_json: bool
) -> None:
    from zostudy.study.report import outside_page

    if assignments:
        raise ConfigError("--set: overrides settings of a study; --table has none")
    found = outside_page.write(table, output, force=force)
    if as_json:
        print_json(found)
        return
    for text in (*found["sentences"], *found["notes"]):
        typer.echo(text)
    _say_where(found["files"][0])


def _say_where(page: Path | str) -> None:
    typer.echo(f"{page}: open it in a browser; pictures and tables lie beside it")
