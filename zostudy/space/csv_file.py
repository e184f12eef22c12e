"""CSV files with a row for each architecture, as text; errors name file, line and value."""

import csv
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from zostudy.errors import ArchitectureError, ConfigError, DataError
from zostudy.options import nearest, shown
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace

#: Bytes of the largest table that is read.
_MOST_BYTES = 2**30

#: How files begin that are often taken for CSV.
_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed (gzip)",
    b"BZh": "compressed (bzip2)",
    b"\xfd7zXZ": "compressed (xz)",
    b"PK\x03\x04": "a ZIP archive or spreadsheet",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_AT_COMMAS = "; fields that hold a comma need quotes, and decimals a point"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|nan|inf(inity)?|-inf", re.ASCII | re.I)


def content(path: str, place: str, hint: str = "") -> bytes:
    """The bytes of a file that may be CSV.

    Args:
        path: The file.
        place: What named it, for messages.
        hint: Said after that it cannot be read.

    Raises:
        ConfigError: It cannot be read.
        DataError: It is too large, or of another format.
    """
    try:
        with Path(path).open("rb") as file:
            found = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{place}: {path!r} cannot be read ({error.strerror}){hint and '; '}{hint}"
        ) from error
    if len(found) > _MOST_BYTES:
        raise DataError(f"{path}: is larger than {_MOST_BYTES:,} bytes; is it a table?")
    for mark, what in _OTHER_FORMATS.items():
        if found.startswith(mark):
            raise DataError(f"{path}: is {what} and no CSV; needs CSV text in UTF-8")
    return found


def rows(
    path: str, content: bytes, check_header: Callable[[list[str]], None], needed: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and fields of each row; empty lines are left out.

    Args:
        path: What the file is called in messages.
        content: Its bytes.
        check_header: Raises where the header is not right, before any row is read.
        needed: What a file needs, said where it is empty.

    Raises:
        DataError: It is no CSV text in UTF-8, or a row has too many or too few fields.
    """
    lines = csv.reader(io.StringIO(_text(path, content), newline=""), strict=True)
    header: list[str] = []
    try:
        for fields in lines:
            if not header:
                header = fields
                check_header(header)
            elif len(fields) != len(header) and fields:
                raise DataError(
                    f"{path}:{lines.line_num}: {len(fields)} fields; "
                    f"the header has {len(header)}{_AT_COMMAS if len(fields) > len(header) else ''}"
                )
            elif fields:  # else an empty line
                yield lines.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: is no CSV ({error})") from error
    if not header:
        raise DataError(f"{path}: is empty; needs {needed}")


def _text(path: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise DataError(
            f"{path}: is no text in UTF-8 (byte 0x{byte:02x} in line {line})"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: holds a NUL character, and is no text")
    return text


def records(
    path: str, content: bytes, columns: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and fields of each row of a file with an architecture a row.

    Args:
        path: The file, for messages.
        content: Its bytes.
        columns: The columns that it must have once, by what named them.

    Raises:
        ConfigError: The header lacks one of the columns.
        DataError: The file is no CSV in UTF-8, or is empty.
    """
    check = functools.partial(_check_columns, path, columns)
    return rows(path, content, check, "a header and a row an architecture")


def _check_columns(path: str, columns: Mapping[str, str], header: list[str]) -> None:
    for place, column in columns.items():
        if header.count(column) != 1:
            times = "no column" if column not in header else f"{header.count(column)} columns"
            raise ConfigError(
                f"{place}: {path!r} has {times} {shown(column)}{_known_columns(column, header)}"
            )


def _known_columns(column: str, header: list[str]) -> str:
    """What the header has, or how it seems to be written."""
    if column in header:
        return "; needs one"
    if other := other_separator(header):
        return f"; its fields are separated by {other}, and need commas"
    names = ", ".join(header)
    return nearest(column, header) or f"; columns: {names[:300]}{'…' if len(names) > 300 else ''}"


def other_separator(header: list[str]) -> str:
    """What separates the fields of a header that seems to be one field, if it is no comma."""
    if len(header) > 1:
        return ""
    return next((name for mark, name in _SEPARATORS.items() if mark in header[0]), "")


def architecture(
    place: str,
    column: str,
    text: str,
    space: SearchSpace,
    parse: Callable[[str, SearchSpace], Genotype] = genotypes.parse,
) -> Genotype:
    """The architecture that a field holds.

    Args:
        place: File and line, for messages.
        column: The column.
        text: What stands there.
        space: The search space.
        parse: Reads it.

    Raises:
        DataError: The text is no architecture of the space.
    """
    try:
        return parse(text, space)
    except ArchitectureError as error:
        raise DataError(
            f"{place}: {column} {shown(text)} is no architecture of {space.name!r} ({error})"
        ) from error


def percent(place: str, column: str, text: str) -> float:
    """A number from 0 to 100.

    Raises:
        DataError: The text is none.
    """
    value = number(place, column, text, "0 to 100")
    if not 0 <= value <= 100:
        raise DataError(f"{place}: {column} {text!r} is not allowed; allowed: 0 to 100")
    return value


def number(place: str, column: str, text: str, allowed: str) -> float:
    """A number; NaN and infinity are numbers here.

    Args:
        place: File and line, for messages.
        column: The column.
        text: What stands there.
        allowed: What may, in words.

    Raises:
        DataError: The text is no number.
    """
    if not _NUMBER.fullmatch(text.strip()):
        comma = (
            "; write a decimal point" if _NUMBER.fullmatch(text.strip().replace(",", ".")) else ""
        )
        raise DataError(f"{place}: {column} {shown(text)} is no number; allowed: {allowed}{comma}")
    return float(text)


def check_no_fractions(path: str, column: str, best: float) -> None:
    """Whether a column with that best accuracy is in percent, and not in shares of 1.

    Raises:
        DataError: The best is 1 at most, which no table's best is in percent.
    """
    if best <= 1:
        raise DataError(
            f"{path}: {column}: the best is {best:g}, so that these look like fractions "
            "of 1; needs percent: multiply them by 100"
        )
