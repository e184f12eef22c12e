"""Every setting of a study file, its default and its meaning.

A section that names a component (data set, mask source, relaxation, regularizer and so on) also
takes that component's own options beside the fields listed here; they are declared with the
component (see :mod:`zostudy.registry`) and held in ``options``.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from zostudy import host
from zostudy.config.base import Settings
from zostudy.config.cluster import ClusterSettings
from zostudy.config.evaluators import EVALUATORS, Evaluator
from zostudy.config.latency import LatencySettings
from zostudy.config.mask_source import MaskSource, to_genotype
from zostudy.config.names import (
    Device,
    ExperimentName,
    FileName,
    FolderName,
    StorageUrl,
    StudyName,
    TrackingUri,
)
from zostudy.config.search import SearchSettings
from zostudy.config.sizes import size
from zostudy.config.sweep import LARGEST_SEED, SweepSettings
from zostudy.config.training import AugmentSettings, SGDSettings
from zostudy.metrics import METRICS, Metric


class DatasetSettings(Settings):
    """Where the pictures come from and how they are split."""

    name: str = "digits"
    """Data set: digits, cifar10, cifar100, image_folder, or one of an extension."""
    validation_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Share of the training part kept for validation accuracy, on which alone selection is based;
    0 trains on the whole training part and then nothing can be selected."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of all pictures kept as test part, for a data set without a test part of its own."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of the splits; all trials of a study have the same test part."""
    splits: Literal["shared", "by_seed"] = "shared"
    """How the pictures that are not of the test part are split into those of training and of
    validation, and in a search into those of the weights and of α: the same way for all trials, or
    anew for each seed of the sweep, the same way for all points of that seed. The spread over seeds
    then holds the chance of the split too."""
    options: dict[str, Any] = Field(default={})
    """The data set's own options."""


class SpaceSettings(Settings):
    """What is searched."""

    name: str = "darts"
    """Search space: darts, nasbench201, or one of an extension."""


class ChannelSplitSettings(Settings):
    """Which channels go through the mixed operations, where partial channels do."""

    name: str = "first"
    """Channel split: first, attention, or one of an extension."""
    options: dict[str, Any] = Field(default={})
    """The channel split's own options."""


class SupernetSettings(Settings):
    """The network that holds every candidate operation."""

    cells: int = Field(default=8, ge=1, le=1000)
    """Cells in the supernet; in nasbench201, cells in each of its three stages."""
    channels: int = Field(default=16, ge=1, le=10_000)
    """Channels of the first cells (C)."""
    partial_channels: int = Field(default=1, ge=1, le=10_000)
    """The mixed operation acts on 1/k of the channels (k); 1 for all channels, 4 in PC-DARTS."""
    channel_split: ChannelSplitSettings = ChannelSplitSettings()
    """Which 1/k of the channels that is."""
    edge_normalization: bool = False
    """Whether each node weighs its incoming edges by a softmax over β (PC-DARTS). In nasbench201,
    where every edge is kept, β only scales what enters a node; the genotype follows from α."""

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        if self.channels % self.partial_channels:
            divisors = [k for k in range(1, self.channels + 1) if self.channels % k == 0]
            raise ValueError(
                f"partial_channels: {self.partial_channels} does not divide channels "
                f"{self.channels}; allowed: {', '.join(map(str, divisors))}"
            )
        return self


class PruneSettings(Settings):
    """Which candidate operations the search never sees."""

    source: str = "none"
    """Mask source: none, random, zero_shot, file, given, or one of an extension."""
    options: dict[str, Any] = Field(default={})
    """The mask source's own options."""


