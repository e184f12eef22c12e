"""One trial: prune, search, evaluate; from the cache where it can be, tracked in MLflow."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zostudy.config.loading import StudyFile, canonical, digest, flat, to_document
from zostudy.config.settings import TrialConfig
from zostudy.data.dataset import Dataset
from zostudy.errors import ArchitectureError, InadmissibleError, LostError
from zostudy.evaluation import latency
from zostudy.metrics import measured, of, readable
from zostudy.pruning.mask_sources import PruneContext
from zostudy.runtime import environment, memory_budget, prepare
from zostudy.search import scored
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space
from zostudy.stage import StageContext, StoppedEarly
from zostudy.study.ingredients import HARDWARE, differences
from zostudy.study.pictures import drawing
from zostudy.study.planning.constraints import broken, check_limits, costs, limited, named
from zostudy.study.planning.peak_memory import Predictions
from zostudy.study.planning.plan import Plan, Planner, check_batches
from zostudy.study.points import Ended, Point, TrialOutcome, alternatives, label
from zostudy.study.store.records import Record, Store
from zostudy.study.sweep.random_baseline import MARK
from zostudy.study.tracking.runs import MACHINE, Run, Tracker
from zostudy.study.trial import collective
from zostudy.study.trial.computing import Computing, Report
from zostudy.study.trial.inputs import Inputs
from zostudy.study.trial.logs import log_record
from zostudy.study.trial.phases import Phase, R, TrialPhases


@dataclass(frozen=True)
class _Trial:
    """A trial that is being run.

    Attributes:
        name: Its name.
        phases: Its phases.
        run: Its run.
        using: Keeps the records that it has read from being cleared.
        metrics: What is known of it so far.
    """

    name: str
    phases: TrialPhases
    run: Run
    using: contextlib.ExitStack
    metrics: dict[str, float] = field(default_factory=dict)


class Trials:
    """Runs the trials of a study; what they share is opened once.

    Args:
        file: The study.
        report: Called after every epoch and round.
        device: The device; ``study`` for that of the study file.
        known: Predicted peaks of memory, as :attr:`known` has them.
        begins: Called with the name and the key of each trial's run before it begins.
        enters: Called with the name of each phase of a trial before it begins.
        machine: How the machine stands in the check of its operations; a tag of each run.

    Attributes:
        tracker: Writes what is tracked of them.

    Raises:
        ConfigError: The device cannot be used.
    """

    def __init__(
        self,
        file: StudyFile,
        report: Report,
        device: str = "study",
        known: Mapping[str, int] = {},
        begins: Callable[[str, str], None] = lambda _name, _key: None,
        enters: Callable[[str], None] = lambda _phase: None,
        machine: str = "",
    ) -> None:
        config = file.config
        self._file = file
        self._config = config
        self._begins = begins
        self._enters = enters
        self._machine = machine
        other = {} if device == "study" else {"device": device}
        self._runtime = prepare(config.runtime.model_copy(update=other))
        self._predictions = Predictions(self._runtime, known)
        self._budget = memory_budget(config.runtime, self._runtime.device)
        folder = Path(config.storage.folder)
        self._computing = Computing(Store(folder), self._runtime, self._budget, report)
        self.tracker = Tracker(folder, config.tracking.uri, config.experiment)
        self._inputs = Inputs(file)

    @property
    def known(self) -> dict[str, int]:
        """Predicted peaks of memory, in bytes, by what determines them."""
        return self._predictions.known

    def check(self, points: list[Point]) -> None:
        """Whether every point has its data and its files, before anything is computed.

        Raises:
            InputError: Something is missing or does not fit.
        """
        for point in points:
            dataset = self._inputs.dataset(point.config.dataset)
            check_batches(point.config, dataset)
            stage = StageContext(self._runtime, seed=0)
            point.config.mask_source.check(PruneContext.of(point.config, dataset, stage))
            self._check_search(point.config, dataset)
            self._inputs.source(point.config)
            self._check_latency(point.config)

    def _check_latency(self, config: TrialConfig) -> None:
        if config.latency.by == "measured":
            latency.check_runtime(config.latency)
        self._inputs.latencies(config)

    def _check_search(self, config: TrialConfig, dataset: Dataset) -> None:
        space = search_space(config.search_space.name, config.extensions)
        if config.search.constraints:
            check_limits(config, space, self._inputs.costs(config, dataset))
        if config.search.strategy == "score":
            scored.check(dataset, config.supernet, config.search, space, self._runtime)

    def plan(self, points: Sequence[Point]) -> Plan:
        """What memory and how many steps points take; what is known of it serves the trials too."""
        outlines = self._inputs.outlines()
        planner = Planner(
            self._predictions,
            self._budget,
            self._config.sweep.seeds,
            lambda settings: outlines[settings.model_dump_json()],
            self._config.sweep.constraints,
        )
        return planner.plan(points)

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome | Ended:
        """Run a trial, or go on with it where it was stopped.

        Args:
            point: Its settings.
            seed: Its seed.
            number: Its number in the study.

        Raises:
            ZostudyError: The trial failed.
        """
        config = point.config
        self._file.folder.mkdir(parents=True, exist_ok=True)  # where digests of data are kept
        phases = self._phases_of(config, seed)
        _check_unchanged(point, phases)
        sweep = self._config.sweep
        if sweep.constraints:
            (planned,) = self.plan([point]).configurations
            if planned.excluded:
                return Ended.by(sweep, "excluded", planned.excluded, named(planned.limited))
        key = digest([self._config.study, point.key, phases.common(), dict(phases.made_of)])
        params = {"technique": config.technique, "seed": seed} | flat(canonical(config))
        tags = {
            "zostudy.study": self._config.study,
            "zostudy.trial": str(number),
        } | {f"zostudy.{ingredient}": value for ingredient, value in phases.made_of.items()}
        if point.baseline:
            tags[f"zostudy.{MARK}"] = str(config.search.draw)
        if self._machine:
            tags[MACHINE] = self._machine
        shown = label(point.values, seed)
        self._begins(shown, key)
        with self.tracker.trial(shown, key, params, tags) as run, contextlib.ExitStack() as using:
            trial = _Trial(f"trial-{number}", phases, run, using)
            self._describe(trial, f"{point}")
            genotype = self._found(trial, lambda: self._relatives(point, phases))
            above = self._above_limits(trial, genotype) or self._too_slow(trial, genotype)
            if above:
                run.tags({"zostudy.state": "excluded", "zostudy.reason": above})
                return Ended.by(sweep, "excluded", above, trial.metrics, run.mlflow_id)
            try:
                self._phase(phases.evaluate(genotype), trial)
            except StoppedEarly as stopped:
                run.tags({"zostudy.state": "stopped", "zostudy.reason": str(stopped)})
                return Ended.by(sweep, "stopped", str(stopped), trial.metrics, run.mlflow_id)
            run.metrics(readable(trial.metrics))
            return TrialOutcome(trial.metrics, genotype.to_dict(), run.mlflow_id)

    def cached(self, point: Point, seed: int) -> bool:
        """Whether every phase of a trial is in the cache."""
        found = self.records(point, seed)
        return "evaluate" in found and ("latency" in found or point.config.latency.by == "none")

    def records(self, point: Point, seed: int) -> dict[str, Record]:
        """The records of a trial's phases that are in the cache, up to the first that is not."""
        phases, found = self._phases_of(point.config, seed), {}

        def kept(phase: Phase[R]) -> R | None:
            record = self._computing.store.record(phase.name, phase.key)
            if record is None:
                return None
            found[phase.name] = record
            return phase.result(record.values)

        pruned = kept(phases.prune())
        genotype = None
        with contextlib.suppress(InadmissibleError):  # the trial has failed, or will
            genotype = None if pruned is None else phases.unsearched(pruned)
        if pruned is not None and genotype is None:
            searched = kept(phases.search(pruned.mask))
            genotype = None if searched is None else searched.genotype
        if genotype is not None:
            if timed := phases.latency(genotype):
                kept(timed)
            kept(phases.evaluate(genotype))
        return found

    @property
    def leads(self) -> bool:
        """Whether this is the first of the processes that share batches, or alone."""
        return self._runtime.processes.rank == 0

    def follow(self, genotype: Genotype, seed: int) -> None:
        """Take part in what the first process does in :meth:`evaluate`."""
        phase = self._phases_of(self._config, seed).evaluate(genotype)
        collective.follow(phase, StageContext(self._runtime, seed))

    def evaluate(self, genotype: Genotype, seed: int) -> TrialOutcome:
        """Train and measure a given genotype with the study's settings, as a run of its own.

        Args:
            genotype: The architecture.
            seed: The seed of its training.

        Raises:
            ArchitectureError: The genotype is of another search space than the study.
            ZostudyError: The training failed, or the latency cannot be had.
        """
        config = self._config
        if genotype.space.name != config.search_space.name:
            raise ArchitectureError(
                f"genotype: is of the search space {genotype.space.name!r}; "
                f"the study has {config.search_space.name!r}"
            )
        self._check_latency(config)
        phases = self._phases_of(config, seed)
        phase = collective.led(phases.evaluate(genotype), self._runtime.processes)
        timed = phases.latency(genotype)
        own = [phase.key, timed.key] if timed else [phase.key]
        key = digest([config.study, "genotype", *own])
        params = {"seed": seed} | flat({**phase.settings, **(timed.settings if timed else {})})
        tags = {"zostudy.study": config.study} | {
            f"zostudy.{ingredient}": phases.made_of[ingredient]
            for ingredient in ("data", "latency.path", HARDWARE)
            if ingredient in phases.made_of
        }
        name = "genotype"
        with self.tracker.trial(name, key, params, tags) as run, contextlib.ExitStack() as using:
            trial = _Trial(name, phases, run, using)
            self._describe(trial, "a given genotype")
            self._keep_genotype(run, genotype)
            self._phase(phase, trial)
            collective.dismiss(self._runtime.processes)
            self._latency(trial, genotype)
            run.metrics(readable(trial.metrics))
            return TrialOutcome(trial.metrics, genotype.to_dict(), run.mlflow_id)

    def _above_limits(self, trial: _Trial, genotype: Genotype) -> str:
        """Which constraints a genotype does not keep to; what it costs is added to the metrics."""
        constraints = self._config.sweep.constraints
        figures = costs(constraints, genotype, trial.phases.dataset, trial.phases.config)
        trial.metrics.update(named(figures))
        trial.run.metrics(named(figures))
        return broken(figures)

    def _latency(self, trial: _Trial, genotype: Genotype) -> None:
        """Add the latency of a genotype to the metrics, where the study has one."""
        if phase := trial.phases.latency(genotype):
            found = self._phase(phase, trial)
            trial.run.metrics(found)

    def _too_slow(self, trial: _Trial, genotype: Genotype) -> str:
        """Which constraint the latency of a genotype does not keep to."""
        self._latency(trial, genotype)
        timed = of("latency")
        values = {m.name: (trial.metrics[m.name], True) for m in timed if m.name in trial.metrics}
        return broken(limited(self._config.sweep.constraints, values))

    def _phases_of(self, config: TrialConfig, seed: int) -> TrialPhases:
        dataset, source = self._inputs.dataset(config.dataset, seed), self._inputs.source(config)
        latencies = self._inputs.latencies(config)
        costs = self._inputs.costs(config, dataset)
        return TrialPhases(config, seed, dataset, self._predictions, source, latencies, costs)

    def _describe(self, trial: _Trial, what: str) -> None:
        """What a trial's run carries whatever comes of it."""
        run, phases = trial.run, trial.phases
        config, dataset = phases.config, phases.dataset
        run.note(f"{self._config.study}: {what}, seed {phases.seed}")
        run.json(to_document(config) | {"seed": phases.seed}, "settings.json")
        run.json(environment(), "environment.json")
        run.json(dataset.record(config.search.architecture_fraction), "splits.json")
        run.dataset(dataset.name, dataset.digest, "study", to_document(config.dataset))
        if phases.source is not None:
            run.tags({f"zostudy.{config.evaluate.by}": phases.source.digest})

    def _found(self, trial: _Trial, relatives: Callable[[], Sequence[Phase[Any]]]) -> Genotype:
        """Prune and search."""
        phases, run, metrics = trial.phases, trial.run, trial.metrics
        pruned = self._phase(phases.prune(), trial, relatives)
        run.json(pruned.mask.to_dict(), "mask.json")
        genotype = phases.unsearched(pruned)
        if genotype is None:
            genotype = self._phase(phases.search(pruned.mask), trial).genotype
        else:
            metrics |= {"search_seconds": 0.0, "search_peak_bytes": 0.0}
        self._keep_genotype(run, genotype)
        run.metrics(readable(metrics))
        return genotype

    def _keep_genotype(self, run: Run, genotype: Genotype) -> None:
        run.json(genotype.to_dict(), "genotype.json")
        run.figure(drawing.genotype_figure(genotype), "genotype.png")

    def _phase(
        self,
        phase: Phase[R],
        trial: _Trial,
        relatives: Callable[[], Sequence[Phase[Any]]] = tuple,
    ) -> R:
        """What a phase found, from the cache or computed; its metrics are added to the trial's."""
        phases = trial.phases
        self._enters(phase.name)
        cached = self._computing.store.record(phase.name, phase.key) is not None
        settings, tags = flat(phase.settings), {"zostudy.phase": phase.name}
        with trial.run.child(phase.name, phase.key, settings, tags, cached=cached) as child:
            origin = {"study": self._config.study, "trial": trial.name, "mlflow_run_id": child.id}
            record = self._computing.record(phase, phases.seed, child, origin, relatives)
            log_record(child, record)
            found = phase.result(record.values)
            phase.log(child, found)
        trial.using.enter_context(self._computing.store.using(record))
        trial.metrics.update(measured(phase.name, record.values))
        return found

    def _relatives(self, point: Point, phases: TrialPhases) -> list[Phase[Any]]:
        """The other prunings of the study that follow the same trajectory as a point's."""
        own = phases.prune()
        if not own.lasting:
            return []
        configs = alternatives(self._file, point.values, ("technique", "prune"))
        others = {p.key: p for p in (replace(phases, config=c).prune() for c in configs)}
        shared = [p for p in others.values() if p.checkpoint_key == own.checkpoint_key]
        return [p for p in shared if p.key != own.key]


def _check_unchanged(point: Point, phases: TrialPhases) -> None:
    """Whether a trial is made of what its worker has seen.

    Raises:
        LostError: Something was changed since the worker began.
    """
    changed = differences(point.made_of, phases.made_of, tuple(point.made_of))
    if changed:
        raise LostError(
            f"what the study is made of was changed while it ran: {'; '.join(map(str, changed))}; "
            "run it again"
        )
