"""Settings of the latency of a genotype's network: measured here, of a table, or predicted."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zostudy.config.base import Settings
from zostudy.config.names import FileName

#: Of each way to a latency, the settings that it follows; none of them may be empty.
_FOLLOWED = {
    "none": (),
    "measured": ("batch_sizes", "runtime", "threads", "warmup", "runs"),
    "table": ("path", "column", "architecture_column"),
    "predictor": ("path", "column", "architecture_column"),
}


class LatencySettings(Settings):
    """How long the stand-alone network takes; settings of the other ways have no effect."""

    by: Literal["none", "measured", "table", "predictor"] = "none"
    """``none`` has no latency; ``measured`` times the network on the processor that is here;
    ``table`` looks it up in a table of all architectures; ``predictor`` learns it from a table of
    some architectures, at least 5 and better 20."""
    path: FileName = ""
    """The table: a CSV file with a row an architecture."""
    column: str = ""
    """Column of the table that holds latencies, in milliseconds."""
    architecture_column: str = "ArchitectureString"
    """Column that holds the architectures, in the search space's own notation."""
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = (1, 8, 64)
    """Pictures in a call; the metrics are those of the first, the others are figures of the
    phase's run."""
    runtime: Literal["torch", "onnxruntime"] = "torch"
    """What runs the network: ``torch`` as it is, or ``onnxruntime`` after export."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of the runtime."""
    warmup: int = Field(default=5, ge=0, le=10_000)
    """Calls before the first timed one."""
    runs: int = Field(default=50, ge=2, le=100_000)
    """Timed calls, of which the median and the 95th percentile are taken."""

    @property
    def followed(self) -> tuple[str, ...]:
        """The settings that have an effect beside ``by``."""
        return _FOLLOWED[self.by]

    @property
    def reads(self) -> bool:
        """Whether it reads a table."""
        return "path" in self.followed

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for name in self.followed:
            if getattr(self, name) in ("", ()):
                raise ValueError(f"{name}: is missing; latency.by {self.by!r} needs it")
        if len(set(self.batch_sizes)) != len(self.batch_sizes):
            raise ValueError(f"batch_sizes: {list(self.batch_sizes)}; needs each once")
        return self
