"""The command line: parse, call, print. What is heavy is imported by the command that uses it."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from zostudy import host
from zostudy.cli import ending, terminal
from zostudy.cli.app import Terminated, app
from zostudy.redaction import show_no_password

# isort: split
# In the order of --help.
from zostudy.cli import studies

# isort: split
from zostudy.cli import workers

# isort: split
from zostudy.cli import results

# isort: split
from zostudy.cli import reproduce

# isort: split
from zostudy.cli import report

# isort: split
from zostudy.cli import compare

# isort: split
from zostudy.cli import bundles

# isort: split
from zostudy.cli import spaces

# isort: split
from zostudy.cli import predictors

# isort: split
from zostudy.cli import cache, doctor

__all__ = [
    "app",
    "bundles",
    "cache",
    "compare",
    "doctor",
    "main",
    "predictors",
    "report",
    "reproduce",
    "results",
    "spaces",
    "studies",
    "workers",
]


def main() -> None:
    """Run the command line; expected errors are lines on stderr and an exit code."""
    host.wait_briefly(os.environ)
    signal.signal(signal.SIGTERM, _terminate)
    terminal.prepare()
    show_no_password()
    sys.exit(ending.run(lambda: app(standalone_mode=False)))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # schedulers send it to the shell and to us
    raise Terminated
