"""The model registry of an MLflow store: a folder becomes the next version of a model.

The files go where the artifacts of the experiment are, as a logged model of the trial's run. The
version is made when all of them are there, and the alias is set last; what was begun is taken back
where a step fails. Nothing is pickled: a model is a folder of data and a module that loads it.
"""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from zostudy.errors import ConfigError, TrialError
from zostudy.redaction import without_password
from zostudy.study.delivery import location
from zostudy.study.delivery.mlflow_store import ERRORS, MlflowStore, cut, is_missing, one_line
from zostudy.study.tracking.runs import resolved_uri

#: The alias of the version that was registered last.
ALIAS = "champion"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MISSING = "RESOURCE_DOES_NOT_EXIST"
#: What databases keep of a description, and of a tag.
_LONGEST_DESCRIPTION, _LONGEST_TAG = 5000, 5000


@dataclass(frozen=True)
class Registered:
    """What is registered.

    Attributes:
        folder: The data of the model.
        loader: File of the module that loads it: ``_load_pyfunc(path)``.
        shape: Channels, height and width of a picture.
        labels: Names of the probabilities.
        requirements: Packages that loader and data need, as pip takes them.
        description: What the model is, in Markdown.
        version_description: What the version is, likewise.
        tags: Lineage of the version, by name.
    """

    folder: Path
    loader: Path
    shape: tuple[int, ...]
    labels: Sequence[str]
    requirements: Sequence[str]
    description: str
    version_description: str
    tags: Mapping[str, str]


def check_name(name: str) -> None:
    """Whether a name can be that of a registered model.

    Raises:
        ConfigError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--register: {name!r} is no name of a model; allowed: up to 200 of the letters a to z "
            "and A to Z, digits, '.', '_' and '-', the first a letter or a digit"
        )


class Registry:
    """A registered model of a study's store, and the run that its next version comes from.

    Args:
        uri: MLflow tracking URI, as in a study file.
        experiment: Name of the experiment.
        name: Name of the registered model; it need not exist.
        run_id: MLflow's id of the trial's run.

    Raises:
        StoreAwayError: The store cannot be reached, or does not answer.
        ConfigError: The name is not allowed, or the store has no registry or lacks the run.
    """

    def __init__(self, uri: str, experiment: str, name: str, run_id: str) -> None:
        check_name(name)
        self._name, self._run_id = name, run_id
        self._shown = without_password(resolved_uri(uri))
        if is_missing(uri):
            raise self._without_run()
        store = MlflowStore(uri, experiment)
        store.settle()
        self._experiment_id = store.experiment_id
        self._uri = location.absolute(store.uri)
        self._client = MlflowClient(self._uri, self._uri)
        try:
            self._client.search_registered_models(max_results=1)
            self._client.get_run(run_id)
        except ERRORS as error:
            if getattr(error, "error_code", "") == _MISSING:
                raise self._without_run() from error
            raise ConfigError(
                f"--register: {self._shown!r} cannot register models ({one_line(error)})"
            ) from error

    def register(self, model: Registered) -> str:
        """Make the next version and give it the alias; the version.

        Raises:
            TrialError: The store does not take it. The version is not made then.
        """
        try:
            with contextlib.ExitStack() as undo, tempfile.TemporaryDirectory() as folder:
                logged = self._logged(undo)
                path = Path(folder) / "model"
                _save(model, path, logged)
                self._client.log_model_artifacts(logged.model_id, str(path))
                self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
                version = self._version(model, logged, undo)
                undo.pop_all()
        except ERRORS as error:
            raise TrialError(
                f"--register: {self._shown!r} does not take the model {self._name!r} "
                f"({one_line(error)}); the bundle is in {str(model.folder)!r}"
            ) from error
        return version

    def _logged(self, undo: contextlib.ExitStack) -> LoggedModel:
        """A model of the run that has no files yet."""
        logged = self._client.create_logged_model(
            self._experiment_id, self._name.replace(".", "_"), self._run_id
        )

        @undo.callback
        def take_back() -> None:
            with _tried():
                place = get_artifact_repository(logged.artifact_location, self._uri)
                place.delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's
            with _tried():
                self._client.delete_logged_model(logged.model_id)

        return logged

    def _version(self, model: Registered, logged: LoggedModel, undo: contextlib.ExitStack) -> str:
        """The next version, with its alias."""
        name, before = self._name, self._made(model.description, undo)

        @undo.callback
        def take_back() -> None:
            with _tried():
                for made in self._client.search_model_versions(f"name = '{name}'"):
                    if made.source == logged.artifact_location:
                        self._client.delete_model_version(name, made.version)
            if before:
                with _tried():
                    self._client.set_registered_model_alias(name, ALIAS, before)

        version = self._client.create_model_version(
            name,
            logged.artifact_location,
            self._run_id,
            tags=cut(model.tags, _LONGEST_TAG),
            description=model.version_description[:_LONGEST_DESCRIPTION],
            model_id=logged.model_id,
        ).version
        self._client.set_registered_model_alias(name, ALIAS, version)
        return str(version)

    def _made(self, description: str, undo: contextlib.ExitStack) -> str | None:
        """Make the registered model where it is missing; the version that has the alias so far."""
        description = description[:_LONGEST_DESCRIPTION]
        try:
            there = self._client.get_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise

            @undo.callback
            def take_back() -> None:
                with _tried():
                    if not self._client.search_model_versions(f"name = '{self._name}'"):
                        self._client.delete_registered_model(self._name)

            self._client.create_registered_model(self._name, description=description)
            return None
        if not there.description:
            self._client.update_registered_model(self._name, description)
        return there.aliases.get(ALIAS)  # type: ignore[no-any-return]  # MLflow's

    def _without_run(self) -> ConfigError:
        return ConfigError(
            f"--register: {self._shown!r} does not hold the trial's run {self._run_id!r}, which a "
            "version names as its origin; `zostudy run STUDY` delivers what waits, and `zostudy "
            "doctor STUDY` finds what is lost"
        )


def _save(model: Registered, path: Path, logged: LoggedModel) -> None:
    """Write a folder in MLflow's format."""
    named = path.parent / "bundle"
    named.symlink_to(model.folder.resolve())  # whose name the copy has, whatever the folder's is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, on its own code
        pyfunc.save_model(
            path,
            loader_module=model.loader.stem,
            data_path=str(named),
            code_paths=[str(model.loader)],
            mlflow_model=Model(run_id=logged.source_run_id, model_id=logged.model_id),
            signature=ModelSignature(
                Schema([TensorSpec(np.dtype(np.uint8), (-1, *model.shape))]),
                Schema([ColSpec(DataType.float, name) for name in model.labels]),
            ),
            input_example=np.full((1, *model.shape), 128, np.uint8),
            pip_requirements=list(model.requirements),
        )


@contextlib.contextmanager
def _tried() -> Iterator[None]:
    """A step of taking back, which may fail as what came before it has."""
    with contextlib.suppress(*ERRORS, NotImplementedError):
        yield
