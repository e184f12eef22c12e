"""The folder of a report: a page that needs no network, with pictures and tables beside it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from zostudy import __version__
from zostudy.errors import ConfigError
from zostudy.study.disk.whole_files import whole_folder

#: The names of a report's files, and what its page holds.
_NAMES = re.compile(
    r"index\.html|(points|comparisons|practical)\.(csv|tex)"
    r"|(cost|cost-\w+|importances|curve-\d+|differences-\w+|genotype-\d+|ranks-\w+)\.(svg|png)"
)
_MARK = b'<meta name="generator" content="zostudy report">'


def rendered(template: str, **values: Any) -> str:  # noqa: ANN401  # what a template shows
    """A page, in which texts of users do nothing."""
    environment = Environment(
        loader=PackageLoader("zostudy.study.report", "templates"), autoescape=True, trim_blocks=True
    )
    return environment.get_template(template).render(version=__version__, **values)


def write_report(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files by their names into a folder that appears whole or not at all.

    Returns:
        Their paths.

    Raises:
        ConfigError: The folder cannot be written.
    """
    try:
        with whole_folder(folder) as new:
            for name, content in contents.items():
                (new / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--output: {folder}: {error.strerror or error}") from error
    return [folder / name for name in contents]


def check_output(folder: Path, *, force: bool) -> None:
    """Whether the folder is new or empty, or with ``force`` a report and nothing else.

    Raises:
        ConfigError: It is not.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output: {folder} is a file; choose a new folder")
    held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in held if not _NAMES.fullmatch(name)]
    if not held or (force and not foreign and _is_page(folder / "index.html")):
        return
    way = f"it holds {foreign[0]}; choose a new folder" if foreign else "choose a new folder"
    if not foreign and not force and _is_page(folder / "index.html"):
        way = "--force replaces it"
    raise ConfigError(f"--output: {folder} is there already; {way}")


def _is_page(path: Path) -> bool:
    return path.is_file() and _MARK in path.read_bytes()
