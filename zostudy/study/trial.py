"""One trial: prune, search, evaluate; from the cache where it can be, tracked in MLflow."""

import gc
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from zostudy.config.loading import StudyFile, canonical, digest, flat, to_document
from zostudy.config.settings import DatasetSettings, TrialConfig
from zostudy.config.sizes import shown_bytes
from zostudy.data.dataset import Dataset, load
from zostudy.errors import ArchitectureError, MemoryShortageError, TrialError
from zostudy.evaluation.training import standalone
from zostudy.pruning.greedy import Round
from zostudy.runtime import environment, memory_budget, prepare
from zostudy.space.genotype import Genotype, from_dict
from zostudy.stage import Progress, StageContext
from zostudy.study import drawing
from zostudy.study.export import Bundle, check_output, export
from zostudy.study.phases import Computed, Phase, TrialPhases
from zostudy.study.plan import Plan, Planner, check_batches
from zostudy.study.points import Point, TrialOutcome
from zostudy.study.prediction import Predictions, mask_source, prune_context
from zostudy.study.store import Store
from zostudy.study.tracking import CACHE_FROM, Run, Tracker

Report = Callable[[Progress], None]

#: Figures of pruning that say how far its scores can be trusted; without repeats there are none.
_TRUST = ("repeats", "reliability", "pruned_again", "pruned_again_by_chance")


#: The predicted peak of a phase, and the measured one over it.
_PREDICTED = ("predicted_bytes", "predicted_ratio")


