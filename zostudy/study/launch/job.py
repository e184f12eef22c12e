"""What is asked of a cluster: so many workers of a study, and what each of them gets."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zostudy.config.cluster import ClusterSettings
from zostudy.config.loading import StudyFile, digest
from zostudy.config.sizes import size
from zostudy.errors import ConfigError
from zostudy.redaction import without_passwords
from zostudy.study.tracking.runs import resolved_uri

if TYPE_CHECKING:
    from zostudy.study.planning.plan import Plan

#: Bytes beside a trial's tensors: two processes that have imported torch, and MLflow's client.
BESIDE = 3 * 2**30

#: Seconds before the end of its time in which a worker gives its trial back.
GRACE = 120


@dataclass(frozen=True)
class Job:
    """What an engine is given.

    Attributes:
        file: The study, with its overrides.
        path: The study file.
        arguments: Further arguments of its workers.
        workers: How many workers.
        memory: Bytes of each.
        tracking: The MLflow server.
    """

    file: StudyFile
    path: Path
    arguments: tuple[str, ...]
    workers: int
    memory: int
    tracking: str

    @property
    def cluster(self) -> ClusterSettings:
        """What the study file says of the cluster."""
        return self.file.config.cluster

    @property
    def processors(self) -> int:
        """Processors of a worker."""
        return self.cluster.processors or self.file.config.runtime.threads

    @property
    def mebibytes(self) -> int:
        """Memory of a worker, in MiB, rounded up."""
        return -(-self.memory // 2**20)

    @property
    def name(self) -> str:
        """The job's name, as every engine takes it."""
        study = self.file.config.study
        plain = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")[:40].rstrip("-")
        changed = "" if plain == study else f"-{digest(study)[:8]}"
        return f"zostudy-{plain}{changed}"


def job(
    file: StudyFile,
    path: Path,
    arguments: Sequence[str],
    workers: int | None,
    plan: Callable[[], "Plan"],
) -> Job:
    """What is asked for a study, after it was checked that workers elsewhere can reach it.

    Args:
        file: The study.
        path: Its file.
        arguments: Further arguments of its workers.
        workers: How many workers; those that the study file asks for, if nothing.
        plan: What its points need.

    Raises:
        ConfigError: They cannot, or a password would be written down.
    """
    config = file.config
    tracking = resolved_uri(config.tracking.uri)
    _check_reached(config.storage.optuna, tracking)
    written = [file.document, list(arguments), tracking]
    if without_passwords(written) != written:
        raise ConfigError(
            "cluster: an address holds a password, which would be written into the job; leave it "
            "out and give it as PGPASSFILE, PGPASSWORD or MLFLOW_TRACKING_PASSWORD"
        )
    asked = config.cluster.memory
    memory = needed(plan()) if asked == "plan" else size(asked, "cluster.memory")
    return Job(file, path, tuple(arguments), workers or config.cluster.workers, memory, tracking)


def _check_reached(storage: str, tracking: str) -> None:
    for place, url in (("storage.optuna", storage), ("tracking.uri", tracking)):
        if url.startswith(("sqlite:", "sqlite+", "file:")) or "://" not in url:
            allowed = "http:// or https://" if place == "tracking.uri" else "postgresql://"
            raise ConfigError(
                f"{place}: {without_passwords(url)!r} is a file of one machine, and workers on a "
                f"cluster need a server; allowed: {allowed}… (docs/DISTRIBUTED.md)"
            )


def needed(plan: "Plan") -> int:
    """Bytes of a worker by the plan: its largest peak, the data set twice, and what is beside."""
    peaks = [phase.peak_bytes for c in plan.configurations for phase in c.phases.values()]
    pictures = [
        sum(part.images.numel() for part in (d.train, d.validation, d.test) if part is not None)
        for d in plan.datasets
    ]
    return max(peaks, default=0) + 2 * max(pictures, default=0) + BESIDE