class EvaluateSettings(Settings):
    """How the accuracy of the genotype is found; settings of other ways have no effect."""

    by: Literal["training", "table", "predictor"] = "training"
    """``training`` trains its stand-alone network from scratch; ``table`` looks it up in a table of
    all architectures, and ``predictor`` asks a predictor for it, with an interval; these two train
    nothing."""
    path: FileName = ""
    """The table: a CSV file with a row for every architecture of the search space. The predictor:
    a file of ``zostudy predictor fit``."""
    column: str = ""
    """Column of the table that holds test accuracies, in percent."""
    validation_column: str = ""
    """Column that holds validation accuracies, in percent, which alone may be selected on; empty
    where the table has none."""
    architecture_column: str = "ArchitectureString"
    """Column that holds the architectures, in the search space's own notation."""
    cells: int = Field(default=20, ge=1, le=1000)
    """Cells of the stand-alone network; in nasbench201, of each stage (the benchmark has 5)."""
    channels: int = Field(default=36, ge=1, le=10_000)
    """Channels of its first cells (the benchmark of nasbench201 has 16)."""
    epochs: int = Field(default=600, ge=1, le=1_000_000)
    """Epochs; accuracies are those of the last one."""
    batch_size: int = Field(default=128, ge=2, le=1_000_000)
    """Images in a batch."""
    weights: SGDSettings = SGDSettings(learning_rate=0.025)
    """Optimizer."""
    drop_path: float = Field(default=0.3, ge=0, lt=1)
    """Probability to drop a path at the last epoch; it rises linearly from 0."""
    auxiliary_weight: float = Field(default=0.4, ge=0, le=1000)
    """Weight of the auxiliary head's loss; 0 builds none."""
    augment: AugmentSettings = AugmentSettings(cutout=16)
    """Augmentation of the training batches."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for name in self.evaluator.needs:
            if not getattr(self, name):
                raise ValueError(f"{name}: is missing; evaluate.by {self.by!r} needs it")
        return self

    @property
    def evaluator(self) -> Evaluator:
        """The way by which it is found."""
        return EVALUATORS[self.by]


def _others(evaluator: Evaluator) -> str:
    """What may be optimized in place of an accuracy that there is not."""
    return "another metric" if evaluator.selects_by else "predicted_accuracy, another metric"


class TrackingSettings(Settings):
    """Where MLflow keeps the runs."""

    uri: TrackingUri = "default"
    """MLflow tracking URI; ``default`` is MLFLOW_TRACKING_URI, else MLflow's own default store."""
    experiment: ExperimentName = "default"
    """Name of the experiment; ``default`` is the name of the study."""


class StorageSettings(Settings):
    """Where Optuna's study and zostudy's own files are kept."""

    optuna: StorageUrl = "sqlite:///optuna.db"
    """SQLAlchemy URL of Optuna's storage."""
    folder: FolderName = ".zostudy"
    """Folder for cache and checkpoints."""


