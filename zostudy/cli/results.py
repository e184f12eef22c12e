"""Commands that use what a study found: results, evaluate, ui, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import (
    AsJson,
    Assignments,
    StudyPath,
    app,
    chosen_trial,
    load_study,
    print_json,
)
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.settings import StudyConfig
    from zostudy.study.delivery.registry import Registry


@app.command()
def results(  # noqa: PLR0913  # one parameter an option
    study: StudyPath,
    assignments: Assignments,
    sort: Annotated[str, typer.Option(metavar="METRIC", help="Points by it, better first.")] = "",
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="PATH=VALUE", help="Points with this value only; repeatable."
        ),
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="METRICS", help="Columns, such as test_accuracy,macs.")
    ] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, values as stored.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX (booktabs).")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the results of a study."""
    from zostudy.study.report import console, tables
    from zostudy.study.report.results import document

    if as_csv + as_latex + as_json > 1:
        raise ConfigError("--csv, --latex, --json: choose one")
    if columns and (as_csv or as_json):
        raise ConfigError("--columns: is for the table and --latex; --csv and --json have all")
    file = load_study(study, assignments)
    found = tables.filtered(document(file), conditions or [])
    found = tables.sorted_by(found, sort) if sort else found
    chosen = tables.chosen(found, [name.strip() for name in columns.split(",") if name.strip()])
    if as_json:
        print_json(found)
    elif as_csv:
        typer.echo(tables.as_csv(found), nl=False)
    elif as_latex:
        typer.echo(tables.as_latex(found, chosen), nl=False)
    else:
        console.print_results(found, console.output(), file.config.extensions, chosen)


@app.command()
def evaluate(
    study: StudyPath,
    genotype: Annotated[
        Path, typer.Argument(metavar="GENOTYPE", help="File with JSON or the space's notation.")
    ],
    assignments: Assignments,
    name: Annotated[str, typer.Option(help="Which genotype, where a file names several.")] = "",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the training.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a given genotype as a study's evaluation would, and measure it.

    Under torchrun (torchrun --nproc-per-node 2 -m zostudy evaluate …) processes share every batch.
    """
    from zostudy.runtime import process_group
    from zostudy.space.genotype import read

    file = load_study(study, assignments)
    config = file.config
    given = read(genotype, config.extensions, name=name, space=config.search_space.name)

    from zostudy.study.delivery import background
    from zostudy.study.report import console, progress
    from zostudy.study.tracking import journal
    from zostudy.study.trial.trial import Trials

    reporter = progress.reporter(console.output(stderr=True))
    with process_group(file.config.runtime) as device:
        trials = Trials(file, reporter.report, device)
        if not trials.leads:
            trials.follow(given, seed)
            return
        with background.for_study(file.config), reporter:
            outcome = trials.evaluate(given, seed)
    if as_json:
        known = journal.known_runs(Path(file.config.storage.folder))
        run_id = known.get(outcome.mlflow_run_id, outcome.mlflow_run_id)
        print_json({"seed": seed, "metrics": outcome.metrics, "mlflow_run_id": run_id})
        return
    for name, value in outcome.metrics.items():
        typer.echo(f"{name}: {value:.2f}" if name.endswith("accuracy") else f"{name}: {value:g}")


@app.command()
def ui(
    assignments: Assignments,
    study: Annotated[
        Path | None, typer.Argument(metavar="[STUDY]", help="Study whose tracking.uri is shown.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's page of all runs on 127.0.0.1."""
    from zostudy.study.delivery.mlflow_store import MlflowStore
    from zostudy.study.delivery.ui import run_ui

    page, uri = f"http://127.0.0.1:{port}", "default"
    if study:
        settings = load_study(study, assignments).config
        uri = settings.tracking.uri
        store = MlflowStore(uri, settings.experiment)
        store.settle()
        page = store.page(page)
    typer.echo(f"MLflow starts; open {page} (Ctrl-C ends it)", err=True)
    raise typer.Exit(run_ui(uri, port))


Conditions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="A trial of the best point that meets it on average over seeds, such as "
        "'macs<1e6'; may be repeated.",
        show_default=False,
    ),
]
FormatNames = Annotated[
    str, typer.Option("--format", metavar="NAMES", help="pt2, onnx, or both as pt2,onnx.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a bundle that is there already.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Also register it in the study's MLflow, as the next version of this model.",
        show_default=False,
    ),
]


@app.command()
def export(  # noqa: PLR0913  # options of a command, by name
    study: StudyPath,
    assignments: Assignments,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write, new or empty; else STUDY-export.", show_default=False),
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Trial number; else the best.")] = None,
    pick: Conditions = None,
    formats: FormatNames = "pt2",
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write the ONNX program quantized to int8.")
    ] = False,
    force: Force = False,
    register: ModelName = None,
) -> None:
    """Write a trial's network with all that its use needs, compared with it on all test pictures.

    onnx needs onnx, onnxscript and onnxruntime, which the extra `onnx` of zostudy installs.
    """
    from zostudy.study.bundle.folder import Destination
    from zostudy.study.bundle.formats import formats as formats_of
    from zostudy.study.report.picking import condition, picked
    from zostudy.study.report.results import document

    chosen_formats = formats_of(formats, int8=int8)
    if pick and trial is not None:
        raise ConfigError("--pick: is not allowed with --trial; allowed: one of them")
    conditions = [condition(text) for text in pick or ()]
    file = load_study(study, assignments)
    found = document(file)
    if conditions:
        trial = picked(found["trials"], conditions, file.config.sweep)
    chosen = chosen_trial(found, trial)
    registry = None if register is None else _registry(file.config, register, chosen)

    from zostudy.study.bundle.trial_export import export_trial
    from zostudy.study.report import console, progress

    folder = output or Path(f"{file.config.study}-export")
    destination = Destination(folder, chosen_formats, force)
    with progress.reporter(console.output(stderr=True)) as reporter:
        written = export_trial(file, chosen, destination, reporter.report)
    for path in written:
        typer.echo(path)
    if registry is not None:
        from zostudy.study.bundle import registering

        version = registering.register(folder, registry)
        typer.echo(f"registered: models:/{register}/{version}, alias champion", err=True)


def _registry(config: "StudyConfig", name: str, trial: dict[str, Any]) -> "Registry":
    """Where the bundle of a trial is registered.

    Raises:
        ConfigError: It cannot be.
    """
    from zostudy.study.delivery.registry import Registry

    return Registry(config.tracking.uri, config.experiment, name, trial["mlflow_run_id"])
