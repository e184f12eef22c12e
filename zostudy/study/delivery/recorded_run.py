"""What MLflow holds of a trial's run: read, and nothing is written."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.utils import mlflow_tags

from zostudy.errors import ConfigError
from zostudy.redaction import without_password
from zostudy.study.delivery import location
from zostudy.study.delivery.mlflow_store import (
    ERRORS,
    check_reachable,
    children_of,
    is_missing,
    one_line,
)
from zostudy.study.tracking.runs import resolved_uri


@dataclass(frozen=True)
class RecordedPhase:
    """The run of one phase.

    Attributes:
        history: For each epoch or round, its metrics by name.
        metrics: Those of the whole phase.
        files: Its JSON artifacts, by name without the ending.
    """

    history: Sequence[Mapping[str, float]]
    metrics: Mapping[str, float]
    files: Mapping[str, Any]


@dataclass(frozen=True)
class RecordedRun:
    """The run of a trial.

    Attributes:
        run_id: MLflow's id of it.
        status: How it ended: ``FINISHED``, or another word of MLflow's.
        parent: The run that it is under; empty where it is a trial's own.
        tags: Its tags.
        params: Its parameters.
        metrics: Its metrics by name.
        files: Its JSON artifacts, by name without the ending.
        phases: The finished runs under it, by the phase.
    """

    run_id: str
    status: str
    parent: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, Any]
    phases: Mapping[str, RecordedPhase] = field(default_factory=dict)


def read(uri: str, run_id: str) -> RecordedRun:
    """Read a run.

    Args:
        uri: MLflow tracking URI, as ``tracking.uri`` has it.
        run_id: MLflow's id of the run.

    Raises:
        ConfigError: The store is not there or does not answer, or does not hold the run.
    """
    uri = resolved_uri(uri)
    place = f"tracking.uri: {without_password(uri)!r}"
    if is_missing(uri):
        raise ConfigError(f"{place} is not there")
    check_reachable(uri)
    try:
        client = MlflowClient(location.absolute(uri))
        run = client.get_run(run_id)
        under = client.search_runs(
            [run.info.experiment_id], children_of(run_id), order_by=["attributes.start_time ASC"]
        )
        finished = [child for child in under if child.info.status == "FINISHED"]
        phases = {_phase_of(child): _phase(client, child) for child in finished}
        files = _files(client, run, ("settings", "environment", "genotype"))
    except (*ERRORS, ImportError) as error:
        raise ConfigError(f"{place}: run {run_id!r} cannot be read ({one_line(error)})") from error
    tags = dict(run.data.tags)
    return RecordedRun(
        run_id,
        str(run.info.status),
        tags.get(mlflow_tags.MLFLOW_PARENT_RUN_ID, ""),
        tags,
        dict(run.data.params),
        dict(run.data.metrics),
        files,
        phases,
    )


def _phase_of(run: MlflowRun) -> str:
    return str(run.data.tags.get("zostudy.phase", ""))


def _phase(client: MlflowClient, run: MlflowRun) -> RecordedPhase:
    steps: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            steps.setdefault(metric.step, {})[name] = metric.value
    whole = steps.pop(0, {})
    files = _files(client, run, ("mask", "trajectory", "genotype", "alpha_history"))
    return RecordedPhase([steps[step] for step in sorted(steps)], whole, files)


def _files(client: MlflowClient, run: MlflowRun, names: Sequence[str]) -> dict[str, Any]:
    """The JSON artifacts of those names that are there and can be read."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            there = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        except ERRORS:
            return {}
        for name in names:
            path = f"{name}.json"
            if path in there:
                try:
                    client.download_artifacts(run.info.run_id, path, folder)
                    found[name] = json.loads((Path(folder) / path).read_bytes())
                except (*ERRORS, ValueError):
                    continue  # it is damaged, and counts as not there
    return found
