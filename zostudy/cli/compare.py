"""The command that sets studies side by side."""

from pathlib import Path
from typing import Annotated

import typer

from zostudy.cli.app import AsJson, Assignments, app, load_study, print_json
from zostudy.errors import ConfigError


@app.command()
def compare(
    studies: Annotated[
        list[Path], typer.Argument(metavar="STUDY STUDY…", help="Study files (YAML).")
    ],
    assignments: Assignments,
    metric: Annotated[
        str, typer.Option(metavar="METRIC", help="What is compared; else the first objective.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Set the points that studies share side by side, and say which differences are noise."""
    from zostudy.study.analysis.across_studies import Study, compared
    from zostudy.study.report import console, side_by_side
    from zostudy.study.report.results import document

    if len(studies) < 2:
        raise ConfigError(f"compare: {studies[0]} is one study; needs two or more")
    files = [load_study(path, assignments) for path in studies]
    stores = [(f.config.study, f.config.storage.optuna) for f in files]
    for index, store in enumerate(stores):
        if store in stores[:index]:
            raise ConfigError(
                f"compare: {studies[index]} is the study {store[0]!r} in {store[1]} once more; "
                "needs different studies"
            )
    names = [file.config.study for file in files]
    told = [
        f"{name} ({path})" if names.count(name) > 1 else name
        for name, path in zip(names, studies, strict=True)
    ]
    found = [Study(name, file, document(file)) for name, file in zip(told, files, strict=True)]
    comparison = compared(found)
    chosen = side_by_side.chosen(comparison, found, metric)
    if as_json:
        print_json(side_by_side.document(comparison, chosen))
        return
    side_by_side.show(comparison, chosen, console.output())
