"""MLflow: where every figure, file and picture of a study is kept.

The experiment is the study; each trial is a run, and its phases are child runs of it. A run carries
the digest of what it computes as the tag ``zostudy.key``: a trial's run of the same key (its
process was killed, or it failed) is gone on with and not left behind; its finished children stay.

Only explicit clients are used, never MLflow's global state.
"""

import contextlib
import functools
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

# MLflow reads these when it is imported. A study reports to its own store and to nobody else.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from alembic.util.exc import CommandError
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils import mlflow_tags, validation
from sqlalchemy.exc import SQLAlchemyError

from zostudy import __version__
from zostudy.errors import ConfigError, ZostudyError

#: MLflow's own default store, in the working directory.
DEFAULT_URI = "sqlite:///mlflow.db"

_KEY = "zostudy.key"
_REASON = "zostudy.reason"
#: Name of a view of the table of runs, and the experiment's tag that MLflow's page keeps it in.
_VIEW = "zostudy"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"

_NOTE = mlflow_tags.MLFLOW_RUN_NOTE
_SOURCE = {mlflow_tags.MLFLOW_SOURCE_NAME: "zostudy", mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL"}
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_REACH_SECONDS = 10


class Run:
    """A run that is being written to; see :meth:`Tracker.trial`.

    Attributes:
        id: MLflow's id of the run.
    """

    def __init__(self, tracker: "Tracker", run: MlflowRun) -> None:
        self.id: str = run.info.run_id
        self._tracker = tracker
        self._client = tracker.client
        self._logged = set(run.data.params)

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; those that the run has already keep their value, as MLflow demands."""
        new = {name: value for name, value in values.items() if name not in self._logged}
        limit = validation.MAX_PARAM_VAL_LENGTH
        self._log("params", [Param(name, _cut(str(value), limit)) for name, value in new.items()])
        self._logged |= set(new)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log figures, finite or not, of an epoch or round (the step) or of the whole run (0)."""
        now = int(time.time() * 1000)
        self._log("metrics", [Metric(name, float(v), now, step) for name, v in values.items()])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name."""
        limit = validation.MAX_TAG_VAL_LENGTH
        self._log("tags", [RunTag(name, _cut(value, limit)) for name, value in values.items()])

    def _log(self, kind: str, entries: list[Any]) -> None:
        """Send entries in requests no larger than MLflow takes."""
        size = validation.MAX_PARAMS_TAGS_PER_BATCH
        for start in range(0, len(entries), size):
            part: Any = entries[start : start + size]
            self._client.log_batch(self.id, **{kind: part})

    def note(self, text: str) -> None:
        """Set the description that MLflow's page shows with the run, in Markdown."""
        self.tags({_NOTE: text})

    def json(self, value: object, path: str) -> None:
        """Keep plain values as a JSON artifact under this path."""
        self.text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", path)

    def text(self, text: str, path: str) -> None:
        """Keep text as an artifact under this path."""
        self._client.log_text(self.id, text, path)

    def figure(self, figure: Figure, path: str) -> None:
        """Keep a figure as an artifact under this path, whose ending is the format (``.png``)."""
        self._client.log_figure(self.id, figure, path)

    def file(self, local_path: Path, artifact_folder: str = "") -> None:
        """Keep a file as an artifact under its own name, in a folder if one is given."""
        self._client.log_artifact(self.id, str(local_path), artifact_folder or None)

    def dataset(self, name: str, digest: str, context: str, source: Mapping[str, object]) -> None:
        """Record the data that the run reads.

        Args:
            name: Name of the data set.
            digest: Digest of its pictures and splits; MLflow shows its first 36 characters.
            context: What it is read for, such as ``training``.
            source: Where it comes from, as plain values.
        """
        short = digest[: validation.MAX_DATASET_DIGEST_SIZE]
        data = Dataset(name, short, "code", json.dumps(dict(source)))
        tag = InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, context)
        self._client.log_inputs(self.id, [DatasetInput(data, [tag])])

    def child(
        self, name: str, key: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> contextlib.AbstractContextManager["Run"]:
        """A run under this one, otherwise as :meth:`Tracker.trial`."""
        return self._tracker.open(name, key, params, tags, parent=self.id)

    def has_finished_child(self, key: str) -> bool:
        """Whether the newest run of a key under this one is complete."""
        found = self._tracker.newest(key, _children_of(self.id))
        return found is not None and found.info.status == "FINISHED"


class Tracker:
    """One experiment in an MLflow store, both created where they are missing.

    Args:
        uri: MLflow tracking URI; ``default`` is ``MLFLOW_TRACKING_URI`` or else
            :data:`DEFAULT_URI`.
        experiment: Name of the experiment.

    Attributes:
        uri: The tracking URI, resolved; it may hold a password.
        client: MLflow's client of it.
        experiment_id: MLflow's id of the experiment.

    Raises:
        ConfigError: The store cannot be reached or is no MLflow store, or the experiment was
            deleted.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.uri = resolved_uri(uri)
        self._experiment = experiment
        _check_reachable(self.uri)
        try:
            self.client = MlflowClient(_absolute(self.uri))
            self.experiment_id = self._experiment_id()
        except (MlflowException, SQLAlchemyError, CommandError, ImportError, OSError) as error:
            raise ConfigError(
                f"tracking.uri: {without_password(self.uri)!r} is not usable as an MLflow store "
                f"({_one_line(error)})"
            ) from error

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
        view = json.dumps({"selectedColumns": columns})
        self.client.set_experiment_tag(self.experiment_id, _NOTE, description)
        self.client.set_experiment_tag(self.experiment_id, _VIEW_TAG, view)

    def find(self, key: str) -> str | None:
        """Id of the newest run of a key, whatever its state; nothing if there is none."""
        run = self.newest(key)
        return run.info.run_id if run else None

    def trial(
        self, name: str, key: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[Run]:
        """The run of a trial: the one of this key, or a new one.

        It ends as FINISHED; as KILLED on an interrupt; as FAILED, with its reason as a tag, on an
        exception. The key is a digest of all that determines what it computes.
        """
        here = {"zostudy.version": __version__}
        if self._git_commit:
            here[mlflow_tags.MLFLOW_GIT_COMMIT] = self._git_commit
        return self.open(name, key, params, {**here, **tags})

    @contextlib.contextmanager
    def open(
        self,
        name: str,
        key: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        parent: str = "",
    ) -> Iterator[Run]:
        """As :meth:`trial`, and under a parent run where one is given."""
        run = self._reopened(name, key, parent) or self._created(name, key, parent)
        try:
            run.tags(tags)
            run.params(params)
            yield run
        except Exception as error:
            with contextlib.suppress(MlflowException):  # the first error is the one that counts
                run.tags({_REASON: _one_line(error)})
                self.client.set_terminated(run.id, "FAILED")
            raise
        except BaseException:
            with contextlib.suppress(MlflowException):  # likewise
                self.client.set_terminated(run.id, "KILLED")
            raise
        self.client.set_terminated(run.id, "FINISHED")

    def _experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(self._experiment)
        if found is None:
            location = _artifact_location(self.uri, self._experiment)
            try:
                return str(self.client.create_experiment(self._experiment, location))
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

    def _search(self, *conditions: str) -> Sequence[MlflowRun]:
        query, order = " and ".join(conditions), ["attributes.start_time DESC"]
        return self.client.search_runs([self.experiment_id], query, order_by=order)

    def newest(self, key: str, *conditions: str) -> MlflowRun | None:
        """The newest run of a key that meets further conditions in MLflow's query language."""
        return next(iter(self._search(f"tags.`{_KEY}` = '{_plain(key)}'", *conditions)), None)

    def _reopened(self, name: str, key: str, parent: str) -> Run | None:
        found = self.newest(key, *([_children_of(parent)] if parent else []))
        if found is None or (parent and found.info.status == "FINISHED"):
            return None
        run_id = found.info.run_id
        for orphan in self._search(_children_of(run_id), "attributes.status = 'RUNNING'"):
            self.client.set_terminated(orphan.info.run_id, "KILLED")
        self.client.update_run(run_id, status="RUNNING", name=name)
        if _REASON in found.data.tags:
            self.client.delete_tag(run_id, _REASON)
        return Run(self, found)

    def _created(self, name: str, key: str, parent: str) -> Run:
        tags = _SOURCE | {_KEY: _plain(key)}
        if parent:
            tags[mlflow_tags.MLFLOW_PARENT_RUN_ID] = parent
        return Run(self, self.client.create_run(self.experiment_id, tags=tags, run_name=name))

    @functools.cached_property
    def _git_commit(self) -> str:
        """The commit that the working directory is at; empty outside a repository."""
        try:
            command = ["git", "rev-parse", "HEAD"]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            return ""
        return answer.stdout.strip()


def resolved_uri(uri: str) -> str:
    """The tracking URI that a study file's ``tracking.uri`` stands for."""
    if uri != "default":
        return uri
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def without_password(text: str) -> str:
    """Text with the passwords of the URLs in it replaced by stars."""
    text = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&]\w*password=)[^\s&]+", r"\1***", text, flags=re.IGNORECASE)


