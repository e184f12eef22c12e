"""The command that writes a report: of a study, or of results from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zostudy.cli.app import AsJson, Assignments, app, load_study, print_json
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile


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
    rope: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Also say how probable it is that differences of accuracy are practically "
            "nothing: within ± so many percentage points, such as 0.1.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write results as a page that needs no network, with its pictures and tables."""
    if (study is None) == (table is None):
        raise ConfigError("report: needs a study file or --table FILE, one of them")
    if table is not None:
        if rope is not None:
            raise ConfigError("--rope: compares the points of a study; leave it out with --table")
        _report_table(table, assignments, output, force=force, as_json=as_json)
        return
    assert study is not None
    file = load_study(study, assignments)
    _report_study(file, output, rope, force=force, as_json=as_json)


def _report_study(
    file: "StudyFile", output: Path | None, rope: float | None, *, force: bool, as_json: bool
) -> None:
    from zostudy.study.report import page, practical_table
    from zostudy.study.report.report_folder import check_output
    from zostudy.study.report.results import document
    from zostudy.study.report.trial_pictures import trial_pictures

    folder = output or Path(f"report-{file.config.study}")
    check_output(folder, force=force)
    if rope is not None:
        practical_table.check(rope)
    found, practical = document(file), None
    if rope is not None:
        objectives = [goal.metric for goal in file.config.sweep.objectives]
        practical = practical_table.practical_table(found, objectives, rope)
    seen = trial_pictures(file, found)
    written = page.write(file, found, folder, force=force, seen=seen, practical=practical)
    if as_json:
        more = {"practical": practical.to_dict()} if practical else {}
        print_json({"files": [str(path) for path in written]} | more)
        return
    if practical:
        typer.echo(practical.sentence())
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
