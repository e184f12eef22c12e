"""An experiment in an MLflow store: explicit clients, never MLflow's global state."""

import json
import logging
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from urllib.parse import urlsplit
from urllib.request import getproxies

# MLflow reads these when it is imported or asks its server. A study reports to its own store and
# to nobody else. Who waits for a server that is away is decided here, not in MLflow: its own
# retries take minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"  # a model holds no files of the working directory

from alembic.util.exc import CommandError
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils import mlflow_tags
from sqlalchemy.exc import SQLAlchemyError

from zostudy.errors import ConfigError, ZostudyError
from zostudy.redaction import redacted, without_password
from zostudy.study.delivery import location
from zostudy.study.disk import sqlite
from zostudy.study.tracking.runs import KEY, plain_key, resolved_uri

#: What a store's client raises.
ERRORS = (MlflowException, SQLAlchemyError, OSError)

#: Name of a view of the table of runs, and the experiment's tag that MLflow's page keeps it in.
_VIEW = "zostudy"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"

#: The experiment's tag that says what it is for: model training, and not language models.
_KIND_TAG = "mlflow.experimentKind"

_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_REACH_SECONDS = 3
#: Of HTTP's client errors, those that say nothing against what was sent.
_PASSING = (401, 403, 408, 429)
#: What databases say where two processes make the same row at once.
_RACED = ("IntegrityError", "UniqueViolation", "UNIQUE constraint")


class StoreAwayError(ConfigError):
    """The store cannot be reached, or is in no state to answer: it may be back later."""


