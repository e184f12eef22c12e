"""The command `cache`: what is kept between trials and studies, and taking it away."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import AsJson, app, print_json
from zostudy.errors import ConfigError, ZostudyError
from zostudy.metrics import PHASES

if TYPE_CHECKING:
    from zostudy.study.store.listing import Entry, Selection
    from zostudy.study.store.records import Store

cache = typer.Typer(help="List or clear results and checkpoints of phases.", no_args_is_help=True)
app.add_typer(cache, name="cache")

Folder = Annotated[Path, typer.Option(help="Folder of the cache (storage.folder of a study).")]
PhaseName = Annotated[
    str, typer.Option("--phase", help="Only this phase: prune, search, latency, evaluate.")
]
StudyName = Annotated[str, typer.Option("--study", help="Only what this study computed.")]
OlderThan = Annotated[
    str, typer.Option(metavar="TIME", help="Only what was not used for 45m, 12h, 30d.")
]

_DEFAULT = Path(".zostudy")


@cache.command("list")
def list_(
    folder: Folder = _DEFAULT,
    phase: PhaseName = "",
    study: StudyName = "",
    older_than: OlderThan = "",
    as_json: AsJson = False,
) -> None:
    """List what is kept: from which study and trial, its size, age and last use."""
    store, chosen = _chosen(folder, phase, study, older_than)
    total = sum(entry.bytes for entry in chosen)
    if as_json:
        entries = [entry.to_dict() for entry in chosen]
        print_json({"folder": str(store.folder), "bytes": total, "entries": entries})
        return
    _print(chosen, f"{folder}: {_summary(chosen)}")


@cache.command()
def clear(
    folder: Folder = _DEFAULT,
    phase: PhaseName = "",
    study: StudyName = "",
    older_than: OlderThan = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Take nothing away.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take results and checkpoints away, but those in use; what is needed is computed again."""
    from zostudy.study.store.listing import clear as take_away

    store, chosen = _chosen(folder, phase, study, older_than)
    try:
        gone, used = take_away(store, chosen, dry_run=dry_run)
    except OSError as error:
        raise ZostudyError(f"{folder}: cannot be cleared ({error})") from error
    if as_json:
        print_json(
            {
                "folder": str(store.folder),
                "dry_run": dry_run,
                "bytes": sum(entry.bytes for entry in gone),
                "removed": [entry.to_dict() for entry in gone],
                "in_use": [entry.to_dict() for entry in used],
            }
        )
        return
    done = "would be taken away" if dry_run else "taken away"
    _print(gone, f"{folder}: {done}: {_summary(gone)}")
    if used:
        typer.echo(f"in use, and left: {_summary(used)}")


def _chosen(folder: Path, phase: str, study: str, older_than: str) -> tuple["Store", list["Entry"]]:
    """The store, and what of it is meant.

    Raises:
        ConfigError: There is no such phase, or no such time.
    """
    from zostudy.study.store import listing as caches
    from zostudy.study.store.records import Store

    selection = _selection(phase, study, older_than)
    store = Store(folder)
    return store, selection.of(caches.entries(store))


def _selection(phase: str, study: str, older_than: str) -> "Selection":
    from zostudy.config.sizes import duration
    from zostudy.study.store.listing import Selection

    if phase not in ("", *PHASES):
        raise ConfigError(f"--phase: {phase!r} is no phase; allowed: {', '.join(PHASES)}")
    try:
        seconds = duration(older_than, "--older-than") if older_than else 0.0
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Selection(phase, study, seconds)


def _summary(entries: "Sequence[Entry]") -> str:
    from zostudy.config.sizes import shown_bytes

    count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    return f"{count}, {shown_bytes(sum(entry.bytes for entry in entries))}"


def _print(entries: "Sequence[Entry]", title: str) -> None:
    from rich.table import Table

    from zostudy.config.sizes import shown_bytes
    from zostudy.study.report import console

    screen, now = console.output(), time.time()
    if entries:
        table = Table()
        for heading in ("phase", "kind", "key", "study", "trial"):
            table.add_column(heading)
        for heading in ("size", "age", "last use"):
            table.add_column(heading, justify="right")
        for entry in entries:
            origin: dict[str, Any] = dict(entry.origin)
            ages = (_ago(now - entry.made), _ago(now - entry.used))
            names = (str(origin.get(name, "–")) for name in ("study", "trial"))
            size = shown_bytes(entry.bytes)
            table.add_row(entry.phase, entry.kind, entry.key[:12], *names, size, *ages)
        screen.print(table)
    screen.print(title, markup=False, soft_wrap=True)


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"