class Trials:
    """Runs the trials of a study; what they share is opened once.

    Args:
        file: The study.
        report: Called after every epoch and round.

    Raises:
        ConfigError: The device cannot be used.
    """

    def __init__(self, file: StudyFile, report: Report) -> None:
        config = file.config
        self._config = config
        self._report = report
        self._runtime = prepare(config.runtime)
        self._predictions = Predictions(self._runtime)
        self._budget = memory_budget(config.runtime, self._runtime.device)
        folder = Path(config.storage.folder)
        self._store = Store(folder)
        self._tracker = Tracker(folder, config.tracking.uri, config.experiment)
        self._datasets: dict[str, Dataset] = {}

    def check(self, points: list[Point]) -> None:
        """Whether every point has its data and its files, before anything is computed.

        Raises:
            InputError: Something is missing or does not fit.
        """
        for point in points:
            dataset = self._dataset(point.config.dataset)
            check_batches(point.config, dataset)
            check_source(point.config, dataset, StageContext(self._runtime, seed=0))

    def plan(self, points: Sequence[Point]) -> Plan:
        """What memory and how many steps points take; what is known of it serves the trials too."""
        outlines = {key: dataset.outline() for key, dataset in self._datasets.items()}
        planner = Planner(
            self._predictions,
            self._budget,
            self._config.sweep.seeds,
            lambda settings: outlines[settings.model_dump_json()],
        )
        return planner.plan(points)

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome:
        """Run a trial, or go on with it where it was stopped.

        Args:
            point: Its settings.
            seed: Its seed.
            number: Its number in the study.

        Raises:
            ZostudyError: The trial failed.
        """
        config = point.config
        phases = TrialPhases(config, seed, self._dataset(config.dataset), self._predictions)
        key = digest([self._config.study, point.key, phases.common()])
        params = {"technique": config.technique, "seed": seed} | flat(canonical(config))
        tags = {
            "zostudy.study": self._config.study,
            "zostudy.trial": str(number),
            "zostudy.data": phases.dataset.digest,
        }
        with self._tracker.trial(f"trial-{number}", key, params, tags) as run:
            self._describe(run, f"{point}", phases)
            metrics, genotype = self._phases(phases, run)
            run.metrics(metrics)
            return TrialOutcome(metrics, genotype.to_dict(), run.id)

    def evaluate(self, genotype: Genotype, seed: int) -> TrialOutcome:
        """Train and measure a given genotype with the study's settings, as a run of its own.

        Args:
            genotype: The architecture.
            seed: The seed of its training.

        Raises:
            ArchitectureError: The genotype is of another search space than the study.
            ZostudyError: The training failed.
        """
        config = self._config
        if genotype.space.name != config.search_space.name:
            raise ArchitectureError(
                f"genotype: is of the search space {genotype.space.name!r}; "
                f"the study has {config.search_space.name!r}"
            )
        phases = TrialPhases(config, seed, self._dataset(config.dataset), self._predictions)
        phase = phases.evaluate(genotype)
        key = digest([config.study, "genotype", phase.key])
        params = {"seed": seed} | flat(phase.settings)
        tags = {"zostudy.study": config.study, "zostudy.data": phases.dataset.digest}
        metrics: dict[str, float] = {}
        with self._tracker.trial("genotype", key, params, tags) as run:
            self._describe(run, "a given genotype", phases)
            self._keep_genotype(run, genotype)
            metrics |= _measured(self._phase(phase, phases, run, metrics))
            run.metrics(metrics)
            return TrialOutcome(metrics, genotype.to_dict(), run.id)

    def _dataset(self, settings: DatasetSettings) -> Dataset:
        key = settings.model_dump_json()
        if key not in self._datasets:
            self._datasets[key] = load(settings, self._config.extensions)
        return self._datasets[key]

    def _describe(self, run: Run, what: str, phases: TrialPhases) -> None:
        """What a trial's run carries whatever comes of it."""
        config, dataset = phases.config, phases.dataset
        run.note(f"{self._config.study}: {what}, seed {phases.seed}")
        run.json(to_document(config) | {"seed": phases.seed}, "settings.json")
        run.json(environment(), "environment.json")
        run.json(dataset.record(config.search.architecture_fraction), "splits.json")
        run.dataset(dataset.name, dataset.digest, "study", to_document(config.dataset))

    def _phases(self, phases: TrialPhases, run: Run) -> tuple[dict[str, float], Genotype]:
        metrics: dict[str, float] = {}
        pruned = self._phase(phases.prune(), phases, run, metrics)
        mask = phases.mask(pruned)
        metrics["operations"] = pruned["operations"]
        metrics |= {f"prune_{n}": pruned["figures"][n] for n in _TRUST if n in pruned["figures"]}
        run.json(pruned["mask"], "mask.json")
        if pruned["genotype"] is None:
            found = self._phase(phases.search(mask), phases, run, metrics)
        else:
            found = pruned
            metrics |= {"search_seconds": 0.0, "search_peak_bytes": 0.0}
        genotype = phases.genotype(found)
        self._keep_genotype(run, genotype)
        run.metrics(metrics)
        metrics |= _measured(self._phase(phases.evaluate(genotype), phases, run, metrics))
        return metrics, genotype

    def _keep_genotype(self, run: Run, genotype: Genotype) -> None:
        run.json(genotype.to_dict(), "genotype.json")
        run.figure(drawing.genotype_figure(genotype), "genotype.png")

    def _phase(
        self, phase: Phase, phases: TrialPhases, run: Run, metrics: dict[str, float]
    ) -> dict[str, Any]:
        """A phase's values, from the cache or computed; its figures are added to the metrics."""
        record = self._store.record(phase.name, phase.key)
        cached = record is not None
        tags = {"zostudy.phase": phase.name, "zostudy.cache_hit": str(cached)}
        if record is not None:
            tags[CACHE_FROM] = record.values["mlflow_run_id"]
        settings = flat(phase.settings)
        with run.child(phase.name, phase.key, settings, tags, cached=cached) as child:
            if record is None:
                self._compute(phase, phases, child)
                record = self._store.record(phase.name, phase.key)
            if record is None:
                raise TrialError(f"{phase.name}: the record cannot be read back")
            _log_history(child, record.values)
            _log_phase(child, phase.name, record.values, phases)
        for name in ("seconds", "peak_bytes", *_PREDICTED):
            if name in record.values:
                metrics[f"{phase.name}_{name}"] = record.values[name]
        return record.values

    def _compute(self, phase: Phase, phases: TrialPhases, child: Run) -> None:
        def report(progress: Progress) -> None:
            child.metrics(progress.metrics, step=progress.done)
            self._report(progress)

        checkpoint = self._store.checkpoint(phase.name, phase.checkpoint_key)
        stage = StageContext(self._runtime, phases.seed, checkpoint, report)
        predicted = phase.predict()
        if predicted > self._budget:
            raise MemoryShortageError(
                f"{phase.name}: needs {shown_bytes(predicted)}, more than runtime.memory_budget "
                f"allows ({shown_bytes(self._budget)}); `zostudy plan` says what would fit"
            )
        computed = _within_memory(phase, stage, child, predicted)
        values = computed.values | {"mlflow_run_id": child.id}
        if predicted:
            ratio = values["peak_bytes"] / predicted
            values |= dict(zip(_PREDICTED, (float(predicted), ratio), strict=True))
        self._store.save(phase.name, phase.key, values, computed.tensors)
        if not phase.lasting:
            checkpoint.clear()


