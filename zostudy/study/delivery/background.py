"""When and by whom journals are delivered to MLflow: beside the study, whenever MLflow is there."""

import contextlib
import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from zostudy.config.settings import StudyConfig
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS
from zostudy.study.delivery.mlflow_store import (
    ERRORS,
    MlflowStore,
    StoreAwayError,
    one_line,
    refusal,
)
from zostudy.study.delivery.replay import Replay
from zostudy.study.tracking.journal import Journal
from zostudy.study.tracking.runs import journals

_log = logging.getLogger(__name__)

#: Seconds between looks at the journals, and the longest between tries of a store that is away.
_POLL, _LONGEST = 1.0, 10.0


def for_study(config: StudyConfig) -> "Delivery":
    """The delivery of a study's journals, with the page of its experiment."""
    swept = [path for path in config.sweep.parameters if path != "technique"]
    shown = [m.readable for m in METRICS.values() if m.compared and config.measures(m)]

    def present(store: MlflowStore) -> None:
        store.present(config.description, ["technique", *swept, "seed"], shown)

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

    Attributes:
        journals: The journals.

    Raises:
        ConfigError: On entering the context: the URI is wrong, or what it names is no MLflow
            store; not where it cannot be reached.
    """

    def __init__(
        self,
        root: Path,
        uri: str,
        experiment: str,
        present: Callable[[MlflowStore], None] = lambda _: None,
    ) -> None:
        self.journals = journals(root, uri, experiment)
        self._uri = uri
        self._present = present
        self._store: MlflowStore | None = None
        self._couriers: dict[Path, Replay] = {}
        self._away = ""
        self._said = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._connected()
        except StoreAwayError as error:
            self._away = str(error)
            self._say()
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
            pending = self.journals.pending()
            there = {journal.folder for journal in pending}
            self._couriers = {f: c for f, c in self._couriers.items() if f in there}
            for journal in pending:
                self._deliver(store, journal, keys)
        except ConfigError as error:  # out of reach; or it is back, as something else
            self._away = str(error)
        else:
            self._away = ""

    def end_orphans(self, study: str, alive: Callable[[], Collection[int]]) -> None:
        """As :meth:`MlflowStore.end_orphans`; not while the store is away, which doctor can do."""
        if self._store is None or self._away:
            return
        with contextlib.suppress(*ERRORS):
            self._store.end_orphans(study, alive)

    def undelivered(self) -> list[str]:
        """What MLflow does not have, in a line for each reason; journals being written left out."""
        left = [journal for journal in self.journals.pending() if not journal.written()]
        reasons: dict[str, list[Journal]] = {}
        for journal in left:
            reasons.setdefault(journal.state().refused or self._away, []).append(journal)
        return [
            f"not delivered to {self.journals.uri}: "
            f"{', '.join(name for journal in found for name in journal.names())} ({reason}); kept "
            f"in {self.journals.folder}, and `zostudy doctor STUDY --repair` delivers it"
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
                self._away = f"tracking.uri: {self.journals.uri!r}: {one_line(error)}"
            if self._away:
                self._say()
            wait = min(2 * wait, _LONGEST) if self._away else _POLL

    def _connected(self) -> MlflowStore:
        if self._store is None:
            store = MlflowStore(self._uri, self.journals.experiment)
            store.settle()
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
        courier = self._couriers.setdefault(journal.folder, Replay(store, self.journals, journal))
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
                _log.warning("tracking: %s does not take a run (%s)", self.journals.uri, reason)
        if not journal.folder.exists():
            keys.discard(key)

    def _away_by(self, error: BaseException) -> StoreAwayError:
        return StoreAwayError(f"tracking.uri: {self.journals.uri!r}: {one_line(error)}")

    def _say(self) -> None:
        """Say that the store is away, once."""
        if not self._said:
            self._said = True
            _log.warning(
                "%s; the study goes on, and what it tracks waits in %s",
                self._away,
                self.journals.folder,
            )
