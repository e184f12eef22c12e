"""The folder of a bundle, which is written whole or not at all."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zostudy.errors import ConfigError, TrialError
from zostudy.study.bundle.formats import Formats
from zostudy.study.bundle.predict import CHECKSUMS, checksum, checksums
from zostudy.study.disk.whole_files import whole_folder


@dataclass(frozen=True)
class Destination:
    """What is written where.

    Attributes:
        output: The folder to make.
        formats: The programs in it.
        force: Whether an earlier bundle there is replaced.
    """

    output: Path
    formats: Formats
    force: bool = False


def check_output(output: Path, *, force: bool = False) -> None:
    """Whether the folder is new or empty, or with ``force`` an earlier bundle and nothing else.

    Raises:
        ConfigError: It is not.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not force:
        hint = "; --force replaces a bundle" if (output / CHECKSUMS).is_file() else ""
        raise ConfigError(
            f"--output: {str(output)!r} exists already; allowed: a new folder, or an empty one"
            f"{hint}"
        )
    listed = {*checksums(output), CHECKSUMS} if (output / CHECKSUMS).is_file() else set()
    held = [path.name for path in output.iterdir()] if output.is_dir() else [output.name]
    foreign = sorted(set(held) - listed - {"__pycache__"})
    if foreign:
        raise ConfigError(
            f"--output: {str(output)!r} holds {foreign[0]}, which is no part of a bundle; --force "
            "replaces a bundle alone"
        )


@contextlib.contextmanager
def new_folder(output: Path, *, force: bool = False) -> Iterator[Path]:
    """A folder beside the output that takes its place, with its checksums, once it is complete.

    Raises:
        ConfigError: The output holds something that is not to be replaced, or cannot be made.
        TrialError: The disk is full or cannot be written.
    """
    check_output(output, force=force)
    with contextlib.ExitStack() as open_folder:
        try:
            folder = open_folder.enter_context(whole_folder(output))
        except OSError as error:
            raise ConfigError(f"--output: {str(output)!r} cannot be made ({error})") from error
        try:
            yield folder
            lines = [f"{checksum(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
            (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
            open_folder.close()
        except OSError as error:
            raise TrialError(f"export: {str(output)!r} cannot be written ({error})") from error
