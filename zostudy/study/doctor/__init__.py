"""Whether Optuna, MLflow, the cache, checkpoints, journals and locks of a study agree.

Each part gives findings, and each finding knows its repair. What is being written while the doctor
looks is left alone: trials that are run, files of the last minute, journals with a writer.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from zostudy.config.loading import StudyFile
from zostudy.errors import ZostudyError
from zostudy.stage import silent
from zostudy.study.delivery import background
from zostudy.study.delivery.background import Delivery
from zostudy.study.delivery.mlflow_store import (
    ERRORS,
    MlflowStore,
    StoreAwayError,
    is_missing,
    one_line,
)
from zostudy.study.doctor import complete_trials, own_folder
from zostudy.study.doctor.finding import CannotRepairError, Finding, nothing_to_do
from zostudy.study.doctor.mlflow_runs import Runs
from zostudy.study.doctor.relog import Relogger
from zostudy.study.store.records import Store
from zostudy.study.sweep.standings import standing
from zostudy.study.tracking.journal import Journal
from zostudy.study.trial.trial import Trials

#: How often is looked again after a repair: one may bring to light what another had hidden.
_ROUNDS = 3


@dataclass(frozen=True)
class Result:
    """What came of a finding.

    Attributes:
        finding: The finding.
        repaired: Whether it is put right.
        left: What could not be brought back, or why it is not put right; may be empty.
    """

    finding: Finding
    repaired: bool = False
    left: str = ""


def examine(file: StudyFile) -> list[Result]:
    """What is wrong with a study; nothing is changed.

    Args:
        file: The study.
    """
    return [Result(finding) for finding in _findings(file)]


def notes(file: StudyFile) -> tuple[str, ...]:
    """What is to be said of what the study's trials are made of; no repair changes it.

    Args:
        file: The study.
    """
    return standing(file).notes


def repair(file: StudyFile) -> list[Result]:
    """Put right what can be.

    Args:
        file: The study.

    Returns:
        What was wrong, and what came of it.
    """
    results: dict[tuple[str, str], Result] = {}
    for _ in range(_ROUNDS):
        found = [f for f in _findings(file) if (f.kind, f.what) not in results]
        if not found:
            break
        for finding in found:
            results[finding.kind, finding.what] = _repaired(finding)
    return list(results.values())


def _repaired(finding: Finding) -> Result:
    try:
        return Result(finding, repaired=True, left=finding.repair())
    except (CannotRepairError, ZostudyError, *ERRORS) as error:
        return Result(finding, left=one_line(error).removeprefix("CannotRepairError: "))


def _findings(file: StudyFile) -> Iterator[Finding]:
    yield from complete_trials.findings(file)
    yield from own_folder.findings(Store(file.folder))
    delivering = background.for_study(file.config)
    journals = [journal for journal in delivering.journals.pending() if not journal.written()]
    yield from (_undelivered(delivering, journal) for journal in journals)
    yield from _elsewhere(delivering)
    if is_missing(file.config.tracking.uri) and not complete_trials.complete(file):
        return
    try:
        store = MlflowStore(file.config.tracking.uri, file.config.experiment)
    except StoreAwayError as error:
        reason = "it has to be reached for that"
        yield Finding("mlflow", str(error), "looks at its runs", nothing_to_do(reason))
        return
    trials = functools.cache(lambda: Trials(file, silent))
    yield from Runs(file, store, delivering, Relogger(file, trials)).findings()


def _undelivered(delivering: Delivery, journal: Journal) -> Finding:
    refused = journal.state().refused
    why = f" ({refused})" if refused else ""

    def deliver() -> str:
        if refused:
            journal.restart()
        delivering.once()
        if journal.folder.exists():
            raise CannotRepairError("; ".join(delivering.undelivered()) or "it is being delivered")
        return ""

    what = f"{', '.join(journal.names()) or journal.folder.name} is not delivered to MLflow{why}"
    return Finding("journal", what, "delivers it", deliver)


def _elsewhere(delivering: Delivery) -> Iterator[Finding]:
    for journal in delivering.journals.elsewhere():
        uri = journal.header["uri"]
        yield Finding(
            "journal",
            f"{', '.join(journal.names())} is not delivered, and meant for {uri}",
            f"delivers it with --set tracking.uri={uri}",
            nothing_to_do(f"tracking.uri is {delivering.journals.uri}"),
        )
