"""The command that writes a report: of a study, or of results from elsewhere."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import AsJson, Assignments, app, load_study, print_json
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile
    from zostudy.study.report.practical_table import PracticalTable


Rope = Annotated[
    float | None,
    typer.Option(
        metavar="POINTS",
        help="Also say how probable it is that differences of accuracy are practically nothing: "
        "within ± so many percentage points, such as 0.1.",
        show_default=False,
    ),
]
Watched = Annotated[
    bool,
    typer.Option(
        "--watch", help="Write nothing; serve the report on 127.0.0.1, where it follows the study."
    ),
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port of --watch: 8010, or 0 for any.", show_default=False),
]


@app.command()
def report(  # noqa: PLR0913  # one parameter an option
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
    rope: Rope = None,
    watch: Watched = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Write results as a page that needs no network, with its pictures and tables."""
    if (study is None) == (table is None):
        raise ConfigError("report: needs a study file or --table FILE, one of them")
    if rope is not None:
        from zostudy.study.report import practical_table

        practical_table.check(rope)
    if not watch and port is not None:
        raise ConfigError("--port: is the port of --watch; leave it out")
    if table is not None:
        _refuse({"rope": rope, "watch": watch}, "is for the report of a study; leave out --table")
        _report_table(table, assignments, output, force=force, as_json=as_json)
        return
    if watch:
        given = {"output": output, "force": force, "json": as_json}
        _refuse(given, "has no effect with --watch, which writes nothing; leave it out")
    assert study is not None
    file = load_study(study, assignments)
    if rope is not None:
        practical_table.check(rope, [goal.metric for goal in file.config.sweep.objectives])
    if watch:
        _watch(file, 8010 if port is None else port, rope)
    else:
        _report_study(file, output, rope, force=force, as_json=as_json)


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Refuse options that are given."""
    for name, value in given.items():
        if value:
            raise ConfigError(f"--{name}: {why}")


def _watch(file: "StudyFile", port: int, rope: float | None) -> None:
    from zostudy.study.report.watching import Server, Watch

    def say(text: str) -> None:
        typer.echo(f"{file.config.study}: {text}", err=True)

    watch = Watch(file, lambda found: _practical(file, found, rope))
    with Server(watch, port) as server, contextlib.suppress(KeyboardInterrupt):
        watch.look()
        say(f"open {server.url}; the report follows the study (Ctrl-C ends it)")
        watch.follow(say)


def _practical(
    file: "StudyFile", document: dict[str, Any], rope: float | None
) -> "PracticalTable | None":
    from zostudy.study.report.practical_table import practical_table

    objectives = [goal.metric for goal in file.config.sweep.objectives]
    return None if rope is None else practical_table(document, objectives, rope)


def _report_study(
    file: "StudyFile", output: Path | None, rope: float | None, *, force: bool, as_json: bool
) -> None:
    from zostudy.study.report import page
    from zostudy.study.report.report_folder import check_output
    from zostudy.study.report.results import document
    from zostudy.study.report.trial_pictures import trial_pictures

    folder = output or Path(f"report-{file.config.study}")
    check_output(folder, force=force)
    found = document(file)
    practical = _practical(file, found, rope)
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
