"""Settings of a search; each component of it has a section of its own."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zostudy.config.base import Settings
from zostudy.config.limits import CostConstraints
from zostudy.config.training import AugmentSettings, SGDSettings
from zostudy.errors import ConfigError

#: A decay rate of Adam's moments.
_Decay = Annotated[float, Field(ge=0, lt=1)]


class ArchitectureOptimizerSettings(Settings):
    """Adam on the architecture parameters α and β."""

    learning_rate: float = Field(default=6e-4, gt=0, le=1000)
    """Learning rate."""
    betas: tuple[_Decay, _Decay] = (0.5, 0.999)
    """Decay rates of the first and second moment."""
    weight_decay: float = Field(default=1e-3, ge=0, le=1000)
    """Weight decay."""


class RelaxationSettings(Settings):
    """How architecture parameters become mixing weights."""

    name: str = "softmax"
    """Relaxation: softmax, sigmoid, gdas, snas, reinmax, dirichlet, uniform_path, or one of an
    extension."""
    options: dict[str, Any] = Field(default={})
    """The relaxation's own options."""


class PerturbationSettings(Settings):
    """What the mixing weights are moved by in the steps of the weights."""

    name: str = "none"
    """Perturbation: none, random, adversarial, or one of an extension."""
    options: dict[str, Any] = Field(default={})
    """The perturbation's own options."""


class ScheduleSettings(Settings):
    """What becomes of the search after an epoch."""

    name: str = "none"
    """Schedule: none, skip_stop, eigenvalue_stop, shrinking, progressive, or one of an
    extension."""
    options: dict[str, Any] = Field(default={})
    """The schedule's own options."""


class SelectionSettings(Settings):
    """How a genotype is chosen at the end of the search."""

    name: str = "largest"
    """Selection: largest, skip_limit, perturbation, validated, evolution, or one of an
    extension."""
    options: dict[str, Any] = Field(default={})
    """The selection's own options."""


class RegularizerSettings(Settings):
    """A term on α that is added to the loss of the architecture step."""

    name: str = "none"
    """Regularizer: none, beta_decay, entropy, zero_one, dirichlet_anchor, or one of an
    extension."""
    options: dict[str, Any] = Field(default={})
    """The regularizer's own options."""


class FreezingSettings(Settings):
    """Which operations the search stops training before it ends."""

    name: str = "none"
    """Freezing: none, operation_early_stop, or one of an extension."""
    options: dict[str, Any] = Field(default={})
    """The freezing's own options."""


class AlgorithmSettings(Settings):
    """Which architecture is scored next, in a search by score alone."""

    name: str = "evolution"
    """Algorithm: random, evolution, local, free_rea, expected_improvement, or one of an
    extension."""
    options: dict[str, Any] = Field(default={})
    """The algorithm's own options."""


class ScoreSettings(Settings):
    """What architectures are scored by, in a search by score alone."""

    name: str = "proxies"
    """Score: proxies, predictor, or one of an extension."""
    options: dict[str, Any] = Field(default={})
    """The score's own options."""