def _number_of_threads(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """A number of threads; that of the processors that may be used, for ``auto``."""
    return host.processors() if value == "auto" else check(value)


_Threads = Annotated[int, Field(ge=1, le=1024)]


class RuntimeSettings(Settings):
    """The machine."""

    device: Device = "auto"
    """``auto`` (CUDA if there is a device, else CPU), ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """``fp32`` computes products in full; ``tf32`` lets a GPU round their factors to 10 bits (on a
    CPU it is ``fp32``); ``bf16`` runs the networks under autocast."""
    deterministic: bool = True
    """Whether a GPU gives the same bits in every run; ``false`` lets it choose the fastest kernels.
    It has no effect on a CPU."""
    threads: Annotated[
        _Threads,
        WrapValidator(_number_of_threads, json_schema_input_type=_Threads | Literal["auto"]),
    ] = 2
    """CPU threads of one trial; part of what fixes the bits of a result on the CPU, so that the
    default is the same on every machine. ``auto`` is the number of processors that may be used
    (affinity and control groups count), which depends on the machine."""
    memory_budget: str = "device"
    """Memory that a trial may take: a size such as ``8GiB`` or ``512MiB``, or ``device`` for all
    that the device has. It changes no result."""

    @model_validator(mode="after")
    def _budget_is_a_size(self) -> Self:
        if self.memory_budget != "device":
            size(self.memory_budget, "memory_budget", "device, or ")
        return self


class TrialConfig(Settings):
    """Everything that determines one trial, but for its seed."""

    technique: str = "custom"
    """One of the eight techniques of the paper's Table 1, or ``custom``."""
    extensions: tuple[str, ...] = ()
    """Importable modules that declare further components."""
    dataset: DatasetSettings = DatasetSettings()
    """Data set."""
    search_space: SpaceSettings = SpaceSettings()
    """Search space."""
    supernet: SupernetSettings = SupernetSettings()
    """Supernet."""
    prune: PruneSettings = PruneSettings()
    """Pruning."""
    search: SearchSettings = SearchSettings()
    """Search."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """Evaluation."""
    latency: LatencySettings = LatencySettings()
    """Latency."""
    runtime: RuntimeSettings = RuntimeSettings()
    """Machine."""

    def changed(self, section: str, **values: Any) -> Self:  # noqa: ANN401  # settings of any type
        """The settings with some of one section replaced, unchecked."""
        other = getattr(self, section).model_copy(update=values)
        return self.model_copy(update={section: other})

    def measures(self, metric: Metric) -> bool:
        """Whether a trial of these settings may have a metric."""
        if metric.source == "latency":
            return self.latency.by != "none"
        return metric.measured_by(self.evaluate.by)

    @property
    def mask_source(self) -> MaskSource:
        """The mask source, with its options."""
        return MaskSource.of(self.prune.source, self.prune.options, self.extensions)

    @model_validator(mode="after")
    def _search_or_genotype(self) -> Self:
        ending = self.mask_source.to_genotype
        if self.search.strategy == "none" and not ending:
            known = to_genotype(self.extensions)
            raise ValueError(
                f"search.strategy: 'none' needs a pruning that ends with a genotype ({known})"
            )
        if self.search.strategy != "none" and ending:
            raise ValueError(f"{ending} leaves nothing to search; set search.strategy to 'none'")
        return self


class StudyConfig(TrialConfig):
    """A study file."""

    study: StudyName
    """Name of the study: letters, digits, dot, dash and underscore."""
    description: str = ""
    """What the study is for."""
    sweep: SweepSettings = SweepSettings()
    """Sweep."""
    tracking: TrackingSettings = TrackingSettings()
    """MLflow."""
    storage: StorageSettings = StorageSettings()
    """Storage."""
    cluster: ClusterSettings = ClusterSettings()
    """What workers get that ``zostudy run --on`` starts on a cluster; it changes no result."""

    @property
    def experiment(self) -> str:
        """Name of the study's MLflow experiment."""
        named = self.tracking.experiment
        return self.study if named == "default" else named

    @model_validator(mode="after")
    def _selection_has_accuracies(self) -> Self:
        evaluator = self.evaluate.evaluator
        metrics = [objective.metric for objective in self.sweep.objectives]
        section, _, setting = evaluator.selects_by.partition(".")
        needed = section and "validation_accuracy" in metrics
        if needed and not getattr(getattr(self, section), setting):
            raise ValueError(
                f"sweep.objectives: validation_accuracy needs {evaluator.selection}; "
                "or compare without selecting: objectives: []"
            )
        for metric in metrics:
            if not METRICS[metric].measured_by(evaluator.name):
                why = "" if evaluator.trains else ", which trains nothing"
                raise ValueError(
                    f"sweep.objectives: {metric} does not exist where evaluate.by is "
                    f"{evaluator.name!r}{why}; allowed: {_others(evaluator)}, or objectives: []"
                )
        return self

    @model_validator(mode="after")
    def _latency_is_known(self) -> Self:
        objectives = [objective.metric for objective in self.sweep.objectives]
        for section, names in (("objectives", objectives), ("constraints", self.sweep.constraints)):
            for name in names:
                if METRICS[name].source == "latency" and not self.measures(METRICS[name]):
                    raise ValueError(
                        f"sweep.{section}: {name} needs latency.by, which is {self.latency.by!r}; "
                        "allowed with it: measured, table, predictor"
                    )
        return self
