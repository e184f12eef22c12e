"""Commands that write, check, plan and run a study."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from zostudy.cli.workers import Launch, launch
from zostudy.config.sizes import counted
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile
    from zostudy.study.planning.plan import Plan
    from zostudy.study.points import Standing
    from zostudy.study.sweep.worker import SweepSummary


@app.command()
def validate(study: StudyPath, assignments: Assignments, as_json: AsJson = False) -> None:
    """Check a study file, every point of its sweep and the sizes of its data included."""
    from zostudy.study.planning.data_size import check_data
    from zostudy.study.points import Standing
    from zostudy.study.sweep import grid

    file = load_study(study, assignments)
    sweep = file.config.sweep
    known = tuple(grid.of_study(file).values())
    plan = Standing(known, {}, sweep.seeds, sweep.trials)
    check_data(file)
    if as_json:
        count = len(plan.searched) + sweep.trials
        print_json(
            {
                "study": file.config.study,
                "valid": True,
                "points": count,
                "seeds": list(sweep.seeds),
                "trials": plan.trials_left,
            }
        )
        return
    typer.echo(f"{study}: valid; study {file.config.study!r}, {counted(plan.trials_left, 'trial')}")


@app.command()
def schema() -> None:
    """Print the JSON schema of study files, for an editor."""
    from zostudy.config.schema import schema as study_schema

    print_json(study_schema())


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the study, or path of its file.")],
    dataset: Annotated[str, typer.Option(help="Data set of the study.")] = "digits",
) -> None:
    """Write a small study file to start from."""
    from zostudy import registry
    from zostudy.config import document, loading, template

    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(f"{name}.yaml")
    component = registry.find("dataset", dataset, "--dataset")
    text = template.text(path.stem, component)
    loading.from_document(document.parse(text))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path}: is there already; choose another name") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    typer.echo(f"wrote {path}; next: zostudy run {path}")


@app.command()
def plan(
    study: StudyPath,
    assignments: Assignments,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of a trial, such as 8GiB.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the data and points of a study, the memory it needs, what is done, what is missing."""
    from zostudy.study.planning import plan as plans
    from zostudy.study.points import first
    from zostudy.study.report import console, data_summary, plan_table
    from zostudy.study.sweep import standings
    from zostudy.study.sweep.random_baseline import first_draws

    if budget is not None:
        assignments = [*assignments, f"runtime.memory_budget={budget}"]
    file = load_study(study, assignments)
    standing = standings.standing(file)
    memory = plans.Planner.of(file).plan(first_draws(standing.points) or [first(file)])
    if as_json:
        data = [data_summary.document(dataset) for dataset in memory.datasets]
        predicted: dict[str, Any] = {"datasets": data, "configurations": plans.document(memory)}
        predicted |= {"notes": [*standing.notes, *memory.notes]} if memory.notes else {}
        print_json(_plan_document(file, standing) | predicted)
        return
    console.print_plan(file.config.study, standing, console.output())
    plan_table.print_plan(memory, console.output())


@app.command()
def run(  # noqa: PLR0913  # one parameter an option
    study: StudyPath,
    assignments: Assignments,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Trials to run at a time; 1, or cluster.workers."),
    ] = None,
    device: Device = "study",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try again what failed by itself.")
    ] = False,
    skip_check: SkipCheck = False,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Run again what another engine or type of device ran, kept apart."
        ),
    ] = False,
    on: Annotated[
        str,
        typer.Option("--on", metavar="ENGINE", help="Where: local, slurm or kubernetes."),
    ] = "local",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what a cluster would be told, and start nothing."),
    ] = False,
) -> None:
    """Run what is missing of a study, here or on a cluster; run again, it continues."""
    from zostudy.study.sweep import budget
    from zostudy.study.sweep.beginning import check_same_engine

    file = load_study(study, assignments, device)
    budget.check(file)
    if on != "local" or dry_run:
        if renew:
            raise ConfigError("--renew: is for the machine that runs the trials; leave out --on")
        further = [f"--set={text}" for text in assignments]
        further += [f"--device={device}"] * (device != "study") + ["--skip-check"] * skip_check
        launch(file, study, Launch(on, workers, tuple(further), dry_run), again=retry_failed)
        return
    check_same_engine(file, renew=renew, again=retry_failed)
    with stopping():
        failures = _run(file, Workers(workers or 1, device, skip_check), again=retry_failed)
    _print_outcome(file, study, assignments)
    end_with(failures)


@dataclass(frozen=True)
class Workers:
    """How a study is run.

    Attributes:
        count: Trials at a time.
        device: Their device; ``study`` for that of the study file.
        unchecked: Whether a new machine is used without a check.
    """

    count: int
    device: str
    unchecked: bool


def _run(file: "StudyFile", workers: Workers, *, again: bool) -> int:
    """Run what is missing; the number of trials that have failed."""
    from zostudy.study.report import console
    from zostudy.study.sweep import standings
    from zostudy.study.sweep.crashes import hopeless

    standing = standings.standing(file).reopened(own=again)
    progress = console.output(stderr=True)
    given_up = hopeless(standing, file.config.sweep)
    if given_up:
        typer.echo(f"stopped: {given_up}", err=True)
    elif standing.trials_left:
        console.print_plan(file.config.study, standing, progress)
        done = _run_missing(file, standing, workers, again=again)
        return max(len(done.failures), standings.standing(file).trials_failed)
    elif not standing.trials_failed:
        progress.print(f"study {file.config.study!r} is complete; nothing to run")
    _deliver_what_waits(file)
    return standing.trials_failed


