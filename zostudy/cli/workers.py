"""The command of workers that join a study from wherever they are."""

import json
from typing import Annotated

import typer

from zostudy.cli.app import (
    Assignments,
    Device,
    SkipCheck,
    StudyPath,
    app,
    end_with,
    load_study,
    stopping,
)


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
