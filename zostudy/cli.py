"""The command line: parse, call, print. What is heavy is imported by the command that uses it."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from zostudy.errors import ConfigError, InputError, ZostudyError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile
    from zostudy.study.plan import Plan
    from zostudy.study.points import Standing
    from zostudy.study.sweep import SweepSummary

app = typer.Typer(
    help="Studies of neural architecture search: prune, search, evaluate, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file (YAML).")]
Assignments = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a setting.",
        default_factory=list,
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a run as Ctrl-C does."""


def main() -> None:
    """Run the command line; expected errors are lines on stderr and an exit code."""
    # How long torch's threads spin for each other before they sleep: microseconds, not the default
    # milliseconds, which another busy process on the machine turns into a standstill.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except ZostudyError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise _Terminated


@app.command()
def validate(study: StudyPath, assignments: Assignments, as_json: AsJson = False) -> None:
    """Check a study file, every point of its sweep included."""
    from zostudy.study.points import Standing, grid

    file = _load(study, assignments)
    sweep = file.config.sweep
    known = tuple(grid(file)) if sweep.sampler.name == "grid" else ()
    plan = Standing(known, {}, sweep.seeds, sweep.trials)
    if as_json:
        count = len(known) + sweep.trials
        _print_json(
            {
                "study": file.config.study,
                "valid": True,
                "points": count,
                "seeds": list(sweep.seeds),
                "trials": count * len(sweep.seeds),
            }
        )
        return
    typer.echo(f"{study}: valid; study {file.config.study!r}, {plan.trials_left} trials")


@app.command()
def schema() -> None:
    """Print the JSON schema of study files, for an editor."""
    from zostudy.config.loading import schema as study_schema

    _print_json(study_schema())


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
    """Show the points of a study, the memory they need, what is done and what is missing."""
    from zostudy.study import console, plan_table, sweep
    from zostudy.study import plan as plans
    from zostudy.study.points import first

    if budget is not None:
        assignments = [*assignments, f"runtime.memory_budget={budget}"]
    file = _load(study, assignments)
    standing = sweep.standing(file)
    memory = plans.Planner.of(file).plan(list(standing.points) or [first(file)])
    if as_json:
        _print_json(_plan_document(file, standing) | {"configurations": plans.document(memory)})
        return
    console.print_plan(file.config.study, standing, console.output())
    plan_table.print_plan(memory, console.output())


@app.command()
def results(study: StudyPath, assignments: Assignments, as_json: AsJson = False) -> None:
    """Print the results of a study."""
    from zostudy.study import console
    from zostudy.study.results import document

    file = _load(study, assignments)
    found = document(file)
    if as_json:
        _print_json(found)
    else:
        console.print_results(found, console.output(), file.config.extensions)


@app.command()
def run(study: StudyPath, assignments: Assignments) -> None:
    """Run what is missing of a study; run again, it continues."""
    try:
        failures = _run(study, assignments)
    except KeyboardInterrupt as error:
        typer.echo("stopped; run the same command to continue", err=True)
        raise typer.Exit(143 if isinstance(error, _Terminated) else 130) from error
    if failures:
        typer.echo(f"{failures} trials failed; run the same command to try them again", err=True)
        raise typer.Exit(1)