class SearchSettings(Settings):
    """The search in what pruning leaves."""

    strategy: Literal["bilevel", "score", "random", "none"] = "bilevel"
    """``bilevel`` trains a supernet, and α with it; ``score`` trains nothing and goes by a score of
    single architectures; ``random`` draws a genotype that the mask allows, each equally likely;
    ``none`` where pruning itself ends with a genotype (ETENAS). Settings that belong to another
    strategy have no effect."""
    draw: int = Field(default=0, ge=0, le=1_000_000)
    """Of ``random``: which of the random genotypes of a seed."""
    algorithm: AlgorithmSettings = AlgorithmSettings()
    """Of ``score``: which architecture comes next."""
    score: ScoreSettings = ScoreSettings()
    """Of ``score``: what architectures are scored by."""
    evaluations: int = Field(default=1000, ge=1, le=10_000_000)
    """Of ``score``: how many different architectures are scored."""
    constraints: CostConstraints = Field(default={})
    """Of ``score`` and ``random``: the most that the stand-alone network of an architecture may
    need; one that needs more is rejected before it is scored."""
    epochs: int = Field(default=50, ge=1, le=1_000_000)
    """Epochs of the search, warm-up included."""
    warmup_epochs: int = Field(default=15, ge=0, le=1_000_000)
    """First epochs, which train the weights only."""
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] | Literal["fit"] = 256
    """Images in a batch, for the weights and for the architecture alike; ``fit`` is the largest
    power of two that runtime.memory_budget and the pictures allow, which depends on the machine."""
    accumulate: int = Field(default=1, ge=1, le=1_000_000)
    """Micro-batches that a batch is computed in, one after the other: memory is that of one, the
    step follows the mean gradient of all. Batch normalization takes its statistics from each
    micro-batch by itself, so that this is not the same as one large batch."""
    order: Literal["first", "second", "harmonized"] = "first"
    """The architecture gradient: that of the loss (``first``); through one unrolled weight step
    (``second``, DARTS); of the loss and of how the gradients of the cells agree (``harmonized``,
    Λ-DARTS)."""
    harmony: float = Field(default=0.125, ge=0, le=1000)
    """Largest weight of the agreement between cells, which rises linearly; for ``harmonized``."""
    recompute: Literal["none", "partial", "full"] = "none"
    """What the backward pass computes again instead of keeping it in memory: nothing, what is cheap
    for its size (convolutions inside operations, the cells' 1×1 convolutions), or all but the
    cells' nodes. The gradients are the same. Where paths are drawn, what is cheap (ReLU, batch
    normalization, pools) is always computed again."""
    architecture_fraction: float = Field(default=0.5, ge=0, lt=1)
    """Share of the search pictures that trains α; the rest trains the weights. With 0 both train on
    the same pictures."""
    weights: SGDSettings = SGDSettings()
    """Optimizer of the weights."""
    architecture: ArchitectureOptimizerSettings = ArchitectureOptimizerSettings()
    """Optimizer of α and β."""
    relaxation: RelaxationSettings = RelaxationSettings()
    """From α to mixing weights."""
    perturbation: PerturbationSettings = PerturbationSettings()
    """What moves the mixing weights in the steps of the weights (SDARTS)."""
    regularizer: RegularizerSettings = RegularizerSettings()
    """Term on α."""
    freezing: FreezingSettings = FreezingSettings()
    """Operations whose weights stop being trained (OLES)."""
    auxiliary_skip: Literal["none", "linear", "cosine"] = "none"
    """A skip connection beside every mixed operation, outside α; its weight falls from 1 to 0 over
    the epochs in this way (DARTS-)."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Probability to leave an operation that has parameters out of a picture's pass, at the last
    epoch; it rises linearly from 0 (R-DARTS)."""
    drop_skip: float = Field(default=0.0, ge=0, lt=1)
    """Probability to leave a skip connection out, at the first epoch; it falls linearly to 0
    (P-DARTS)."""
    schedule: ScheduleSettings = ScheduleSettings()
    """What becomes of the search after an epoch: an early end, or another supernet."""
    selection: SelectionSettings = SelectionSettings()
    """How the genotype is chosen."""
    eigenvalue: bool = False
    """Whether the largest eigenvalue of the Hessian of the loss for α is measured each epoch, which
    costs about as much as 20 steps."""
    collapsed_share: float = Field(default=0.5, gt=0, le=1)
    """A genotype counts as collapsed if skip connections make up more than this share of a cell."""
    augment: AugmentSettings = AugmentSettings()
    """Augmentation of the search batches."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.draw and self.strategy != "random":
            raise ValueError(f"draw: {self.draw} has no effect unless strategy is 'random'")
        if self.constraints and self.strategy not in {"score", "random"}:
            raise ValueError(
                f"constraints: strategy {self.strategy!r} cannot keep to limits; allowed: 'score' "
                "or 'random', or sweep.constraints, which excludes what is above them afterwards"
            )
        if not self.trains_supernet:
            return self
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs} leaves no epoch for α; "
                f"allowed: 0 to {self.epochs - 1} (search.epochs is {self.epochs})"
            )
        if self.order == "second" and self.architecture_fraction == 0:
            raise ValueError(
                "order: 'second' needs pictures of its own for α, but "
                "search.architecture_fraction is 0; allowed: order 'first', or a fraction above 0"
            )
        if self.batch_size != "fit" and self.batch_size % self.accumulate:
            divisors = [n for n in range(1, self.batch_size) if self.batch_size % n == 0]
            raise ValueError(
                f"accumulate: {self.accumulate} does not divide search.batch_size "
                f"{self.batch_size}; allowed: {', '.join(map(str, divisors))}"
            )
        return self

    @property
    def trains_supernet(self) -> bool:
        """Whether a supernet is trained."""
        return self.strategy == "bilevel"

    @property
    def limits(self) -> dict[str, float]:
        """The largest value allowed of each metric that is constrained."""
        return {name: limit.most for name, limit in self.constraints.items()}

    @property
    def searches(self) -> bool:
        """Whether architectures are compared at all."""
        return self.strategy in {"bilevel", "score"}

    @property
    def pictures_at_once(self) -> int:
        """Pictures in a batch.

        Raises:
            ConfigError: The batch is still to be fitted.
        """
        if self.batch_size == "fit":
            raise ConfigError("search.batch_size: 'fit' has not been resolved to a number")
        return self.batch_size
