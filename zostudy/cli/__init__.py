"""The command line: parse, call, print. What is heavy is imported by the command that uses it."""

import logging
import os
import signal
import sys
import traceback
from types import FrameType, TracebackType
from typing import NoReturn

import typer

from zostudy.cli.app import Terminated, app
from zostudy.errors import InputError, ZostudyError
from zostudy.redaction import RedactingFormatter, redacted

# isort: split
# In the order of --help.
from zostudy.cli import studies

# isort: split
from zostudy.cli import workers

# isort: split
from zostudy.cli import outcomes

# isort: split
from zostudy.cli import spaces

# isort: split
from zostudy.cli import cache, upkeep

__all__ = ["app", "cache", "main", "outcomes", "spaces", "studies", "upkeep", "workers"]


def main() -> None:
    """Run the command line; expected errors are lines on stderr and an exit code."""
    # How long torch's threads spin for each other before they sleep: microseconds, not the default
    # milliseconds, which another busy process on the machine turns into a standstill.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signal.signal(signal.SIGTERM, _terminate)
    _show_no_password()
    try:
        app()
    except ZostudyError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {redacted(line)}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _show_no_password() -> None:
    """Logs and tracebacks go to stderr without the passwords that may be in them."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter())
    logging.getLogger().addHandler(handler)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    typer.echo(
        redacted("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False
    )


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise Terminated
