"""What workers get on a cluster."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from zostudy.config.base import Settings
from zostudy.config.names import FileName, Word
from zostudy.config.sizes import duration, size


class ClusterSettings(Settings):
    """The workers that ``zostudy run --on`` starts, and what each of them gets.

    Settings of another engine than the one that is chosen have no effect.
    """

    workers: int = Field(default=1, ge=1, le=1024)
    """Workers; each runs one trial at a time. ``--workers`` says otherwise."""
    gpus: int = Field(default=0, ge=0, le=64)
    """GPUs of a worker."""
    processors: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Processors of a worker; left out, ``runtime.threads``."""
    memory: str = "plan"
    """Memory of a worker: a size such as ``16GiB``, or ``plan`` for what the plan predicts, with
    room for Python and torch."""
    time: str = ""
    """Longest time that a worker runs before it gives its trial back and is queued again, such as
    ``24h``; empty for as long as the cluster lets it."""
    partition: Word = ""
    """Slurm's partition; empty for the default one."""
    image: Word = ""
    """Kubernetes: the container image, in which zostudy is installed."""
    volume: Word = ""
    """Kubernetes: name of the PersistentVolumeClaim that holds ``folder``, shared by all workers;
    empty for a folder of each worker's own, which ends with it."""
    secret: Word = ""
    """Kubernetes: name of the Secret whose entries are environment variables of workers, such as
    PGPASSWORD."""
    folder: FileName = ""
    """Folder in which workers run; for Slurm the same on all nodes, and by default the one in which
    ``zostudy run`` is called; in containers by default ``/work``."""

    @model_validator(mode="after")
    def _has_lengths(self) -> Self:
        if self.memory != "plan":
            size(self.memory, "memory", "plan, or ")
        if self.time and duration(self.time, "time") < _SHORTEST:
            raise ValueError(f"time: {self.time!r} is too short; needs {_SHORTEST // 60}m or more")
        return self

    @property
    def seconds(self) -> int:
        """The longest time that a worker runs; 0 for any."""
        return int(duration(self.time, "time")) if self.time else 0


#: Seconds that a worker must have: it takes some to begin, and two minutes to give its trial back.
_SHORTEST = 600
