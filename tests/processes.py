"""Processes that tests start: this Python, with this repository's modules."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: What starts `zostudy` as users have it.
ZOSTUDY = (sys.executable, "-m", "zostudy")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, in which Python finds zostudy and the tests wherever it runs."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | variables
