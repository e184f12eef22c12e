"""What MLflow holds of a trial to look at: pictures, and the course of its epochs; only read."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

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

#: The pictures of a phase, and the figures of its epochs.
PICTURES = {"prune": "mask.png", "search": "alpha.png"}
FIGURES = ("train_accuracy", "architecture_accuracy", "validation_accuracy")


@dataclass(frozen=True)
class Seen:
    """What there is to see of a trial.

    Attributes:
        pictures: For each phase that has one, its picture as PNG.
        courses: For each phase and figure, its values by epoch.
    """

    pictures: Mapping[str, bytes] = field(default_factory=dict)
    courses: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]] = field(default_factory=dict)


class RunPictures:
    """Reads runs of one store.

    Args:
        uri: MLflow tracking URI, as ``tracking.uri`` has it.

    Raises:
        ConfigError: The store is not there or does not answer.
    """

    def __init__(self, uri: str) -> None:
        uri = resolved_uri(uri)
        self._place = f"tracking.uri: {without_password(uri)!r}"
        if is_missing(uri):
            raise ConfigError(f"{self._place} is not there")
        check_reachable(uri)
        self._client = MlflowClient(location.absolute(uri))

    def of(self, run_id: str) -> Seen:
        """What there is to see of a trial's run; what cannot be read is left out.

        Raises:
            ConfigError: The store does not hold the run, or does not answer any more.
        """
        try:
            run = self._client.get_run(run_id)
            under = self._client.search_runs([run.info.experiment_id], children_of(run_id))
            phases = {str(one.data.tags.get("zostudy.phase", "")): one for one in under}
            pictures = {
                phase: found
                for phase, name in PICTURES.items()
                if phase in phases and (found := self._picture(phases[phase], name))
            }
            courses = {phase: self._courses(one) for phase, one in phases.items()}
        except (*ERRORS, ImportError) as error:
            why = one_line(error)
            raise ConfigError(f"{self._place}: run {run_id!r} cannot be read ({why})") from error
        return Seen(pictures, {phase: found for phase, found in courses.items() if found})

    def _courses(self, run: MlflowRun) -> dict[str, list[tuple[int, float]]]:
        found = {}
        for name in FIGURES:
            if name in run.data.metrics:
                history = self._client.get_metric_history(run.info.run_id, name)
                course = sorted({one.step: one.value for one in history if one.step}.items())
                if len(course) > 1:
                    found[name] = course
        return found

    def _picture(self, run: MlflowRun, name: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._client.download_artifacts(run.info.run_id, name, folder)
                return (Path(folder) / name).read_bytes()
            except ERRORS:
                return b""  # it is not there
