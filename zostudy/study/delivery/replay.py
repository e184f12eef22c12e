"""Delivers one journal to MLflow: everything once, in order.

A run is looked for by the digest of what it computes before it is made, and MLflow drops a figure
that equals one that it has (name, step, time and value): whatever is sent a second time, because
the answer to the first was lost or the deliverer died before it could note it, changes nothing.
A run that is taken up again has the figures of its earlier attempt; those of the same step are not
repeated.
"""

import logging
import math
from dataclasses import dataclass, field

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.utils import mlflow_tags, validation

from zostudy.study.delivery.mlflow_store import MlflowStore, children_of, cut
from zostudy.study.tracking.journal import DeliveredRun, Event, Journal, Journals, known_runs
from zostudy.study.tracking.runs import (
    BEGUN,
    CACHE_FROM,
    CACHE_HIT,
    KEY,
    ORPHANED,
    OUT_OF_MEMORY,
    REASON,
    RUN,
    STATE,
)

_log = logging.getLogger(__name__)

_SOURCE = {mlflow_tags.MLFLOW_SOURCE_NAME: "zostudy", mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL"}

#: Events that are delivered before it is noted how far one is.
_CHUNK = 500


@dataclass
class _Batch:
    """What is to be sent to a run in one request."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)


class Replay:
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
        above = self._state.runs.get(event["parent"])
        if event["parent"] and above is None:
            return  # whose beginning is damaged
        parent = above.id if above else ""
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
        for name in (REASON, STATE, ORPHANED, OUT_OF_MEMORY):
            if name in found.data.tags:
                self._client.delete_tag(run.id, name)
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
