"""How a command ends: its exit code, and what is said where it could not do its work.

What is wrong with the input, or with the machine, is a line on stderr. Anything else is a bug: its
traceback goes into a file, and a line says where that is.
"""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import typer
from pydantic import ValidationError
from typer import _click

from zostudy.cli import terminal
from zostudy.cli.app import Terminated
from zostudy.errors import InputError, ZostudyError
from zostudy.redaction import redacted

#: Exit codes: wrong input; a bug (EX_SOFTWARE of sysexits.h); a reader that is gone, as of SIGPIPE.
INPUT, BUG, PIPE = 2, 70, 141
_LONGEST_LINE = 1000

#: What a value of an option must be, by pydantic's name of the mistake.
_WANTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "greater_than_equal": "a number from {ge} up",
    "less_than_equal": "a number up to {le}",
    "greater_than": "a number above {gt}",
    "less_than": "a number below {lt}",
    "finite_number": "a finite number",
}


def run(command: Callable[[], object]) -> int:
    """Run a command; its exit code.

    Args:
        command: The command line, parsed and called; gives its exit code or nothing.
    """
    try:
        code = command()
        terminal.flush()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BrokenPipeError:
        terminal.abandon()
        return PIPE
    except KeyboardInterrupt as error:
        _say("stopped")
        return 143 if isinstance(error, Terminated) else 130
    except Exception as error:  # noqa: BLE001  # whatever it is, it is said and not shown raw
        code = _said(error)
        terminal.abandon()
    return code if isinstance(code, int) else 0


def _said(error: Exception) -> int:
    """Say what is wrong; the exit code."""
    if isinstance(error, _click.exceptions.NoArgsIsHelpError):
        error.show()
        return INPUT
    if isinstance(error, _click.exceptions.ClickException):
        _say(f"error: {_usage(error)}")
        return INPUT
    if isinstance(error, ZostudyError):
        for line in str(error).splitlines():
            _say(f"error: {_shortened(redacted(line))}")
        return INPUT if isinstance(error, InputError) else 1
    if isinstance(error, OSError):
        _say(f"error: {_shortened(redacted(_refused(error)))}")
        return INPUT
    if isinstance(error, MemoryError):
        _say("error: this machine has not memory enough for what was asked; nothing was changed")
        return 1
    _say(_bug(error))
    return BUG


def _say(text: str) -> None:
    try:
        typer.echo(text, err=True)
    except OSError:  # nobody reads it
        terminal.abandon()


def _shortened(line: str) -> str:
    """A line of bearable length: a value in it may be of any."""
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


def _usage(error: _click.exceptions.ClickException) -> str:
    """What is wrong with the command line, and where help is."""
    context = getattr(error, "ctx", None)
    help_ = f"; see {context.command_path} --help" if context is not None else ""
    cause, parameter = error.__cause__, getattr(error, "param", None)
    if isinstance(cause, ValidationError) and parameter is not None:
        found = cause.errors(include_url=False)[0]
        wanted = _WANTED.get(found["type"], "another value").format(**found.get("ctx", {}))
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
        return f"{name}: {found['input']!r} is not allowed; allowed: {wanted}"
    text = " ".join(error.format_message().split()).rstrip(".")
    return _shortened(redacted(f"{text[:1].lower()}{text[1:]}{help_}"))


def _refused(error: OSError) -> str:
    """What the system refuses, and of which file."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    place = " → ".join(names) or "standard output or a file"
    return f"{place}: {error.strerror or error}"


def _bug(error: Exception) -> str:
    """One line on a bug: what it is, where the traceback is and what to do with it."""
    what = _shortened(redacted(" ".join(f"{type(error).__name__}: {error}".split())))
    text = f"error: zostudy has a bug ({what})"
    for folder in (Path(".zostudy"), Path(tempfile.gettempdir())):
        path = _written(error, folder)
        if path is not None:
            return f"{text}; its traceback is in {path}: please report it with that file"
    trace = redacted("".join(traceback.format_exception(error)))
    return f"{text}; please report it with what follows\n{trace}"


def _written(error: Exception, folder: Path) -> Path | None:
    """The file that a traceback was written to; nothing where the folder takes none."""
    name = time.strftime(f"bug-%Y%m%d-%H%M%S-{os.getpid()}.txt")
    lines = (
        f"command: {' '.join(sys.argv)}\nPython {sys.version}\n\n",
        *traceback.format_exception(error),
    )
    try:
        if not folder.is_dir():
            return None
        logs = folder / "logs" if folder.name == ".zostudy" else folder
        logs.mkdir(exist_ok=True)
        path = logs / name
        path.write_text(redacted("".join(lines)), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path
