"""Studies whose sweep is real and whose trials take no time."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zostudy.config.loading import StudyFile, from_document


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: SQLite waits for the disk at every commit."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def make(folder) -> Callable[..., StudyFile]:
    """A study file whose storage is in a folder that is not there yet.

    Its masks are random ones unless `trial`, settings outside the sweep, says otherwise.
    """

    def study(parameters: dict, *, trial: dict | None = None, **sweep) -> StudyFile:
        return from_document(
            {
                "study": "s",
                "prune": {"source": "random", "xi": 0.5},
                "storage": {"optuna": f"sqlite:///{folder}/new/optuna.db"},
                "sweep": {"parameters": parameters, **sweep},
                **(trial or {}),
            }
        )

    return study
