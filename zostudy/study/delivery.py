"""From journals to MLflow: everything once, in order, whenever MLflow is there.

A run is looked for by the digest of what it computes before it is made, and MLflow drops a figure
that equals one that it has (name, step, time and value): whatever is sent a second time, because
the answer to the first was lost or the deliverer died before it could note it, changes nothing.
A run that is taken up again has the figures of its earlier attempt; those of the same step are not
repeated.
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.utils import mlflow_tags, validation

from zostudy.config.settings import StudyConfig
from zostudy.errors import ConfigError
from zostudy.study.journal import DeliveredRun, Event, Journal, Journals, known_runs
from zostudy.study.mlflow_store import (
    ERRORS,
    MlflowStore,
    StoreAwayError,
    children_of,
    cut,
    one_line,
    refusal,
)
from zostudy.study.tracking import BEGUN, CACHE_FROM, CACHE_HIT, KEY, REASON, RUN, journals

_log = logging.getLogger(__name__)

_SOURCE = {mlflow_tags.MLFLOW_SOURCE_NAME: "zostudy", mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL"}

#: Metrics that MLflow's table of runs shows at first, few enough to stand beside the settings.
_SHOWN = (
    "validation_accuracy",
    "test_accuracy",
    "search_peak_bytes",
    "search_seconds",
    "parameters",
)

#: Seconds between looks at the journals, and the longest between tries of a store that is away.
_POLL, _LONGEST = 1.0, 10.0
#: Events that are delivered before it is noted how far one is.
_CHUNK = 500


@dataclass
class _Batch:
    """What is to be sent to a run in one request."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)


