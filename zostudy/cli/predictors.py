"""The command `predictor`: accuracies of architectures, predicted from those of others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import AsJson, app, print_json
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.predictors.predictor import Examples, Predictor

predictor = typer.Typer(
    help="Predict accuracies from those of other architectures.", no_args_is_help=True
)
app.add_typer(predictor, name="predictor")

TablePath = Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, an architecture a row.")]
PredictorPath = Annotated[Path, typer.Argument(metavar="PREDICTOR", help="What fit has written.")]
Column = Annotated[str, typer.Option(help="Its column of accuracies, in percent.")]
Architectures = Annotated[
    str,
    typer.Option(
        "--architecture-column",
        help="Its column of architectures, or one for each cell type: normal,reduce.",
    ),
]
_ARCHITECTURES = "ArchitectureString"


@predictor.command()
def fit(  # noqa: PLR0913  # one parameter an option
    table: TablePath,
    space: Annotated[str, typer.Option(help="Search space.")],
    column: Column,
    features: Annotated[
        list[str],
        typer.Option(
            "--feature", help="Column of numbers, as of a zero-cost proxy.", default_factory=list
        ),
    ],
    encodings: Annotated[
        list[str],
        typer.Option("--encoding", help="adjacency, graph or paths.", default_factory=list),
    ],
    models: Annotated[
        list[str],
        typer.Option("--model", help="A model to choose from; all if none.", default_factory=list),
    ],
    architecture_column: Architectures = _ARCHITECTURES,
    rows: Annotated[int, typer.Option(min=0, help="Random rows to fit on; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 8, help="Seed.")] = 0,
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("predictor.json"),
    as_json: AsJson = False,
) -> None:
    """Fit a predictor; the blend of models is chosen by nested cross-validation."""
    from zostudy.predictors import storage
    from zostudy.predictors.encodings import DEFAULT
    from zostudy.predictors.models import MODELS
    from zostudy.predictors.predictor import Predictor, Settings
    from zostudy.stage import Progress
    from zostudy.study.disk.whole_files import write_whole
    from zostudy.study.report import console, progress

    settings = Settings(tuple(encodings) or DEFAULT, tuple(models) or tuple(MODELS), seed=seed)
    storage.check(settings)
    if not output.resolve().parent.is_dir():
        raise ConfigError(f"--output: {str(output.parent)!r} is no folder")
    examples = _read(table, space, architecture_column, column, tuple(features))
    with progress.reporter(console.output(stderr=True)) as reporter:
        fitted = Predictor.fit(
            _some(examples, rows, seed),
            settings,
            lambda done, total: reporter.report(Progress("fit", done, total)),
        )
    write_whole(output, storage.written(fitted))
    _say(output, fitted, as_json=as_json)


def _say(output: Path, fitted: "Predictor", *, as_json: bool) -> None:
    """Print what was fitted."""
    weights, count = dict(fitted.blend.weights), len(fitted.examples.genotypes)
    if as_json:
        found = {"architectures": count, "weights": weights, "kendall_tau": fitted.tau}
        print_json({"predictor": str(output)} | found)
        return
    blend = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    typer.echo(
        f"{output}: fitted on {count:,} architectures ({blend}); Kendall's τ in nested "
        f"cross-validation {fitted.tau:.3f}"
    )


def _some(examples: "Examples", rows: int, seed: int) -> "Examples":
    """Random examples, or all.

    Raises:
        ConfigError: There are fewer.
    """
    import numpy as np

    count = len(examples.genotypes)
    if rows > count:
        raise ConfigError(f"--rows: {rows} is not allowed; the table has {count}")
    order = np.random.default_rng(seed).permutation(count)
    return examples.some(order[:rows]) if rows else examples


@predictor.command()
def evaluate(
    path: PredictorPath,
    table: TablePath,
    column: Column,
    architecture_column: Architectures = _ARCHITECTURES,
    as_json: AsJson = False,
) -> None:
    """Compare with true accuracies of architectures that the predictor was not fitted on."""
    import numpy as np
    from scipy.stats import kendalltau, spearmanr

    fitted, examples = _both(path, table, architecture_column, column)
    seen = set(fitted.examples.genotypes)
    examples = examples.some([i for i, g in enumerate(examples.genotypes) if g not in seen])
    truth = examples.accuracies
    if len(truth) < 2:
        raise ConfigError(f"{table}: holds {len(truth)} architectures that are new; needs 2")
    found = fitted(examples.genotypes, examples.columns)
    figures: dict[str, Any] = {
        "architectures": len(truth),
        "kendall_tau": float(kendalltau(found.scores, truth).statistic),
        "spearman": float(spearmanr(found.scores, truth).statistic),
        "mean_absolute_error": float(np.abs(found.accuracies - truth).mean()),
        "coverage_90": float(np.mean((found.low <= truth) & (truth <= found.high))),
    }
    if as_json:
        print_json(figures)
        return
    typer.echo(
        f"{len(truth):,} architectures: Kendall's τ {figures['kendall_tau']:.3f}, Spearman's ρ "
        f"{figures['spearman']:.3f}, mean error {figures['mean_absolute_error']:.2f} points; "
        f"90 % intervals hold {figures['coverage_90']:.1%}"
    )


@predictor.command()
def predict(
    path: PredictorPath,
    table: TablePath,
    architecture_column: Architectures = _ARCHITECTURES,
    as_json: AsJson = False,
) -> None:
    """Print the predicted accuracy and its 90 % interval for every row of a table."""
    fitted, examples = _both(path, table, architecture_column, "")
    found = fitted(examples.genotypes, examples.columns)
    rows = zip(
        (genotype.to_notation() for genotype in examples.genotypes),
        *(values.tolist() for values in (found.accuracies, found.low, found.high)),
        strict=True,
    )
    names = ("architecture", "accuracy", "low", "high")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    for text, *numbers in rows:
        typer.echo(f"{numbers[0]:.2f} ({numbers[1]:.2f} to {numbers[2]:.2f})  {text}")


def _both(
    path: Path, table: Path, architecture_column: str, column: str
) -> tuple["Predictor", "Examples"]:
    """The predictor, and the architectures of a table with the columns that it reads."""
    from zostudy.predictors import storage

    fitted = storage.read(path)
    space, names = fitted.examples.space.name, fitted.examples.names
    return fitted, _read(table, space, architecture_column, column, names)


def _read(
    table: Path, space: str, architecture_column: str, column: str, features: tuple[str, ...]
) -> "Examples":
    from zostudy.predictors.examples import Source, read
    from zostudy.space.search_space import search_space

    return read(Source(str(table), architecture_column, column, features), search_space(space))