@app.command()
def evaluate(
    study: StudyPath,
    genotype: Annotated[Path, typer.Argument(metavar="GENOTYPE", help="JSON or tuple notation.")],
    assignments: Assignments,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a given genotype as a study's evaluation would, and measure it."""
    from zostudy.space.genotype import read

    file = _load(study, assignments)
    given = read(genotype, file.config.extensions)

    from zostudy.study import console
    from zostudy.study.trial import Trials

    with console.reporter(console.output(stderr=True)) as reporter:
        outcome = Trials(file, reporter.report).evaluate(given, seed)
    if as_json:
        _print_json(
            {"seed": seed, "metrics": outcome.metrics, "mlflow_run_id": outcome.mlflow_run_id}
        )
        return
    for name, value in outcome.metrics.items():
        typer.echo(f"{name}: {value:.2f}" if name.endswith("accuracy") else f"{name}: {value:g}")


@app.command()
def ui(
    assignments: Assignments,
    study: Annotated[
        Path | None, typer.Argument(metavar="[STUDY]", help="Study whose tracking.uri is shown.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's page of all runs on 127.0.0.1."""
    from zostudy.study import tracking

    page, uri = f"http://127.0.0.1:{port}", "default"
    if study:
        settings = _load(study, assignments).config
        uri = settings.tracking.uri
        page = tracking.Tracker(uri, settings.experiment).page(page)
    typer.echo(f"MLflow starts; open {page} (Ctrl-C ends it)", err=True)
    raise typer.Exit(tracking.run_ui(uri, port))


@app.command()
def export(
    study: StudyPath,
    output: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    assignments: Assignments,
    trial: Annotated[int | None, typer.Option(help="Trial number; else the best.")] = None,
) -> None:
    """Write a trial's network with all that its use needs."""
    from zostudy.study.results import document

    file = _load(study, assignments)
    chosen = _chosen_trial(document(file), trial)

    from zostudy.study import console
    from zostudy.study.trial import export_trial

    with console.reporter(console.output(stderr=True)) as reporter:
        written = export_trial(file, chosen, output, reporter.report)
    for path in written:
        typer.echo(path)


def _run(path: Path, assignments: list[str]) -> int:
    """Run a study and print what came of it; the number of trials that failed."""
    from zostudy.study import console, sweep

    file = _load(path, assignments)
    standing = sweep.standing(file)
    progress = console.output(stderr=True)
    failures = 0
    if standing.trials_left:
        console.print_plan(file.config.study, standing, progress)
        failures = len(_run_missing(file, standing).failures)
    else:
        progress.print(f"study {file.config.study!r} is complete; nothing to run")
    _print_outcome(file, path, assignments)
    return failures


def _run_missing(file: "StudyFile", standing: "Standing") -> "SweepSummary":
    from zostudy.study import console, plan_table, points, sweep
    from zostudy.study.store import Store
    from zostudy.study.trial import Trials

    reporter = console.reporter(console.output(stderr=True))
    trials = Trials(file, reporter.report)
    missing = [p for p in standing.points if standing.missing(p)] or [points.first(file)]
    trials.check(list(standing.points) or missing)
    memory = trials.plan(missing)
    plan_table.print_plan(memory, console.output(stderr=True))
    _refuse_what_cannot_fit(memory)
    with Store(Path(file.config.storage.folder)).lock(file.config.study), reporter:
        return sweep.run(file, trials, reporter.notice)


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
    from zostudy.study import console, tracking
    from zostudy.study.results import document

    found, stdout = document(file), console.output()
    console.print_results(found, stdout, file.config.extensions)
    uri = tracking.without_password(tracking.resolved_uri(file.config.tracking.uri))
    which = "" if found["best"] else " --trial N"
    arguments = shlex.join([str(path), *(f"--set={text}" for text in assignments)])
    tracking_only = [text for text in assignments if text.startswith("tracking.")]
    shown = shlex.join([str(path), *(f"--set={text}" for text in tracking_only)])
    stdout.print(
        f"\nMLflow: experiment {file.config.experiment!r} in {uri}\n"
        f"next:   zostudy ui {shown}\n"
        f"        zostudy export {arguments} --output {file.config.study}-export{which}",
        markup=False,
        soft_wrap=True,
    )


def _load(path: Path, assignments: list[str]) -> "StudyFile":
    from zostudy.config.loading import load

    sys.path.append(str(path.resolve().parent))  # extensions may lie beside the study file
    file = load(path, tuple(assignments))
    if "fit" in file.batch_sizes:
        from zostudy.study.plan import fitted

        return fitted(file)
    return file


def _print_json(document: Any) -> None:  # noqa: ANN401  # any JSON value
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


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
            for point in standing.points
        ],
        "points_to_sample": standing.to_sample,
        "trials_to_run": standing.trials_left,
    }


def _chosen_trial(document: dict[str, Any], number: int | None) -> dict[str, Any]:
    """The trial of that number, or the best.

    Raises:
        ConfigError: There is no such complete trial.
    """
    if number is None:
        if document["best"] is None:
            raise ConfigError(
                f"study {document['study']!r}: no best trial (no complete point, or no "
                "objectives); choose one with --trial N, see `zostudy results STUDY --json`"
            )
        number = document["best"]["number"]
    complete = {t["number"]: t for t in document["trials"] if t["state"] == "complete"}
    if number not in complete:
        allowed = ", ".join(map(str, complete)) or "none"
        raise ConfigError(f"--trial: {number} is no complete trial; complete: {allowed}")
    chosen: dict[str, Any] = complete[number]
    return chosen
