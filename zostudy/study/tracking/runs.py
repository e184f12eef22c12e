"""What a trial leaves behind: figures, files and pictures, written for MLflow.

The experiment is the study; each trial is a run, and its phases are child runs of it. A run carries
the digest of what it computes as the tag ``zostudy.key``: a trial's run of the same key (its
process was killed, or it failed) is gone on with and not left behind; its finished children stay.

Nothing here talks to MLflow, so that no trial waits for it: a run is a part of a journal
(:mod:`zostudy.study.tracking.journal`), and :mod:`zostudy.study.delivery.background` delivers that.
MLflow gives a run its id only then. Until it is known, the journal's own id stands for it, which
MLflow keeps with the run as the tag ``zostudy.run``.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zostudy import __version__
from zostudy.errors import ZostudyError
from zostudy.redaction import redacted, without_password, without_passwords
from zostudy.study.tracking.journal import Event, Journals, Writer, known_runs, now

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: MLflow's own default store, in the working directory.
DEFAULT_URI = "sqlite:///mlflow.db"

#: Tags of a run: the digest of what it computes; the journal's id of it; when its last attempt
#: began; digests of its artifacts; why it failed.
KEY, RUN, BEGUN, ARTIFACTS, REASON = (
    f"zostudy.{name}" for name in ("key", "run", "begun", "artifacts", "reason")
)
#: Tags of a phase's run: whether another had computed it before, and which.
CACHE_HIT, CACHE_FROM = "zostudy.cache_hit", "zostudy.cache_from"
#: Tags of what came of a run, which go when it is taken up again: that a rule of the study ended
#: it, that the doctor knew no trial of it, and that there was not memory enough.
STATE, ORPHANED, OUT_OF_MEMORY = (
    f"zostudy.{name}" for name in ("state", "orphaned", "out_of_memory")
)
#: Tag of a trial's run: whether its machine had passed the check of its operations.
MACHINE = "zostudy.machine_check"
_NOTE = "mlflow.note.content"


class Run:
    """A run that is being written to; see :meth:`Tracker.trial`.

    Attributes:
        id: The journal's id of the run.
    """

    def __init__(self, tracker: "Tracker", writer: Writer, event: Event) -> None:
        self._tracker = tracker
        self._writer = writer
        self.id: str = event["run"]
        self._params = set(event["params"])
        self._metrics: dict[tuple[str, int], str] = {}
        self._artifacts: dict[str, str] = {}
        writer.append(event)

    @property
    def mlflow_id(self) -> str:
        """MLflow's id of the run if it is known already, else the journal's."""
        return self._tracker.known(self.id)

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; those that the run has already keep their value, as MLflow demands."""
        new = {name: str(value) for name, value in values.items() if name not in self._params}
        self._params |= set(new)
        self._append("log", params=without_passwords(new))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log figures, finite or not, of an epoch or round (the step) or of the whole run (0).

        What the run has been told already is not logged twice.
        """
        time, new = now(), []
        for name, value in values.items():
            told = repr(float(value))  # equal for two NaN
            if self._metrics.get((name, step)) != told:
                self._metrics[name, step] = told
                new.append([name, float(value), time, step])
        if new:
            self._append("log", metrics=new)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name."""
        self._append("log", tags=without_passwords(values))

    def note(self, text: str) -> None:
        """Set the description that MLflow's page shows with the run, in Markdown."""
        self.tags({_NOTE: text})

    def json(self, value: object, path: str) -> None:
        """Keep plain values as a JSON artifact under this path."""
        plain = without_passwords(value)
        self._keep((json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode(), path)

    def text(self, text: str, path: str) -> None:
        """Keep text as an artifact under this path."""
        self._keep(without_password(text).encode(), path)

    def figure(self, figure: "Figure", path: str) -> None:
        """Keep a figure as an artifact under this path, whose ending is the format (``.png``)."""
        place = self._writer.place(Path(path).name)
        figure.savefig(place)
        self._kept(place, path)

    def file(self, local_path: Path, artifact_folder: str = "") -> None:
        """Keep a file as an artifact under its own name, in a folder if one is given."""
        self._keep(local_path.read_bytes(), str(Path(artifact_folder) / local_path.name))

    def dataset(self, name: str, digest: str, context: str, source: Mapping[str, object]) -> None:
        """Record the data that the run reads.

        Args:
            name: Name of the data set.
            digest: Digest of its pictures and splits; MLflow shows its first 36 characters.
            context: What it is read for, such as ``training``.
            source: Where it comes from, as plain values.
        """
        text = json.dumps(without_passwords(dict(source)))
        self._append("input", name=name, digest=digest, context=context, source=text)

    def child(
        self,
        name: str,
        key: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        cached: bool = False,
    ) -> contextlib.AbstractContextManager["Run"]:
        """A run under this one, otherwise as :meth:`Tracker.trial`.

        Args:
            name: Name of the run.
            key: Digest of what it computes.
            params: Its parameters.
            tags: Its tags.
            cached: Whether its results were there before. A finished child of this key is then
                left as it is.
        """
        event = _run_event(name, key, params, tags) | {"parent": self.id, "cached": cached}
        return self._tracker.opened(self._writer, event)

    def end(self, status: str, reason: str = "") -> None:
        """End it as FINISHED, FAILED (with a reason) or KILLED."""
        if self._artifacts:
            self.tags({ARTIFACTS: json.dumps(self._artifacts)})
        if reason:
            self.tags({REASON: reason})
        self._append("end", status=status, time=now())

    def _keep(self, content: bytes, path: str) -> None:
        place = self._writer.place(Path(path).name)
        place.write_bytes(content)
        self._kept(place, path)

    def _kept(self, place: Path, path: str) -> None:
        self._artifacts[path] = hashlib.sha256(place.read_bytes()).hexdigest()
        folder = str(Path(path).parent)
        self._append(
            "file",
            path=str(place.relative_to(self._writer.folder)),
            folder="" if folder == "." else folder,
        )

    def _append(self, event: str, **content: object) -> None:
        self._writer.append({"event": event, "run": self.id} | content)


class Tracker:
    """Writes the runs of an experiment.

    Args:
        root: The study's own folder.
        uri: MLflow tracking URI; ``default`` is ``MLFLOW_TRACKING_URI`` or else
            :data:`DEFAULT_URI`.
        experiment: Name of the experiment.
    """

    def __init__(self, root: Path, uri: str, experiment: str) -> None:
        self.journals = journals(root, uri, experiment)
        self._known: dict[str, str] = {}

    @contextlib.contextmanager
    def trial(
        self, name: str, key: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> Iterator[Run]:
        """The run of a trial: the one of this key, or a new one.

        It ends as FINISHED; as KILLED on an interrupt; as FAILED, with its reason as a tag, on an
        exception. The key is a digest of all that determines what it computes.

        Raises:
            TrialError: The journal cannot be written.
        """
        here = {"zostudy.version": __version__}
        if self._git_commit:
            here["mlflow.source.git.commit"] = self._git_commit
        writer = self.journals.begin(key)
        with contextlib.closing(writer):
            event = _run_event(name, key, params, {**here, **tags})
            with self.opened(writer, event) as run:
                yield run

    @contextlib.contextmanager
    def opened(self, writer: Writer, event: Event) -> Iterator[Run]:
        """The run that an event of a journal begins, until it ends; as :meth:`trial` says."""
        run = Run(self, writer, event)
        try:
            yield run
        except Exception as error:
            run.end("FAILED", _one_line(error))
            raise
        except BaseException:
            run.end("KILLED")
            raise
        run.end("FINISHED")

    def known(self, own: str) -> str:
        """MLflow's id of a run if it is known, else the journal's."""
        if own not in self._known:
            self._known = known_runs(self.journals.root)
        return self._known.get(own, own)

    @functools.cached_property
    def _git_commit(self) -> str:
        """The commit that the working directory is at; empty outside a repository."""
        try:
            command = ["git", "rev-parse", "HEAD"]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            return ""
        return answer.stdout.strip()


def journals(root: Path, uri: str, experiment: str) -> Journals:
    """The journals of an experiment, by a study's settings."""
    return Journals(root, experiment, without_password(resolved_uri(uri)))


def resolved_uri(uri: str) -> str:
    """The tracking URI that a study file's ``tracking.uri`` stands for."""
    if uri != "default":
        return uri
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def plain_key(key: str) -> str:
    """The key, if it can stand in a query.

    Raises:
        ValueError: It cannot.
    """
    if not re.fullmatch(r"[\w.:/-]+", key):
        raise ValueError(f"key {key!r} is not of letters, digits and . : / _ -")
    return key


def _run_event(name: str, key: str, params: Mapping[str, object], tags: Mapping[str, str]) -> Event:
    texts = {param: str(value) for param, value in params.items()}
    return {
        "event": "run",
        "run": uuid.uuid4().hex,
        "parent": "",
        "cached": False,
        "name": name,
        "key": plain_key(key),
        "time": now(),
        "params": without_passwords(texts),
        "tags": without_passwords(tags),
    }


def _one_line(error: BaseException) -> str:
    text = redacted(" ".join(str(error).split()))
    return text if isinstance(error, ZostudyError) else f"{type(error).__name__}: {text}"
