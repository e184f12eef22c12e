"""Runs that MLflow has lost, or of which it has lost files, written again from what is kept."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from zostudy.config.loading import StudyFile, canonical, digest, flat
from zostudy.errors import ZostudyError
from zostudy.metrics import readable
from zostudy.space.genotype import from_dict
from zostudy.study.doctor.complete_trials import Complete
from zostudy.study.pictures import drawing
from zostudy.study.points import label
from zostudy.study.tracking.journal import Journals
from zostudy.study.tracking.runs import Tracker
from zostudy.study.trial.trial import Trials

#: Tag of a run that was written again: when it could be only from Optuna's record, or also from
#: the cache.
LOGGED_AGAIN = "zostudy.logged_again"


@dataclass(frozen=True)
class Relogger:
    """Writes complete trials again.

    Attributes:
        file: The study.
        trials: Gives what runs its trials, without computing anything; it can fail.
    """

    file: StudyFile
    trials: Callable[[], Trials]
    _kept: dict[int, dict[tuple[str, str], bytes]] = field(default_factory=dict)

    def run(self, trial: Complete, tracker: Tracker) -> str:
        """Write the journal of a trial again; gives what cannot be brought back."""
        try:
            trials = self.trials()
            trials.check([trial.point])
            cached = trials.cached(trial.point, trial.seed)
        except ZostudyError as error:
            return self._of_outcome(trial, tracker, str(error))
        if not cached:
            return self._of_outcome(trial, tracker, "not all of its phases are in the cache")
        trials.tracker = tracker
        trials(trial.point, trial.seed, trial.number)
        return ""

    def files(self, trial: Complete) -> dict[tuple[str, str], bytes]:
        """The artifacts of a trial by run (``prune``, ``search``, …; empty: its own) and path."""
        if trial.number not in self._kept:
            with tempfile.TemporaryDirectory() as folder:
                tracker = Tracker(Path(folder), "sqlite://", self.file.config.experiment)
                self.run(trial, tracker)
                self._kept[trial.number] = _files(tracker.journals)
        return self._kept[trial.number]

    def _of_outcome(self, trial: Complete, tracker: Tracker, reason: str) -> str:
        config, outcome = trial.point.config, trial.outcome
        key = digest([self.file.config.study, trial.point.key, trial.seed, "outcome"])
        params = {"technique": config.technique, "seed": trial.seed} | flat(canonical(config))
        tags = {
            "zostudy.study": self.file.config.study,
            "zostudy.trial": str(trial.number),
            LOGGED_AGAIN: "from its outcome",
        }
        genotype = from_dict(outcome.genotype, config.extensions)
        shown = label(trial.point.values, trial.seed)
        with tracker.trial(shown, key, params, tags) as run:
            run.note(f"{self.file.config.study}: {trial.point}, seed {trial.seed}")
            run.json(outcome.genotype, "genotype.json")
            run.figure(drawing.genotype_figure(genotype), "genotype.png")
            run.metrics(readable(outcome.metrics))
        return f"the course and the files of its phases are lost ({reason})"


def _files(journals: Journals) -> dict[tuple[str, str], bytes]:
    """The artifacts in the one journal that there is."""
    (journal,) = journals.pending()
    events, _ = journal.events(0, 10**6)
    names = {e["run"]: e["name"] if e["parent"] else "" for e in events if e["event"] == "run"}
    found = {}
    for event in events:
        if event["event"] == "file":
            path = journal.folder / event["path"]
            found[names[event["run"]], str(Path(event["folder"]) / path.name)] = path.read_bytes()
    return found
