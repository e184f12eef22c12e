"""The command of workers that join a study from wherever they are."""

import json
from typing import Annotated

import typer

from zostudy.cli.app import (
    Assignments,
    Device,
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
) -> None:
    """Join a study: run its trials beside other workers, one at a time, until none is left."""
    given = {"storage.optuna": storage, "tracking.uri": tracking_uri}
    further = [f"{path}={json.dumps(url)}" for path, url in given.items() if url]
    file = load_study(study, [*assignments, *further], device)

    from zostudy.study.workers import trial_process

    trial_process.start_server()

    from zostudy.study.delivery import delivery
    from zostudy.study.report import console, progress
    from zostudy.study.sweep import sweep
    from zostudy.study.sweep.beginning import check_worker
    from zostudy.study.trial.trial import Trials
    from zostudy.study.workers import workers

    reporter = progress.reporter(console.output(stderr=True))
    check_worker(file)
    standing = sweep.standing(file)
    with stopping():
        trials = Trials(file, reporter.report, device)
        trials.check(list(standing.points))
        with delivery.for_study(file.config) as delivering, reporter:
            done = workers.run(file, [device], reporter, trials.known)
        delivering.end_orphans(file.config.study, lambda: sweep.running(file))
    end_with(len(done.failures))
