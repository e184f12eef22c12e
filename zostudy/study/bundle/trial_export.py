"""The deployment bundle of a trial: its network from the cache, or trained again.

A bundle is of what the trial used, or there is none: other data, files or extensions are refused.
Weights that the cache holds are the trial's own, whatever engine or device looks them up; there
the network is measured again. Weights that it does not hold are trained again by the engine and on
the type of device of the trial, and the card has the figures of that training.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zostudy.config.loading import StudyFile
from zostudy.errors import ConfigError
from zostudy.evaluation.training import accuracy, standalone
from zostudy.metrics import measured
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.redaction import without_passwords
from zostudy.runtime import prepare
from zostudy.space.genotype import Genotype, from_dict
from zostudy.stage import StageContext
from zostudy.study.bundle.export import export
from zostudy.study.bundle.folder import Destination, check_output
from zostudy.study.bundle.formats import check_calibration
from zostudy.study.bundle.program import Bundle
from zostudy.study.identity.data import loaded
from zostudy.study.ingredients import OF_LATENCY, Difference, Ingredients, differences
from zostudy.study.planning.peak_memory import Predictions
from zostudy.study.store.records import Store
from zostudy.study.trial.computing import Report
from zostudy.study.trial.phases import TrialPhases


def export_trial(
    file: StudyFile, trial: Mapping[str, Any], destination: Destination, report: Report
) -> list[Path]:
    """Write the deployment bundle of a finished trial.

    Weights that the cache does not hold (it was cleared, or the trial ran elsewhere) are trained
    again.

    Args:
        file: The study.
        trial: The trial as `results` lists it; also ``spread``, the figures of its point.
        destination: What to write, and where.
        report: Called after every epoch of a training.

    Raises:
        ConfigError: The output folder holds something, nothing was trained, what the trial used is
            not here, or it has too few pictures to calibrate.
    """
    check_output(destination.output, force=destination.force)
    config = file.trial({k: v for k, v in trial["params"].items() if k != "seed"})
    if not config.evaluate.evaluator.trains:
        raise ConfigError(
            f"export: trial {trial['number']} was evaluated by a {config.evaluate.by} and nothing "
            "was trained; `zostudy run STUDY --set evaluate.by=training` trains what the searches "
            "found (they come from the cache), and export with the same --set writes it; "
            "`zostudy evaluate STUDY GENOTYPE --set evaluate.by=training` trains a single genotype"
        )
    dataset = loaded(config.dataset, config.extensions, file.folder, trial["seed"])
    if destination.formats.int8:
        check_calibration(dataset.train)
    genotype = from_dict(trial["genotype"], config.extensions)
    phases = TrialPhases(config, trial["seed"], dataset, Predictions(prepare(config.runtime)))
    recorded: Ingredients = trial.get("made_of", {})
    matter = tuple(name for name in recorded if name not in OF_LATENCY)  # of the weights
    changed = differences(recorded, phases.made_of, matter)
    _refuse(trial, [difference for difference in changed if not difference.of_machine])
    found = _found(file, phases, genotype, changed) or _trained(
        trial, phases, genotype, report, changed
    )
    kept = found.metrics if found.anew else dict(trial["metrics"]) | found.metrics
    provenance = {
        "study": file.config.study,
        "trial": trial["number"],
        "seed": trial["seed"],
        "params": json.dumps(without_passwords(trial["params"])),
        "mlflow_run_id": trial["mlflow_run_id"],
        "data": dataset.study_digest,
        "weights": "trained again for this bundle" if found.anew else "of the trial",
    }
    bundle = Bundle(
        network=found.network,
        genotype=genotype,
        mean=dataset.mean,
        std=dataset.std,
        train=dataset.train,
        test=dataset.test,
        classes=dataset.classes,
        provenance=provenance,
        metrics=kept,
        spread={} if found.anew else trial.get("spread", {}),
        bits=dataset.reading.bits,
    )
    return export(bundle, destination.output, destination.formats, force=destination.force)


@dataclass(frozen=True)
class _Found:
    """A trained network, and what was measured on it.

    Attributes:
        network: The network.
        metrics: Its figures.
        anew: Whether it was trained for the bundle.
    """

    network: StandaloneNetwork
    metrics: dict[str, float]
    anew: bool = False


def _refuse(trial: Mapping[str, Any], changed: list[Difference]) -> None:
    """End where a trial is made of something else than what is here.

    Raises:
        ConfigError: It is.
    """
    if changed:
        raise ConfigError(
            f"export: trial {trial['number']} is made of something else than what is here: "
            f"{'; '.join(map(str, changed))}; bring back what it used, or export a trial of what "
            "is here"
        )


def _found(
    file: StudyFile, phases: TrialPhases, genotype: Genotype, changed: tuple[Difference, ...]
) -> _Found | None:
    """The network of a trial from the cache, if it is there."""
    elsewhere = {difference.name: difference.then for difference in changed}
    own = TrialPhases(
        phases.config, phases.seed, phases.dataset, phases.predictions, elsewhere=elsewhere
    )
    phase = own.evaluate(genotype)
    record = Store(file.folder).record(phase.name, phase.key)
    if record is None:
        return None
    network = _network(phases, genotype, record.tensors())
    metrics = measured(phase.name, record.values)
    return _Found(network, metrics | (_measured_again(phases, network) if changed else {}))


def _network(
    phases: TrialPhases, genotype: Genotype, weights: Mapping[str, torch.Tensor]
) -> StandaloneNetwork:
    """The network of a genotype with its weights.

    Raises:
        ConfigError: The engine that is here builds another network.
    """
    config = phases.config
    network = standalone(genotype, phases.dataset, config.evaluate)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            "export: the weights of the trial do not fit the network that this version of zostudy "
            "builds; install the version that ran it"
        ) from error
    return network


def _measured_again(phases: TrialPhases, network: StandaloneNetwork) -> dict[str, float]:
    """The accuracies of a network, in percent, by the engine and on the device that are here."""
    dataset, size, runtime = phases.dataset, phases.config.evaluate.batch_size, phases.runtime
    network.to(runtime.device)
    parts = {"validation_accuracy": dataset.validation, "test_accuracy": dataset.test}
    found = {
        name: accuracy(network, dataset, pictures, size, runtime)
        for name, pictures in parts.items()
        if pictures is not None
    }
    network.cpu()
    return found


def _trained(
    trial: Mapping[str, Any],
    phases: TrialPhases,
    genotype: Genotype,
    report: Report,
    changed: tuple[Difference, ...],
) -> _Found:
    """The network of a trial, trained again.

    Raises:
        ConfigError: What is here would not train the trial's network.
    """
    if changed:
        raise ConfigError(
            f"export: the cache does not hold the weights of trial {trial['number']}, and they "
            f"would not be trained again as they were: {'; '.join(map(str, changed))}; export it "
            "where it was run, or `zostudy run --renew` runs it again here"
        )
    stage = StageContext(phases.runtime, phases.seed, report=report)
    phase = phases.evaluate(genotype)
    computed = phase.compute(stage)
    figures = measured(phase.name, computed.values)
    return _Found(_network(phases, genotype, computed.tensors), figures, anew=True)
