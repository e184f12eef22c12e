"""What all commands share: the application, its arguments, reading a study file, printing JSON."""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli import terminal
from zostudy.config.sizes import counted
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile

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


def _device(name: str) -> str:
    """The word for a device, or ``study``.

    Raises:
        ConfigError: It is neither.
    """
    from zostudy.config.names import DEVICE, DEVICE_ALLOWED

    if name != "study" and not re.fullmatch(DEVICE, name):
        raise ConfigError(f"--device: {name!r} is not allowed; allowed: study, or {DEVICE_ALLOWED}")
    return name


Device = Annotated[
    str,
    typer.Option(
        metavar="DEV",
        help="auto, cpu, cuda or cuda:N; study: that of the study file.",
        callback=_device,
    ),
]
SkipCheck = Annotated[
    bool,
    typer.Option("--skip-check", help="Do not compare operations with float64 on a new machine."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a run as Ctrl-C does."""


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """End the command with the exit code of an interrupt if there is one.

    Raises:
        typer.Exit: There was one.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("stopped; run the same command to continue", err=True)
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from error


def end_with(failures: int) -> None:
    """End a command that ran trials; with exit code 1 if any failed.

    Raises:
        typer.Exit: Some failed.
    """
    if failures:
        them = "it" if failures == 1 else "them"
        text = f"{counted(failures, 'trial')} failed; run --retry-failed tries {them} again"
        typer.echo(text, err=True)
        raise typer.Exit(1)


def load_study(path: Path, assignments: list[str], device: str = "") -> "StudyFile":
    """The study file with its overrides; extensions may lie beside it.

    Args:
        path: The file.
        assignments: Overrides.
        device: The device of its trials, ``study`` for that of the study file; empty where none is
            run.

    Raises:
        InputError: The file, or an override, is not right.
    """
    from zostudy.config.loading import load
    from zostudy.study.identity.today import Today

    sys.path.append(str(path.resolve().parent))  # extensions may lie beside the study file
    file = load(path, tuple(assignments))
    file = replace(file, made_of=Today(file.folder, device))
    if "fit" in file.batch_sizes:
        from zostudy.study.planning.plan import fitted

        return fitted(file)
    return file


def chosen_trial(document: dict[str, Any], number: int | None) -> dict[str, Any]:
    """The trial of that number, or the best.

    Raises:
        ConfigError: There is no such complete trial.
    """
    if number is None:
        if document["best"] is None:
            raise ConfigError(
                f"study {document['study']!r}: no best trial (no complete point, no objectives, or "
                "several on the Pareto front); choose one with --trial N, see `zostudy results`"
            )
        number = document["best"]["number"]
    trials = [*document["trials"], *document.get("random_baseline", {}).get("trials", ())]
    complete = {t["number"]: t for t in trials if t["state"] == "complete"}
    if number not in complete:
        allowed = ", ".join(map(str, complete)) or "none"
        for apart, note in zip(document.get("apart", ()), document.get("notes", ()), strict=False):
            if number in apart["trials"]:
                raise ConfigError(f"--trial: {note}; trials that count: {allowed}")
        others = [t for t in trials if t["number"] == number]
        why = f" ({others[0]['state']}: {others[0].get('reason', '')})" if others else ""
        raise ConfigError(f"--trial: {number} is no complete trial{why}; complete: {allowed}")
    chosen: dict[str, Any] = complete[number]
    spread = [point for point in document["points"] if point["params"] == chosen["params"]]
    return chosen | ({"spread": {k: spread[0][k] for k in ("n", "metrics")}} if spread else {})


def print_json(document: Any) -> None:  # noqa: ANN401  # any JSON value
    """Print a JSON document on stdout, and nothing else."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=not terminal.takes_all()))
