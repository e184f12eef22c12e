"""Workers that join a study from wherever they are: started, and what they do."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zostudy.cli.app import (
    AsJson,
    Assignments,
    Device,
    SkipCheck,
    StudyPath,
    app,
    end_with,
    load_study,
    print_json,
    stopping,
)
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile
    from zostudy.study.planning.plan import Plan


@app.command()
def worker(
    study: StudyPath,
    assignments: Assignments,
    storage: Annotated[
        str, typer.Option(metavar="URL", help="Storage of Optuna; else that of the study file.")
    ] = "",
    tracking_uri: Annotated[
        str, typer.Option(metavar="URL", help="MLflow server; else that of the study file.")
    ] = "",
    device: Device = "study",
    skip_check: SkipCheck = False,
) -> None:
    """Join a study: run its trials beside other workers, one at a time, until none is left."""
    given = {"storage.optuna": storage, "tracking.uri": tracking_uri}
    further = [f"{path}={json.dumps(url)}" for path, url in given.items() if url]
    file = load_study(study, [*assignments, *further], device)

    from zostudy.study.workers import trial_process

    server = trial_process.start_server()

    from zostudy.study.delivery import background
    from zostudy.study.machine import gate
    from zostudy.study.machine.check import SKIPPED
    from zostudy.study.report import console, progress
    from zostudy.study.sweep import budget, standings
    from zostudy.study.sweep.beginning import check_worker
    from zostudy.study.trial.trial import Trials
    from zostudy.study.workers import pool

    reporter = progress.reporter(console.output(stderr=True))
    budget.check(file)
    check_worker(file)
    standing = standings.standing(file)
    with stopping():
        trials = Trials(file, reporter.report, device)
        trials.check(list(standing.points))
        machine = SKIPPED if skip_check else gate.require(server, file, [device], reporter.say)
        with background.for_study(file.config) as delivering, reporter:
            done = pool.run(file, [device], reporter, trials.known, machine)
        delivering.end_orphans(file.config.study, lambda: standings.running(file))
    if done.over:
        typer.echo(budget.ending(done.over, standings.standing(file)), err=True)
    if done.hopeless:
        typer.echo(f"stopped: {done.hopeless}", err=True)
    end_with(max(len(done.failures), bool(done.hopeless)))


@app.command()
def workers(study: StudyPath, assignments: Assignments, as_json: AsJson = False) -> None:
    """Show the workers that run trials of a study now, wherever they are."""
    from zostudy.study.report import console, workers_table
    from zostudy.study.sweep import presence

    file = load_study(study, assignments)
    found = presence.workers(file)
    if as_json:
        print_json({"study": file.config.study, "workers": workers_table.document(found)})
        return
    workers_table.print_workers(file.config.study, found, console.output())


@dataclass(frozen=True)
class Launch:
    """How workers are started on a cluster.

    Attributes:
        engine: The word for the engine.
        workers: How many; those that the study file asks for, if nothing.
        arguments: Further arguments of each.
        dry: Whether it is only printed what the cluster would be told.
    """

    engine: str
    workers: int | None
    arguments: tuple[str, ...]
    dry: bool


def launch(file: "StudyFile", path: Path, how: Launch, *, again: bool) -> None:
    """Start workers of a study on a cluster.

    Args:
        file: The study.
        path: Its file.
        how: Where, and how many.
        again: Whether what failed by itself is tried again too.
    """
    from zostudy.study.launch import engines
    from zostudy.study.launch.job import job

    if how.engine == "local":
        raise ConfigError("--dry-run: shows what a cluster would be told; needs --on, or see plan")
    engine = engines.engine(how.engine)
    asked = job(file, path, how.arguments, how.workers, lambda: _plan(file))
    if how.dry:
        typer.echo(engine.text(asked), nl=False)
        return
    _prepare(file, again=again)
    typer.echo(engine.submit(asked))
    typer.echo(f"next: zostudy workers {path}   # what they do", err=True)


def _prepare(file: "StudyFile", *, again: bool) -> None:
    """Add to the study what is to be tried again, so that workers find it.

    Raises:
        ConfigError: What failed cannot be tried again from this machine.
    """
    from zostudy.study.sweep import worker as sweep
    from zostudy.study.sweep.beginning import check_same_engine

    try:
        check_same_engine(file, again=again)
    except ConfigError as error:
        if again:
            raise
        typer.echo(f"note: what was lost too often is not tried again: {error}", err=True)
        return
    sweep.prepare(file, again=again)


def _plan(file: "StudyFile") -> "Plan":
    """What a study's points need."""
    from zostudy.study.planning.plan import Planner
    from zostudy.study.points import first
    from zostudy.study.sweep import grid
    from zostudy.study.sweep.random_baseline import first_draws

    known = first_draws(list(grid.of_study(file).values()))
    return Planner.of(file).plan(known or [first(file)])