class _Courier:
    """Delivers one journal, as it grows."""

    def __init__(self, store: MlflowStore, journals: Journals, journal: Journal) -> None:
        self._store = store
        self._client = store.client
        self._journals = journals
        self._journal = journal
        self._state = journal.state()
        self._batches: dict[str, _Batch] = {}
        self._there: dict[tuple[str, str], dict[int, float]] = {}

    def deliver(self) -> None:
        """Deliver what is written so far; a journal without a writer is then at its end.

        Raises:
            MlflowException: The store cannot be reached, or does not take it; so do other errors.
        """
        written = self._journal.written()
        self._state = self._journal.state()
        self._batches.clear()
        while not self._state.refused:
            events, end = self._journal.events(self._state.offset, _CHUNK)
            if end == self._state.offset:
                break
            for event in events:
                self._apply(event)
            for own in list(self._batches):
                self._send(own)
            self._state.offset = end
            self._journal.keep(self._state)
        if written or self._state.refused:
            return
        for own in reversed(self._state.open):  # their process was killed
            self._end(own, "KILLED", None)
        self._journal.delete()

    def refuse(self, reason: str) -> None:
        """Note that the store will not take the rest."""
        self._state = self._journal.state()
        self._state.refused = reason
        self._journal.keep(self._state)

    def _apply(self, event: Event) -> None:
        own = event["run"]
        if event["event"] == "run":
            self._begin(event)
            return
        run = self._state.runs.get(own)
        if run is None or not run.id:
            return
        if event["event"] == "log":
            self._gather(own, event)
        elif run.late:
            return
        elif event["event"] == "end":
            self._end(own, event["status"], event["time"])
        elif event["event"] == "file":
            self._file(run, event)
        elif event["event"] == "input":
            self._input(run, event)

    def _begin(self, event: Event) -> None:
        own = event["run"]
        parent = self._state.runs[event["parent"]].id if event["parent"] else ""
        found = self._store.newest(event["key"], parent)
        complete = found is not None and bool(parent) and found.info.status == "FINISHED"
        if found is not None and found.data.tags.get(RUN) == own:
            run = DeliveredRun(found.info.run_id, sorted(found.data.params), again=True)
        elif found is not None and complete and event["cached"]:
            run = DeliveredRun("")
        elif found is None or complete:
            run = DeliveredRun(self._created(event, parent))
        else:
            run = self._taken_up(found, event)
        self._state.runs[own] = run
        if run.id:
            self._journals.remember({own: run.id})
            self._gather(own, {"params": event["params"]})
        if run.id and not run.late and own not in self._state.open:
            self._state.open.append(own)

    def _created(self, event: Event, parent: str) -> str:
        tags = _SOURCE | self._tags(event)
        if parent:
            tags[mlflow_tags.MLFLOW_PARENT_RUN_ID] = parent
        run = self._client.create_run(
            self._store.experiment_id, event["time"], tags, run_name=event["name"]
        )
        return str(run.info.run_id)

    def _taken_up(self, found: MlflowRun, event: Event) -> DeliveredRun:
        run = DeliveredRun(found.info.run_id, sorted(found.data.params), again=True)
        if int(found.data.tags.get(BEGUN, 0)) > event["time"]:
            run.late = True
            return run
        for orphan in self._store.search(children_of(run.id), "attributes.status = 'RUNNING'"):
            self._client.set_terminated(orphan.info.run_id, "KILLED")
        self._client.update_run(run.id, status="RUNNING", name=event["name"])
        if REASON in found.data.tags:
            self._client.delete_tag(run.id, REASON)
        self._gather(event["run"], {"tags": self._tags(event)})
        return run

    def _tags(self, event: Event) -> dict[str, str]:
        own = {KEY: event["key"], RUN: event["run"], BEGUN: str(event["time"])}
        return cut(event["tags"] | own, validation.MAX_TAG_VAL_LENGTH)

    def _sourced(self, run: DeliveredRun | None, tags: dict[str, str]) -> dict[str, str]:
        """Tags that name the run that a phase came from by MLflow's id."""
        if CACHE_FROM not in tags:
            return tags
        own = tags[CACHE_FROM]
        source = known_runs(self._journals.root).get(own, own)
        if run is not None and source == run.id:  # by an earlier attempt of this very run
            return {CACHE_HIT: "False"}
        return {**tags, CACHE_FROM: source}

    def _gather(self, own: str, event: Event) -> None:
        run, batch = self._state.runs.get(own), self._batches.setdefault(own, _Batch())
        late = run is not None and run.late
        metrics = [Metric(*figure) for figure in event.get("metrics", ())]
        if run is not None and run.again:
            metrics = [metric for metric in metrics if not self._repeated(own, run, metric)]
        batch.metrics += metrics
        if late:
            return
        had = run.params if run else ()
        params = {name: text for name, text in event.get("params", {}).items() if name not in had}
        batch.params |= cut(params, validation.MAX_PARAM_VAL_LENGTH)
        batch.tags |= cut(self._sourced(run, event.get("tags", {})), validation.MAX_TAG_VAL_LENGTH)

    def _repeated(self, own: str, run: DeliveredRun, metric: Metric) -> bool:
        """Whether the run had the figure from an earlier attempt; one of the whole may change."""
        place = (own, metric.key)
        if place not in self._there:
            history = self._client.get_metric_history(run.id, metric.key)
            self._there[place] = {point.step: point.value for point in history}
        old = self._there[place].get(metric.step)
        if old is None:
            return False
        same = old == metric.value or (math.isnan(old) and math.isnan(metric.value))
        return same or metric.step > 0 or run.late

    def _send(self, own: str) -> None:
        """Send what was gathered for a run; MLflow's client keeps to the size of its requests."""
        batch = self._batches.pop(own, _Batch())
        self._client.log_batch(
            self._state.runs[own].id,
            batch.metrics,
            [Param(name, text) for name, text in batch.params.items()],
            [RunTag(name, text) for name, text in batch.tags.items()],
        )

    def _file(self, run: DeliveredRun, event: Event) -> None:
        path = self._journal.folder / event["path"]
        if path.exists():
            self._client.log_artifact(run.id, str(path), event["folder"] or None)
        else:
            _log.warning("%s is gone; MLflow's run %s lacks it", path, run.id)

    def _input(self, run: DeliveredRun, event: Event) -> None:
        digest = event["digest"][: validation.MAX_DATASET_DIGEST_SIZE]
        data = Dataset(event["name"], digest, "code", event["source"])
        tag = InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, event["context"])
        self._client.log_inputs(run.id, [DatasetInput(data, [tag])])

    def _end(self, own: str, status: str, time: int | None) -> None:
        self._send(own)
        self._client.set_terminated(self._state.runs[own].id, status, time)
        self._state.open = [other for other in self._state.open if other != own]


