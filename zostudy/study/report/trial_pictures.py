"""Pictures of single trials for a report: masks and the course of α, and training curves.

Masks and α are the pictures that the trials left in MLflow, with fewer colours, so that a page of
many trials stays small; curves are drawn from the figures of the epochs.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

from zostudy.config.loading import StudyFile
from zostudy.config.sizes import counted
from zostudy.errors import ConfigError
from zostudy.study.delivery.run_pictures import RunPictures, Seen
from zostudy.study.report import charts

#: Characters that the pictures of all trials may take on a page, and trials that have them.
_ROOM, _MOST_TRIALS = 8_000_000, 60

#: Largest width of a picture in pixels, and its colours.
_WIDTH, _COLOURS = 1100, 48

_TITLES = {"prune": "mask of trial {}", "search": "α of trial {} by epoch"}


@dataclass(frozen=True)
class TrialPictures:
    """What a report shows of single trials.

    Attributes:
        of: For the number of each trial, titles and pictures, as elements of a page.
        note: Why some or all trials have none; empty where all do.
    """

    of: Mapping[int, Sequence[tuple[str, str]]] = field(default_factory=dict)
    note: str = ""


def trial_pictures(file: StudyFile, document: Mapping[str, Any]) -> TrialPictures:
    """The pictures of a study's complete trials, the best first, as many as a page has room for.

    Nothing is shown of what MLflow does not hold; it is no reason to make no report.
    """
    trials = _ordered(document)
    if not trials:
        return TrialPictures()
    try:
        runs = RunPictures(file.config.tracking.uri)
    except ConfigError as error:
        return TrialPictures(note=f"pictures of single trials are not shown: {error}")
    found: dict[int, list[tuple[str, str]]] = {}
    room, why = _ROOM, ""
    for trial in trials[:_MOST_TRIALS]:
        try:
            seen = runs.of(trial["mlflow_run_id"] or "")
        except ConfigError as error:
            why = why or str(error)
            continue
        elements = _elements(trial["number"], seen)
        size = sum(len(element) for _, element in elements)
        if size > room:
            break
        room -= size
        if elements:
            found[trial["number"]] = elements
    return TrialPictures(found, _note(len(found), len(trials), why))


def _note(shown: int, trials: int, why: str) -> str:
    if shown == trials:
        return ""
    reason = why or "so that the page stays small; MLflow has all"
    of = f"{shown} of {counted(trials, 'trial')}"
    return f"masks, α and training curves are shown of {of}: {reason}"


def _ordered(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The complete trials, those of the best points first."""
    first = [document["best"], *document["pareto"]] if document["best"] else document["pareto"]
    numbers = [point["number"] for point in first]
    complete = [trial for trial in document["trials"] if trial["state"] == "complete"]
    best = [trial for number in numbers for trial in complete if trial["number"] == number]
    every = {trial["number"]: trial for trial in (*best, *complete)}
    return list(every.values())


def _elements(number: int, seen: Seen) -> list[tuple[str, str]]:
    found = []
    for phase, png in seen.pictures.items():
        title = _TITLES[phase].format(number)
        small = _smaller(png)
        if small:
            data = base64.b64encode(small).decode()
            text = html.escape(title)
            found.append((title, f'<img alt="{text}" src="data:image/png;base64,{data}">'))
    if seen.courses:
        title = f"accuracies of trial {number} by epoch"
        found.append((title, charts.svg(charts.courses_figure(seen.courses), title)))
    return found


def _smaller(png: bytes) -> bytes:
    """A picture with fewer pixels and colours; nothing where it cannot be read."""
    written = io.BytesIO()
    try:
        with Image.open(io.BytesIO(png)) as opened:
            opened.load()
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return b""
    picture.thumbnail((_WIDTH, 10 * _WIDTH))
    picture.quantize(_COLOURS).save(written, format="PNG", optimize=True)
    return written.getvalue()