def _within_memory(phase: Phase, stage: StageContext, run: Run, predicted: int) -> Computed:
    """Compute a phase; out of memory is recorded, and the memory is free again.

    Raises:
        MemoryShortageError: The memory is not there.
    """
    try:
        return phase.compute(stage)
    except (RuntimeError, MemoryError) as error:
        asked = asked_bytes(error)
        if asked is None:
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the phase's tensors
    gc.collect()
    if stage.runtime.device.type == "cuda":
        torch.cuda.empty_cache()
    run.tags({"zostudy.out_of_memory": "True"})
    run.metrics({"out_of_memory_asked_bytes": float(asked), "predicted_bytes": float(predicted)})
    raise MemoryShortageError(
        f"{phase.name}: out of memory: {shown_bytes(asked)} more were asked for; the prediction of "
        f"the phase is {shown_bytes(predicted)}"
    )


_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def asked_bytes(error: BaseException) -> int | None:
    """Bytes that could not be had, as the text of an error tells; 0 where it does not.

    Returns:
        Nothing where the error is not one of memory.
    """
    match = re.search(r"ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", str(error))
    if match:
        return int(float(match[1]) * _UNITS[match[2].removesuffix("bytes")])
    return 0 if isinstance(error, torch.OutOfMemoryError | MemoryError) else None


def _measured(values: Mapping[str, Any]) -> dict[str, float]:
    """The figures in an evaluate phase's values, as the trial's metrics."""
    names = ("test_accuracy", "validation_accuracy", "parameters", "macs")
    return {name: values[name] for name in names if values[name] is not None}


def check_source(config: TrialConfig, dataset: Dataset, stage: StageContext) -> None:
    """Run the check that a mask source names, if it names one.

    Raises:
        InputError: The mask source cannot work with these settings and this data.
    """
    component = mask_source(config)
    check = component.facts.get("check")
    if check is not None:
        context = prune_context(config, dataset, stage)
        component.sibling(str(check))(context, **config.prune.options)


def _trained_again(phase: Phase, phases: TrialPhases, report: Report) -> Mapping[str, torch.Tensor]:
    stage = StageContext(phases.runtime, phases.seed, report=report)
    return phase.compute(stage).tensors


def _log_history(run: Run, values: Mapping[str, Any]) -> None:
    """The figures of each epoch: those of a cached phase, or reported and lost in a crash."""
    for step, figures in enumerate(values.get("history", ()), start=1):
        run.metrics(figures, step=step)


def _log_phase(run: Run, name: str, values: Mapping[str, Any], phases: TrialPhases) -> None:
    """A finished phase's figures and artifacts."""
    shown = ("seconds", "peak_bytes", *_PREDICTED)
    run.metrics({key: values[key] for key in shown if key in values} | values["figures"])
    if name == "prune":
        run.json(values["mask"], "mask.json")
        trajectory = {name: values[name] for name in ("rounds", "edges", "added")}
        run.json(trajectory, "trajectory.json")
        run.figure(drawing.mask_figure(phases.mask(values)), "mask.png")
        if values["rounds"]:
            first = Round.of(values["rounds"][0], phases.mask(values))
            run.figure(drawing.scores_figure(first), "scores.png")
    if name == "search":
        run.json(values["genotype"], "genotype.json")
        run.json(values["alpha_history"], "alpha_history.json")
        run.figure(drawing.alpha_figure(values["alpha_history"], phases.space), "alpha.png")
    if name == "evaluate":
        run.metrics(_measured(values))


def export_trial(
    file: StudyFile, trial: Mapping[str, Any], output: Path, report: Report
) -> list[Path]:
    """Write the deployment bundle of a finished trial.

    Weights that the cache does not hold (it was cleared, or the trial ran elsewhere or with
    another version) are trained again.

    Args:
        file: The study.
        trial: The trial as `results` lists it.
        output: The folder to make.
        report: Called after every epoch of a training.

    Raises:
        ConfigError: The output folder holds something.
    """
    check_output(output)
    config = file.trial({k: v for k, v in trial["params"].items() if k != "seed"})
    dataset = load(config.dataset, config.extensions)
    genotype = from_dict(trial["genotype"], config.extensions)
    predictions = Predictions(prepare(config.runtime))
    phases = TrialPhases(config, trial["seed"], dataset, predictions)
    phase = phases.evaluate(genotype)
    record = Store(Path(file.config.storage.folder)).record(phase.name, phase.key)
    weights = record.tensors() if record else _trained_again(phase, phases, report)
    network = standalone(genotype, dataset, config.evaluate, config.extensions)
    network.load_state_dict(weights)
    provenance = {
        "study": file.config.study,
        "trial": trial["number"],
        "seed": trial["seed"],
        "params": json.dumps(trial["params"]),
        "mlflow_run_id": trial["mlflow_run_id"],
    } | dict(trial["metrics"])
    bundle = Bundle(
        network=network,
        genotype=genotype,
        mean=dataset.mean,
        std=dataset.std,
        channels=dataset.channels,
        height=dataset.height,
        width=dataset.width,
        classes=dataset.classes,
        provenance=provenance,
    )
    return export(bundle, output)
