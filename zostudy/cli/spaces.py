"""Commands about search spaces: space-statistics."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zostudy.cli.app import AsJson, Assignments, app, print_json


@app.command("space-statistics")
def space_statistics(  # noqa: PLR0913  # one parameter an option
    space: Annotated[str, typer.Option(help="Search space.")],
    table: Annotated[str, typer.Option(help="CSV with the accuracy of every architecture.")],
    column: Annotated[str, typer.Option(help="Its column of accuracies, in percent.")],
    assignments: Assignments,
    mask: Annotated[str, typer.Option(help="Mask source: random, zero_shot, …")] = "random",
    xi: Annotated[float, typer.Option(help="Level that is kept, ξ.")] = 0.5,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Seeds 0 to N − 1.")] = 20,
    output: Annotated[
        Path | None, typer.Option(help="Picture of the distributions: .png, .svg or .pdf.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what masks keep of a search space whose accuracies are known.

    Further settings are those of a study file: --set prune.repeats=64, --set dataset.name=….
    """
    from zostudy.config import document, loading
    from zostudy.study.analysis.space_statistics import statistics
    from zostudy.study.pictures.space_picture import check_picture, distribution_figure, save
    from zostudy.study.report import console, progress
    from zostudy.study.report.space_table import print_statistics

    if output is not None:
        check_picture(output)
    given: dict[str, Any] = {
        "study": "space-statistics",
        "search_space": {"name": space},
        "prune": {"source": mask, "xi": xi},
        "evaluate": {"by": "table", "path": table, "column": column},
        "sweep": {"seeds": list(range(seeds)), "objectives": []},
    }
    changes = dict(document.assignment(text) for text in assignments)
    file = loading.from_document(document.override(given, changes))
    with progress.reporter(console.output(stderr=True)) as reporter:
        found = statistics(file, reporter.report)
    if output is not None:
        save(distribution_figure(found), output)
    if as_json:
        print_json(found)
    else:
        print_statistics(found, console.output())
