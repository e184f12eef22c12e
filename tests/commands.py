"""Commands of zostudy: in this process, or as users start them in one of their own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.patience import PATIENCE
from zostudy import cli, registry

ROOT = Path(__file__).parent.parent


class Done(NamedTuple):
    """How a command has ended."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, in which Python finds zostudy and the tests wherever it runs."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | variables


def here(folder: Path, *arguments: object) -> Done:
    """Run a command in a folder, in this process; its trials run in processes of their own."""
    before, out, err = signal.getsignal(signal.SIGTERM), _stream(), _stream()
    with pytest.MonkeyPatch.context() as patch, _forgotten(folder), contextlib.ExitStack() as into:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["zostudy", *map(str, arguments)])
        patch.setattr(sys, "path", [*sys.path])
        into.enter_context(contextlib.redirect_stdout(out))
        into.enter_context(contextlib.redirect_stderr(err))
        into.callback(signal.signal, signal.SIGTERM, before)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    printed = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Done(ended.value.code or 0, *printed)


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


@contextlib.contextmanager
def _forgotten(folder: Path) -> Iterator[None]:
    """Forget the extensions in a folder: another study may have others of the same name."""
    yield
    if not list(folder.glob("*.py")):
        return
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(f"{folder}/"):
            del sys.modules[name]
    registry.forget()


def line(*arguments: object) -> list[str]:
    """The command line of a process."""
    return [sys.executable, "-m", "zostudy", *map(str, arguments)]


def process(folder: Path, *arguments: object) -> Done:
    """Run a command in a folder, in a process of its own."""
    done = subprocess.run(
        line(*arguments), cwd=folder, env=environment(),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)
