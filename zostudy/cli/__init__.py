"""The command line: parse, call, print. What is heavy is imported by the command that uses it."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from zostudy import host
from zostudy.cli.app import Terminated, app
from zostudy.errors import InputError, ZostudyError
from zostudy.redaction import redacted, show_no_password

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
    host.wait_briefly(os.environ)
    signal.signal(signal.SIGTERM, _terminate)
    show_no_password()
    try:
        app()
    except ZostudyError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {_shortened(redacted(line))}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _shortened(line: str) -> str:
    """A line of bearable length: a value in it may be of any."""
    most = 1000
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise Terminated