def for_study(config: StudyConfig) -> "Delivery":
    """The delivery of a study's journals, with the page of its experiment.

    Raises:
        ConfigError: As :class:`Delivery`.
    """
    swept = [path for path in config.sweep.parameters if path != "technique"]

    def present(store: MlflowStore) -> None:
        store.present(config.description, ["technique", *swept, "seed"], _SHOWN)

    folder = Path(config.storage.folder)
    return Delivery(folder, config.tracking.uri, config.experiment, present)


class Delivery:
    """Delivers the journals of an experiment, in a thread of its own while the context lasts.

    Nobody waits for it but the end of the context, where what is left is delivered if the store is
    there. Several processes may deliver the same journals: each is taken by one at a time.

    Args:
        root: The study's own folder.
        uri: As in a study file's ``tracking.uri``.
        experiment: Name of the experiment.
        present: Called once with the store when it is reached.

    Raises:
        ConfigError: The URI is wrong, or what it names is no MLflow store; not where it cannot be
            reached.
    """

    def __init__(
        self,
        root: Path,
        uri: str,
        experiment: str,
        present: Callable[[MlflowStore], None] = lambda _: None,
    ) -> None:
        self._journals = journals(root, uri, experiment)
        self._uri = uri
        self._present = present
        self._store: MlflowStore | None = None
        self._couriers: dict[Path, _Courier] = {}
        self._away = ""
        self._said = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
        try:
            self._connected()
        except StoreAwayError as error:
            self._is_away(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        for line in self.undelivered():
            _log.warning("tracking: %s", line)

    def once(self) -> None:
        """Deliver what is there, in the caller's thread."""
        try:
            store = self._connected()
            keys: set[str] = set()
            for journal in self._journals.pending():
                self._deliver(store, journal, keys)
        except ConfigError as error:  # out of reach; or it is back, as something else
            self._is_away(error)
        else:
            self._away = ""

    def undelivered(self) -> list[str]:
        """What MLflow does not have, in a line for each reason; journals being written left out."""
        left = [journal for journal in self._journals.pending() if not journal.written()]
        reasons: dict[str, list[Journal]] = {}
        for journal in left:
            reasons.setdefault(journal.state().refused or self._away, []).append(journal)
        return [
            f"not delivered to {self._journals.uri}: "
            f"{', '.join(name for journal in found for name in journal.names())} ({reason}); kept "
            f"in {self._journals.folder}, and `zostudy doctor STUDY --repair` delivers it"
            for reason, found in reasons.items()
            if reason
        ]

    def _work(self) -> None:
        wait, ending = _POLL, False
        while not ending:
            ending = self._ending.wait(wait)
            try:
                self.once()
            except Exception as error:  # noqa: BLE001  # the journals stay, and the next try may do
                self._is_away(
                    ConfigError(f"tracking.uri: {self._journals.uri!r}: {one_line(error)}")
                )
            wait = min(2 * wait, _LONGEST) if self._away else _POLL

    def _connected(self) -> MlflowStore:
        if self._store is None:
            store = MlflowStore(self._uri, self._journals.experiment)
            try:
                self._present(store)
            except ERRORS as error:
                raise self._away_by(error) from error
            self._store = store
        return self._store

    def _deliver(self, store: MlflowStore, journal: Journal, keys: set[str]) -> None:
        """Deliver a journal, unless an earlier one of the same trial waits still."""
        key = journal.header.get("key", "")
        if key in keys or journal.state().refused:
            return
        keys.add(key)
        courier = self._couriers.setdefault(
            journal.folder, _Courier(store, self._journals, journal)
        )
        with journal.claimed() as mine:
            if not mine:
                return
            try:
                courier.deliver()
            except ERRORS as error:
                reason = refusal(error, store.uri)
                if reason is None:
                    raise self._away_by(error) from error
                courier.refuse(reason)
                _log.warning("tracking: %s does not take a run (%s)", self._journals.uri, reason)
        if not journal.folder.exists():
            del self._couriers[journal.folder]
            keys.discard(key)

    def _away_by(self, error: BaseException) -> StoreAwayError:
        return StoreAwayError(f"tracking.uri: {self._journals.uri!r}: {one_line(error)}")

    def _is_away(self, error: ConfigError) -> None:
        self._away = str(error)
        if not self._said:
            self._said = True
            _log.warning(
                "%s; the study goes on, and what it tracks waits in %s",
                self._away,
                self._journals.folder,
            )
