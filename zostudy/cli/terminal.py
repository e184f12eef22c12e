"""Standard streams that take every text, whatever their encoding, open or closed."""

import codecs
import contextlib
import io
import os
import sys

#: What stands for a character that a terminal's encoding lacks.
_PLAIN = str.maketrans(
    dict(pair.split(" ") for pair in (
        "× x", "… ...", "– -", "— -", "− -", "→ ->", "≤ <=", "≥ >=", "• *", "² ^2",
        "α alpha", "β beta", "ξ xi", "λ lambda", "σ sigma", "ρ rho", "τ tau", "γ gamma",
        "╸ -", "╺ -", "━ -", "─ -", "│ |",
    ))
)  # fmt: skip
_HANDLER = "zostudy.plain"


def prepare() -> None:
    """Open what is closed, and let no character that an encoding lacks end the command."""
    _open_closed()
    codecs.register_error(_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What to write for characters that cannot be encoded: words for them, or their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    if found == "±":  # in tables: as wide as with the space after it
        return "+-", error.end + (error.object[error.end : error.end + 1] == " ")
    text = found.translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def takes_all() -> bool:
    """Whether standard output can encode every character."""
    return str(getattr(sys.stdout, "encoding", "utf-8")).lower().replace("-", "") in (
        "utf8",
        "utf16",
        "utf32",
    )


def _open_closed() -> None:
    """Put the null device where a standard stream was closed, so that no file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open as long as the process


def flush() -> None:
    """Write what standard output still holds.

    Raises:
        OSError: It cannot be written; what reads it is gone, or its disk is full.
    """
    sys.stdout.flush()


def abandon() -> None:
    """Drop what the streams still hold and nobody takes, of which Python would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
