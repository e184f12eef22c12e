"""Commands about search spaces: space-statistics."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zostudy.cli.app import AsJson, Assignments, app, print_json
from zostudy.errors import ConfigError


@app.command("space-statistics")
def space_statistics(  # noqa: PLR0913  # one parameter an option
    space: Annotated[str, typer.Option(help="Search space.")],
    assignments: Assignments,
    table: Annotated[str, typer.Option(help="CSV with the accuracy of every architecture.")] = "",
    column: Annotated[str, typer.Option(help="Its column of accuracies, in percent.")] = "",
    predictor: Annotated[
        Path | None, typer.Option(help="In place of a table: what `predictor fit` has written.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=100, max=10_000_000, help="Architectures drawn for a predictor.")
    ] = 100_000,
    mask: Annotated[str, typer.Option(help="Mask source: random, zero_shot, …")] = "random",
    xi: Annotated[float, typer.Option(help="Level that is kept, ξ.")] = 0.5,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Seeds 0 to N − 1.")] = 20,
    coins: Annotated[
        int,
        typer.Option(
            min=0, max=100_000, help="Blind masks of the same size that each is compared with."
        ),
    ] = 199,
    output: Annotated[
        Path | None, typer.Option(help="Picture of the distributions: .png, .svg or .pdf.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what masks keep of a search space whose accuracies are known, or predicted.

    Further settings are those of a study file: --set prune.repeats=64, --set dataset.name=….
    """
    from zostudy.config import document, loading
    from zostudy.study.analysis import space_statistics as statistics
    from zostudy.study.pictures.space_picture import check_picture, distribution_figure, save
    from zostudy.study.report import console, progress
    from zostudy.study.report.space_table import print_statistics

    if bool(table) == (predictor is not None):
        raise ConfigError("space-statistics: needs either --table and --column, or --predictor")
    if output is not None:
        check_picture(output)
    evaluate = {"by": "table", "path": table, "column": column} if table else {}
    given = _study(space, {"source": mask, "xi": xi}, evaluate, seeds)
    changes = dict(document.assignment(text) for text in assignments)
    file = loading.from_document(document.override(given, changes))
    with progress.reporter(console.output(stderr=True)) as reporter:
        if predictor is not None:
            found = statistics.by_predictor(file, predictor, samples, reporter.report)
        else:
            found = statistics.by_table(file, coins, reporter.report)
    if output is not None:
        save(distribution_figure(found), output)
    if as_json:
        print_json(found)
    else:
        print_statistics(found, console.output())


def _study(
    space: str, prune: dict[str, Any], evaluate: dict[str, Any], seeds: int
) -> dict[str, Any]:
    """The study file whose masks are looked at."""
    return {
        "study": "space-statistics",
        "search_space": {"name": space},
        "prune": prune,
        "evaluate": evaluate,
        "sweep": {"seeds": list(range(seeds)), "objectives": []},
    }