def _deliver_what_waits(file: "StudyFile") -> None:
    """Deliver what MLflow did not have when the study was run."""
    from zostudy.study.tracking import runs

    config = file.config
    if runs.journals(file.folder, config.tracking.uri, config.experiment).pending():
        from zostudy.study.delivery import background

        with background.for_study(config):
            pass


def _run_missing(
    file: "StudyFile", standing: "Standing", how: Workers, *, again: bool
) -> "SweepSummary":
    from zostudy.study.workers import trial_process

    server = trial_process.start_server()

    from zostudy.runtime import crowding, spread
    from zostudy.study import points
    from zostudy.study.delivery import background
    from zostudy.study.machine import gate
    from zostudy.study.machine.check import SKIPPED
    from zostudy.study.report import console, plan_table, progress
    from zostudy.study.sweep import budget, standings, worker
    from zostudy.study.sweep.random_baseline import first_draws
    from zostudy.study.trial.trial import Trials
    from zostudy.study.workers import pool

    reporter = progress.reporter(console.output(stderr=True))
    trials = Trials(file, reporter.report, how.device)
    left = [p for p in standing.points if standing.left(p)] or [points.first(file)]
    trials.check(list(standing.points) or left)
    memory = trials.plan(first_draws(left) or left)
    plan_table.print_plan(memory, console.output(stderr=True))
    _refuse_what_cannot_fit(memory)
    settings = file.config.runtime
    if how.device != "study":
        settings = settings.model_copy(update={"device": how.device})
    if crowded := crowding(settings, how.count):
        typer.echo(crowded, err=True)
    devices = [how.device] * how.count
    if how.device == "study":
        devices = spread(file.config.runtime, how.count)
    machine = SKIPPED if how.unchecked else gate.require(server, file, devices, reporter.say)
    worker.prepare(file, again=again)
    with background.for_study(file.config) as delivering, reporter:
        done = pool.run(file, devices, reporter, trials.known, machine)
    delivering.end_orphans(file.config.study, lambda: standings.running(file))
    if done.hopeless:
        typer.echo(f"stopped: {done.hopeless}", err=True)
    if done.over:
        typer.echo(budget.ending(done.over, standings.standing(file)), err=True)
    return done


def _refuse_what_cannot_fit(memory: "Plan") -> None:
    """End before any compute where a phase is known to be above the budget.

    Raises:
        ConfigError: One is.
    """
    from zostudy.config.sizes import shown_bytes

    lines = [
        f"runtime.memory_budget: {shown_bytes(memory.budget)} is less than the "
        f"{shown_bytes(configuration.phases[advice.phase].peak_bytes)} that the {advice.phase} of "
        f"the point {configuration.point} needs; {advice}"
        for configuration, advice in memory.above(exact=True)
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _print_outcome(file: "StudyFile", path: Path, assignments: list[str]) -> None:
    """Print the results, where the runs are, and what to type next with the same overrides."""
    from zostudy.redaction import without_password
    from zostudy.study.report import console
    from zostudy.study.report.results import document
    from zostudy.study.tracking import runs

    found, stdout = document(file), console.output()
    console.print_results(found, stdout, file.config.extensions)
    uri = without_password(runs.resolved_uri(file.config.tracking.uri))
    which = "" if found["best"] else " --trial N"
    assignments = [without_password(text) for text in assignments]
    arguments = shlex.join([str(path), *(f"--set={text}" for text in assignments)])
    tracking_only = [text for text in assignments if text.startswith("tracking.")]
    shown = shlex.join([str(path), *(f"--set={text}" for text in tracking_only)])
    stdout.print(
        f"\nMLflow: experiment {file.config.experiment!r} in {uri}\n"
        f"next:   zostudy ui {shown}\n"
        f"        {_last_step(file, arguments, which)}",
        markup=False,
        soft_wrap=True,
    )


def _last_step(file: "StudyFile", arguments: str, which: str) -> str:
    """The command that writes a network, or trains one where a table has stood for training."""
    if not file.config.evaluate.evaluator.trains:
        return f"zostudy run {arguments} --set=evaluate.by=training  # trains what was found"
    return f"zostudy export {arguments} --output {file.config.study}-export{which}"


def _random_genotypes(standing: "Standing") -> dict[str, Any]:
    """Of the random genotypes beside the points, how many there are and how many are missing."""
    drawn = standing.baseline
    if not drawn:
        return {}
    count = sum(len(point.seeds_among(standing.seeds)) for point in drawn)
    missing = sum(len(standing.missing(point)) for point in drawn)
    return {"random_genotypes": {"trials": count, "missing": missing}}


def _plan_document(file: "StudyFile", standing: "Standing") -> dict[str, Any]:
    return {
        "study": file.config.study,
        "seeds": list(standing.seeds),
        "points": [
            {
                "params": dict(point.values),
                "coinciding": point.coinciding,
                "missing_seeds": list(standing.missing(point)),
            }
            for point in standing.searched
        ],
        **_random_genotypes(standing),
        "points_to_sample": standing.to_sample,
        "trials_to_run": standing.trials_left,
        "trials_failed": standing.trials_failed,
    } | ({"notes": list(standing.notes)} if standing.notes else {})
