"""The deployment bundle of a trial: its network from the cache, or trained again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zostudy.config.loading import StudyFile
from zostudy.data.dataset import load
from zostudy.errors import ConfigError
from zostudy.evaluation.training import standalone
from zostudy.redaction import without_passwords
from zostudy.runtime import prepare
from zostudy.space.genotype import from_dict
from zostudy.stage import StageContext
from zostudy.study.bundle.export import Bundle, check_output, export
from zostudy.study.planning.prediction import Predictions
from zostudy.study.store.store import Store
from zostudy.study.trial.computing import Report
from zostudy.study.trial.phases import Phase, TrialPhases


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
        ConfigError: The output folder holds something, or nothing was trained.
    """
    check_output(output)
    config = file.trial({k: v for k, v in trial["params"].items() if k != "seed"})
    if config.evaluate.by == "table":
        raise ConfigError(
            f"export: trial {trial['number']} was evaluated by a table and nothing was trained; "
            "`zostudy run STUDY --set evaluate.by=training` trains what the searches found (they "
            "come from the cache), and export with the same --set writes it; `zostudy evaluate "
            "STUDY GENOTYPE --set evaluate.by=training` trains a single genotype"
        )
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
        "params": json.dumps(without_passwords(trial["params"])),
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
        bits=dataset.reading.bits,
    )
    return export(bundle, output)


def _trained_again(phase: Phase, phases: TrialPhases, report: Report) -> Mapping[str, torch.Tensor]:
    stage = StageContext(phases.runtime, phases.seed, report=report)
    return phase.compute(stage).tensors