class MlflowStore:
    """One experiment in an MLflow store, both created where they are missing.

    Args:
        uri: MLflow tracking URI; ``default`` is ``MLFLOW_TRACKING_URI`` or else MLflow's own
            default store.
        experiment: Name of the experiment.

    Attributes:
        uri: The tracking URI, resolved; it may hold a password.
        client: MLflow's client of it.
        experiment_id: MLflow's id of the experiment.

    Raises:
        StoreAwayError: The store cannot be reached, or does not answer.
        ConfigError: It is no MLflow store, or the experiment was deleted.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.uri = resolved_uri(uri)
        self._experiment = experiment
        check_reachable(self.uri)
        try:
            self.client = MlflowClient(location.absolute(self.uri))
            self.experiment_id = self._experiment_id()
        except (*ERRORS, CommandError, ImportError) as error:
            away = is_server(self.uri) and refusal(error, self.uri) is None
            raise (StoreAwayError if away else ConfigError)(
                f"tracking.uri: {without_password(self.uri)!r} "
                f"{'does not answer' if away else 'is not usable as an MLflow store'} "
                f"({one_line(error)})"
            ) from error

    @property
    def move(self) -> location.Move | None:
        """How the folder of a SQLite file has moved since artifacts were placed beside it.

        Raises:
            ConfigError: The file cannot be read.
        """
        return location.move(self.uri, self._experiment)

    def settle(self) -> None:
        """Let MLflow know where the artifacts are, if the folder of a SQLite file has moved.

        Raises:
            ConfigError: The file cannot be written.
        """
        move = self.move
        if move is not None:
            move.settle()

    def page(self, server: str) -> str:
        """Address of the experiment's table of runs on an MLflow server.

        MLflow's page otherwise opens on its part for language models, and without any figures.
        """
        view = _VIEW_TAG in self.client.get_experiment(self.experiment_id).tags
        query = "workflowType=machine_learning" + (f"&viewStateShareKey={_VIEW}" if view else "")
        return f"{server.rstrip('/')}/#/experiments/{self.experiment_id}/runs?{query}"

    def present(self, description: str, params: Sequence[str], metrics: Sequence[str]) -> None:
        """Set what :meth:`page` shows: a description in Markdown, and columns beside the runs."""
        columns = [*(f"params.`{p}`" for p in params), *(f"metrics.`{m}`" for m in metrics)]
        wanted = {
            mlflow_tags.MLFLOW_RUN_NOTE: without_password(description),
            _VIEW_TAG: json.dumps({"selectedColumns": columns}),
            _KIND_TAG: "custom_model_development",
        }
        there = self.client.get_experiment(self.experiment_id).tags
        for name, value in wanted.items():
            if there.get(name) != value:
                self.client.set_experiment_tag(self.experiment_id, name, value)

    def search(self, *conditions: str) -> list[MlflowRun]:
        """Runs that meet conditions in MLflow's query language, the newest first."""
        found: list[MlflowRun] = []
        token = None
        while True:
            part = self.client.search_runs(
                [self.experiment_id],
                " and ".join(conditions),
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += part
            token = part.token
            if not token:
                return found

    def newest(self, key: str, parent: str = "") -> MlflowRun | None:
        """The newest run of a key, under a parent run if one is given; nothing if there is none."""
        under = [children_of(parent)] if parent else []
        return next(iter(self.search(f"tags.`{KEY}` = '{plain_key(key)}'", *under)), None)

    def end_orphans(self, study: str, alive: Callable[[], Collection[int]]) -> list[str]:
        """End the runs of dead processes: RUNNING, though nobody runs their trial.

        Args:
            study: The study whose trials they are.
            alive: Asked for the numbers of the trials that are being run, after the runs were
                listed: a run begins after its trial, so that no run of a living one is ended.

        Returns:
            The names of the trials' runs that were ended, with their children, as KILLED.
        """
        ended = []
        for run, children in self.orphans(study, alive):
            for one in (*children, run):
                self.client.set_terminated(one.info.run_id, "KILLED")
            ended.append(str(run.info.run_name))
        return ended

    def orphans(
        self, study: str, alive: Callable[[], Collection[int]]
    ) -> list[tuple[MlflowRun, list[MlflowRun]]]:
        """What :meth:`end_orphans` would end: trials' runs, each with its children."""
        running = self.search("attributes.status = 'RUNNING'")
        numbers = set(alive())
        parents: dict[str, list[MlflowRun]] = {}
        for run in running:
            parents.setdefault(run.data.tags.get(mlflow_tags.MLFLOW_PARENT_RUN_ID, ""), []).append(
                run
            )
        return [
            (run, parents.get(run.info.run_id, []))
            for run in parents.get("", [])
            if run.data.tags.get("zostudy.study") == study
            and "zostudy.trial" in run.data.tags
            and int(run.data.tags["zostudy.trial"]) not in numbers
        ]

    def _experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(self._experiment)
        if found is None:
            place = location.artifact_location(self.uri, self._experiment)
            try:
                return str(self.client.create_experiment(self._experiment, place))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self._experiment_id()  # another process was faster
        if found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise ConfigError(
                f"tracking.experiment: {self._experiment!r} was deleted in "
                f"{without_password(self.uri)}; choose another name, or bring it back: "
                f"mlflow experiments restore --experiment-id {found.experiment_id}"
            )
        return str(found.experiment_id)


def is_server(uri: str) -> bool:
    """Whether a tracking URI is that of an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def is_missing(uri: str) -> bool:
    """Whether a tracking URI is that of a SQLite file that has still to be made."""
    path = location.database(resolved_uri(uri))
    return path is not None and not path.exists()


def refusal(error: BaseException, uri: str) -> str | None:
    """Why the store will not take what was sent, however often; nothing where it may yet."""
    if any(word in str(error) for word in _RACED):
        return None  # another process made the same row at the same time; it is there next time
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]  # MLflow's
        if is_server(uri) and not isinstance(error, RestException):
            return None  # not MLflow's own answer
    else:
        status = getattr(getattr(error, "response", None), "status_code", 0)
    return one_line(error) if 400 <= status < 500 and status not in _PASSING else None


def children_of(run_id: str) -> str:
    """The condition of being a child of a run, in MLflow's query language."""
    return f"tags.`{mlflow_tags.MLFLOW_PARENT_RUN_ID}` = '{run_id}'"


def one_line(error: BaseException) -> str:
    """An error in one line, without passwords."""
    if said := sqlite.meaning(error):
        return said
    text = redacted(" ".join(str(error).split()))
    return text if isinstance(error, ZostudyError) else f"{type(error).__name__}: {text}"


def check_reachable(uri: str) -> None:
    """Fail at once where a connection would be waited for."""
    try:
        parts = urlsplit(uri)
        scheme = parts.scheme.partition("+")[0]
        if not parts.hostname or scheme not in _PORTS or scheme in getproxies():
            return
        address = (parts.hostname, parts.port or _PORTS[scheme])
        socket.create_connection(address, _REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise (StoreAwayError if isinstance(error, OSError) else ConfigError)(
            f"tracking.uri: {without_password(uri)!r} cannot be reached ({one_line(error)})"
        ) from error


def cut(texts: Mapping[str, str], limit: int) -> dict[str, str]:
    """Texts no longer than MLflow keeps them."""
    return {
        name: text if len(text) <= limit else text[: limit - 1] + "…"
        for name, text in texts.items()
    }
