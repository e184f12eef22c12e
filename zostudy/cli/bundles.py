"""Commands that use a bundle: predict, latency, serve."""

import contextlib
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import AsJson, app, print_json
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.study.bundle.reading import Answers

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that export wrote.")]
ProgramName = Annotated[
    str,
    typer.Option(
        "--program", metavar="FILE", help="Program of the bundle, such as model-int8.onnx."
    ),
]


@app.command()
def predict(
    bundle: BundlePath,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURES...", help="Picture files.")],
    program: ProgramName = "",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """Classify pictures with a bundle; exit code 1 if one of them cannot be read."""
    from zostudy.study.bundle import reading

    if as_json and as_csv:
        raise ConfigError("--csv: is not allowed with --json; allowed: one of them")
    found = reading.answers(bundle, pictures, program)
    if as_json:
        print_json(found.document())
    elif as_csv:
        _print_csv(found)
    else:
        _print_table(found)
    for path, reason in found.unreadable.items():
        typer.echo(f"{path}: {reason}", err=True)
    if found.unreadable:
        raise typer.Exit(1)


def _print_csv(found: "Answers") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["picture", "label", "probability", *found.labels])
    for row in found.rows():
        chances = [f"{chance:.6f}" for chance in row.probabilities]
        writer.writerow([row.picture, row.label, f"{row.probability:.6f}", *chances])


def _print_table(found: "Answers") -> None:
    from rich.table import Table

    from zostudy.study.report import console

    table = Table("picture", "class", "%", "second", "%")
    for row in found.rows():
        second, chance = row.second
        cells = (f"{100 * row.probability:.1f}", second, f"{100 * chance:.1f}")
        table.add_row(str(row.picture), row.label, *cells)
    if table.rows:
        console.output().print(table, markup=False)


@app.command()
def latency(
    bundle: BundlePath,
    batch: Annotated[str, typer.Option(help="Batch sizes, such as 1,8,64.")] = "1,8,64",
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="Threads of the runtime; 0: all that may be used.")
    ] = 0,
    warmup: Annotated[int, typer.Option(min=0, max=10_000, help="Calls before timing.")] = 5,
    runs: Annotated[int, typer.Option(min=2, max=100_000, help="Timed calls.")] = 50,
    program: ProgramName = "",
    as_json: AsJson = False,
) -> None:
    """Measure how long the programs of a bundle take on this machine, by runtime and batch size."""
    from zostudy import host
    from zostudy.study.bundle import latency as measuring
    from zostudy.study.bundle import reading

    protocol = measuring.Protocol(_sizes(batch), threads or host.processors(), warmup, runs)
    programs, shape = reading.programs(bundle, program), reading.shape(bundle)
    found = measuring.measured(bundle, programs, shape, protocol)
    machine = measuring.hardware()
    if as_json:
        print_json({"hardware": machine, "measured": [row.document() for row in found]})
        return
    _print_latency([row.document() for row in found], machine)


@app.command()
def serve(
    bundle: BundlePath,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = 8000,
    host: Annotated[str, typer.Option(help="Name or address to listen on.")] = "127.0.0.1",
    program: ProgramName = "",
) -> None:
    """Serve a bundle: a page to drop a picture on, and POST /predict, which answers with JSON."""
    from zostudy.study.bundle.serving import Server, Service

    with Server(Service(bundle, program), host, port) as server:
        typer.echo(f"{bundle}: open {server.url} (Ctrl-C ends it)", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _print_latency(rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    from rich.table import Table

    from zostudy.study.report import console

    table = Table("program", "runtime", "batch", "threads", "median ms", "95 % ms")
    for row in rows:
        names = ("program", "runtime", "batch", "threads")
        times = (f"{row['median_ms']:.2f}", f"{row['p95_ms']:.2f}")
        table.add_row(*(str(row[name]) for name in names), *times)
    output = console.output()
    output.print(table, markup=False)
    used = f"{machine['usable_processors']} processors may be used; {machine['platform']}"
    output.print(f"{rows[0]['runs']} calls each on {machine['processor']}; {used}", markup=False)


def _sizes(text: str) -> tuple[int, ...]:
    """Batch sizes from text.

    Raises:
        ConfigError: One is no number from 1 to 4096.
    """
    for part in text.split(","):
        if not (part.strip().isdecimal() and 1 <= int(part) <= 4096):
            raise ConfigError(f"--batch: {part!r} is no batch size; allowed: 1 to 4096")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))