def run_ui(uri: str, port: int) -> int:
    """Serve MLflow's page of a store on 127.0.0.1 until Ctrl-C.

    Args:
        uri: As in a study file's ``tracking.uri``.
        port: Port to listen on.

    Returns:
        Exit code: 0 after Ctrl-C, else the server's own.

    Raises:
        ConfigError: The URI is a server already, or the port is taken.
    """
    uri = resolved_uri(uri)
    if _is_server(uri):
        raise ConfigError(
            f"tracking.uri: {without_password(uri)!r} is a server already; open it in a browser"
        )
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"port: {port} is not free on 127.0.0.1 ({error})") from error
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not an argument: other users can list those
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # A session of its own, so that the server and its workers can be ended together.
    server = subprocess.Popen(
        [*command, "--workers", "1"], env=environment, stdout=sys.stderr, start_new_session=True
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _check_reachable(uri: str) -> None:
    """Fail at once where MLflow's own retries would take minutes."""
    try:
        parts = urlsplit(uri)
        scheme = parts.scheme.partition("+")[0]
        if not parts.hostname or scheme not in _PORTS or scheme in getproxies():
            return
        address = (parts.hostname, parts.port or _PORTS[scheme])
        socket.create_connection(address, _REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tracking.uri: {without_password(uri)!r} cannot be reached ({_one_line(error)})"
        ) from error


def _absolute(uri: str) -> str:
    """A SQLite file by its full path.

    MLflow keeps one connection for each URI, so that a relative path would go on to mean the file
    of the working directory in which it was first used.
    """
    scheme, path = "sqlite:///", uri.removeprefix("sqlite:///")
    return f"{scheme}{Path(path).absolute()}" if uri.startswith(scheme) else uri


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Beside a SQLite file in ``mlruns``, as in MLflow's default store; else MLflow's choice."""
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    folder = re.sub(r"[^A-Za-z0-9_-]", "_", experiment)
    return str(database.resolve().parent / "mlruns" / folder)


def _children_of(run_id: str) -> str:
    return f"tags.`{mlflow_tags.MLFLOW_PARENT_RUN_ID}` = '{run_id}'"


def _plain(key: str) -> str:
    if not re.fullmatch(r"[\w.:/-]+", key):
        raise ValueError(f"key {key!r} is not of letters, digits and . : / _ -")
    return key


def _one_line(error: BaseException) -> str:
    text = without_password(" ".join(str(error).split()))
    return text if isinstance(error, ZostudyError) else f"{type(error).__name__}: {text}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
