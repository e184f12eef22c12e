"""The doctor's look at MLflow: runs against Optuna's trials, artifacts against digests."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Run as MlflowRun
from mlflow.utils import mlflow_tags

from zostudy.config.loading import StudyFile
from zostudy.study.delivery.background import Delivery
from zostudy.study.delivery.location import Move
from zostudy.study.delivery.mlflow_store import ERRORS, MlflowStore, one_line
from zostudy.study.doctor import complete_trials
from zostudy.study.doctor.complete_trials import Complete
from zostudy.study.doctor.finding import CannotRepairError, Finding
from zostudy.study.doctor.relog import LOGGED_AGAIN, Relogger
from zostudy.study.sweep.standings import running
from zostudy.study.tracking.journal import Journal, known_runs
from zostudy.study.tracking.runs import ARTIFACTS, ORPHANED, RUN, Tracker

#: Tags of a run: the outcome whose run it stands for; artifacts that could not be brought back.
REPLACES, LOST = "zostudy.replaces", "zostudy.lost"


@dataclass
class Runs:
    """The runs of a study in MLflow, and how they are put right.

    Attributes:
        file: The study.
        store: MLflow's store.
        delivery: What delivers to it.
        relogger: What writes runs again.
    """

    file: StudyFile
    store: MlflowStore
    delivery: Delivery
    relogger: Relogger
    _runs: Mapping[str, MlflowRun] = field(default_factory=dict)
    _matched: dict[str, Complete] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the runs of the study."""
        root = self.file.folder
        waiting = {own for journal in self.delivery.journals.pending() for own in _told(journal)}
        self._runs = {run.info.run_id: run for run in self.store.search()}
        self._matched = {}
        known = known_runs(root)
        trials = complete_trials.complete(self.file)
        for trial in trials:
            own = trial.outcome.mlflow_run_id
            found = self._run_of(own, known)
            if found is not None:
                self._matched[found.info.run_id] = trial
            if own in waiting:
                continue
            if found is None:
                yield self._relogged(trial, f"{trial} is complete and has no run")
            elif found.info.status != "FINISHED":
                yield self._relogged(
                    trial, f"{trial} is complete, and its run is {found.info.status}"
                )
        yield from self._left_running({known[own] for own in waiting if own in known})
        yield from self._orphaned(known)
        move = self.store.move
        if move is not None:
            yield self._moved(move)
        for run in self._runs.values():
            elsewhere = move is not None and move.concerns(run.info.artifact_uri)
            if self._is_ours(run) and not elsewhere:  # what is there is looked at once it is right
                yield from self._artifacts(run)

    def _moved(self, move: Move) -> Finding:
        def settle() -> str:
            self.store.settle()
            return ""

        return Finding("mlflow", str(move), "records the artifacts where they are now", settle)

    def _is_ours(self, run: MlflowRun) -> bool:
        """Whether a run is of a trial of this study, or of a phase of one."""
        above = self._runs.get(run.data.tags.get(mlflow_tags.MLFLOW_PARENT_RUN_ID, ""), run)
        return bool(above.data.tags.get("zostudy.study") == self.file.config.study)

    def _run_of(self, own: str, known: Mapping[str, str]) -> MlflowRun | None:
        """The run of an outcome: by MLflow's id, by the journal's, or one that stands for it."""
        for name in (known.get(own, own), own):
            if name in self._runs:
                return self._runs[name]
        for run in self._runs.values():
            if own in (run.data.tags.get(RUN), run.data.tags.get(REPLACES)):
                return run
        return None

    def _relogged(self, trial: Complete, what: str) -> Finding:
        def repair() -> str:
            tracker = Tracker(
                self.file.folder, self.file.config.tracking.uri, self.file.config.experiment
            )
            lost = self.relogger.run(trial, tracker)
            journal = tracker.journals.pending()[-1]
            own = next(iter(_told(journal)))
            self.delivery.once()
            if journal.folder.exists():
                raise CannotRepairError(f"{self.delivery.undelivered()[0]}")
            run_id = known_runs(self.file.folder)[own]
            tags = {REPLACES: trial.outcome.mlflow_run_id, LOGGED_AGAIN: "from the cache"}
            if lost:
                tags[LOGGED_AGAIN] = "from its outcome"
            for name, value in tags.items():
                self.store.client.set_tag(run_id, name, value)
            tracker.journals.remember({trial.outcome.mlflow_run_id: run_id})
            return lost

        return Finding("mlflow", what, "logs it again from Optuna's record and the cache", repair)

    def _left_running(self, undelivered: set[str]) -> Iterator[Finding]:
        study = self.file.config.study
        for run, children in self.store.orphans(study, lambda: running(self.file)):
            run_id = run.info.run_id
            if run_id in self._matched or run_id in undelivered:
                continue

            def end(runs: Sequence[MlflowRun] = (*children, run)) -> str:
                for one in runs:
                    self.store.client.set_terminated(one.info.run_id, "KILLED")
                return ""

            yield Finding(
                "mlflow",
                f"run {run_id} ({run.info.run_name}) is RUNNING, and nobody runs it",
                "ends it as KILLED",
                end,
            )

    def _orphaned(self, known: Mapping[str, str]) -> Iterator[Finding]:
        """Runs of complete trials that Optuna does not know, and phases without their trial."""
        ours = {known.get(own, own) for own in complete_trials.run_ids(self.file)}
        ours |= complete_trials.run_ids(self.file) | set(self._matched)
        for run in self._runs.values():
            tags, parent = run.data.tags, run.data.tags.get(mlflow_tags.MLFLOW_PARENT_RUN_ID)
            if ORPHANED in tags:
                continue
            if parent is not None and parent not in self._runs:
                yield self._marked(run, "is a phase of a run that is not there")
            trial = not parent and "zostudy.trial" in tags and self._is_ours(run)
            unknown = ours.isdisjoint({run.info.run_id, tags.get(RUN)})
            if trial and run.info.status == "FINISHED" and unknown:
                yield self._marked(run, "is complete, and Optuna knows no trial of it")

    def _marked(self, run: MlflowRun, what: str) -> Finding:
        def mark() -> str:
            self.store.client.set_tag(run.info.run_id, ORPHANED, "True")
            return ""

        return Finding(
            "mlflow",
            f"run {run.info.run_id} ({run.info.run_name}) {what}",
            f"marks it by the tag {ORPHANED}",
            mark,
        )

    def _artifacts(self, run: MlflowRun) -> Iterator[Finding]:
        if run.info.status != "FINISHED":
            return
        digests = json.loads(run.data.tags.get(ARTIFACTS, "{}"))
        if not digests:
            return
        with tempfile.TemporaryDirectory() as folder:
            damage = _fetched(self.store, run, Path(folder))
            for path, digest in digests.items():
                wrong = damage or _difference(Path(folder) / path, digest)
                if wrong:
                    yield Finding(
                        "artifact",
                        f"{path} of run {run.info.run_id} ({run.info.run_name}) {wrong}",
                        "writes it again from the cache",
                        self._rewriting(run, path),
                    )

    def _rewriting(self, run: MlflowRun, path: str) -> Callable[[], str]:
        def rewrite() -> str:
            parent = run.data.tags.get(mlflow_tags.MLFLOW_PARENT_RUN_ID)
            trial = self._matched.get(parent or run.info.run_id)
            name = str(run.info.run_name) if parent else ""
            content = self.relogger.files(trial).get((name, path)) if trial else None
            client, run_id = self.store.client, run.info.run_id
            tags = client.get_run(run_id).data.tags
            digests = json.loads(tags[ARTIFACTS])
            if content is None:
                del digests[path]
                client.set_tag(run_id, ARTIFACTS, json.dumps(digests))
                client.set_tag(run_id, LOST, " ".join([*tags.get(LOST, "").split(), path]))
                return "it is not in the cache any more, or not of the study file; the run says so"
            with tempfile.TemporaryDirectory() as folder:
                local = Path(folder) / Path(path).name
                local.write_bytes(content)
                above = str(Path(path).parent)
                client.log_artifact(run_id, str(local), None if above == "." else above)
            digests[path] = hashlib.sha256(content).hexdigest()
            client.set_tag(run_id, ARTIFACTS, json.dumps(digests))
            return ""

        return rewrite


def _told(journal: Journal) -> list[str]:
    """The journal's ids of the runs that a journal tells of, its trial's first."""
    events, _ = journal.events(0, 10**6)
    return [event["run"] for event in events if event["event"] == "run"]


def _fetched(store: MlflowStore, run: MlflowRun, folder: Path) -> str:
    """Fetch all artifacts of a run that are there; gives why they cannot be read."""
    try:
        if store.client.list_artifacts(run.info.run_id):
            store.client.download_artifacts(run.info.run_id, "", str(folder))
    except ERRORS as error:
        return f"cannot be read ({one_line(error)})"
    return ""


def _difference(path: Path, digest: str) -> str:
    if not path.is_file():
        return "is missing"
    kept = hashlib.sha256(path.read_bytes()).hexdigest()
    return "" if kept == digest else "is not what was logged"
