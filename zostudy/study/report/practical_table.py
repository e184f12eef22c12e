"""Whether differences of accuracy matter in practice: in a sentence, as a table and as JSON."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zostudy.config.sizes import counted
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS, Metric
from zostudy.study.analysis.factors import comparisons
from zostudy.study.analysis.practical import Practical, practical
from zostudy.study.points import described, short_paths
from zostudy.study.report import answers, tables

Document = Mapping[str, Any]

#: Columns of the table for people.
HEADS = ("comparison", "difference", "seeds", "worse %", "the same %", "better %", "settled")

#: A region as wide as this holds every difference of accuracies.
_WIDEST = 100.0


@dataclass(frozen=True)
class Row:
    """A difference of accuracy.

    Attributes:
        what: What is compared, in words.
        about: The same as JSON has it: ``setting``, ``first`` and ``second``, or ``over_random``
            with the settings of the point, which are empty for all points.
        difference: Percentage points; above 0 where the second is better, or the search.
        seeds: Seeds over which it is spread.
        found: What it is; None where there is no spread to judge by.
    """

    what: str
    about: Mapping[str, Any]
    difference: float
    seeds: int
    found: Practical | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = self.found
        return {
            "what": self.what,
            **self.about,
            "difference": self.difference,
            "seeds": self.seeds,
            "worse": found and found.worse,
            "same": found and found.same,
            "better": found and found.better,
            "settled": found and found.settled,
        }

    def cells(self) -> list[str]:
        """As the table of a page or of a paper shows it."""
        found = self.found
        shares = (found.worse, found.same, found.better) if found else ()
        return [
            self.what,
            f"{'−' if self.difference < 0 else '+'}{abs(self.difference):.2f}",
            str(self.seeds),
            *(f"{100 * share:.1f}" for share in shares),
            *(["–"] * (3 - len(shares))),
            (found.settled or "open") if found else "no spread",
        ]


@dataclass(frozen=True)
class PracticalTable:
    """All differences of a study's accuracy.

    Attributes:
        rope: Up to how many percentage points a difference is practically nothing.
        metric: The accuracy; None where no trial is complete.
        rows: The differences.
    """

    rope: float
    metric: Metric | None
    rows: tuple[Row, ...]

    def sentence(self) -> str:
        """How many differences matter, and which."""
        judged = [row for row in self.rows if row.found]
        region = f"Within ±{self.rope:g} points a difference counts as practically nothing"
        if not judged:
            return f"{region}; this takes two seeds whose differences are not the same."
        settled = [(row.what, row.found.settled) for row in judged if row.found]
        parts = []
        for outcome, words in (
            ("better", "better"),
            ("worse", "worse"),
            ("same", "practically the same"),
        ):
            names = [what for what, found in settled if found == outcome]
            parts += [f"{len(names)} {words} ({'; '.join(names)})"] if names else []
        still = sum(found is None for _, found in settled)
        parts += [f"{still} open"] if still else []
        return (
            f"{region}: of {counted(len(judged), 'comparison')}, with a probability of 95 % or "
            f"more: {', '.join(parts)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "rope": self.rope,
            "metric": self.metric and self.metric.name,
            "sentence": self.sentence(),
            "comparisons": [row.to_dict() for row in self.rows],
        }


def files(table: PracticalTable) -> dict[str, bytes]:
    """The table for programs and for papers, by the names of their files."""
    names = ["what", "difference", "seeds", "worse", "same", "better", "settled"]
    written = io.StringIO()
    rows = csv.DictWriter(written, names, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    rows.writerows(row.to_dict() for row in table.rows)
    return {
        "practical.csv": written.getvalue().encode(),
        "practical.tex": tables.latex(HEADS, [row.cells() for row in table.rows], 1).encode(),
    }


def practical_table(document: Document, objectives: Sequence[str], rope: float) -> PracticalTable:
    """What the differences of a study's accuracy are in practice.

    Args:
        document: The results.
        objectives: What the study is judged by; else an accuracy.
        rope: Up to how many percentage points a difference is practically nothing.

    Raises:
        ConfigError: The study is judged by something else than an accuracy.
    """
    metric = answers.judged_by(document, objectives)
    if metric is None:
        return PracticalTable(rope, None, ())
    if metric.unit != "percent":
        raise _not_of_accuracy(metric.name)
    return PracticalTable(
        rope, metric, (*_settings(document, metric, rope), *_gains(document, metric, rope))
    )


def check(rope: float, objectives: Sequence[str] = ()) -> None:
    """Whether a region can be used.

    Args:
        rope: Up to how many percentage points a difference is practically nothing.
        objectives: What the study is judged by; an accuracy where nothing is named.

    Raises:
        ConfigError: It cannot.
    """
    if objectives and METRICS[objectives[0]].unit != "percent":
        raise _not_of_accuracy(objectives[0])
    if not (math.isfinite(rope) and 0 < rope < _WIDEST):
        raise ConfigError(
            f"--rope: {rope:g} is not allowed; allowed: points of accuracy above 0 and below "
            f"{_WIDEST:g}, such as 0.1"
        )


def _not_of_accuracy(name: str) -> ConfigError:
    return ConfigError(
        f"--rope: counts in points of accuracy, and the study is judged by {name}; leave --rope out"
    )


def _settings(document: Document, metric: Metric, rope: float) -> list[Row]:
    """Every pair of values of every swept setting."""
    return [
        Row(
            f"{short_paths([one.setting])[one.setting]} {one.first} → {one.second}",
            {"setting": one.setting, "first": one.first, "second": one.second},
            one.difference,
            one.seeds,
            practical(one.difference, one.interval, one.seeds, rope),
        )
        for one in comparisons(document["trials"], metric.name)
    ]


def _gains(document: Document, metric: Metric, rope: float) -> list[Row]:
    """What the search gives over random genotypes, in the mean and at every point."""
    study = document.get("random_baseline", {}).get("gain", {})
    named: list[tuple[str, Document, Document]] = []
    if len(document["points"]) > 1:
        named.append(("all points over random", {}, study))
    named += [
        (f"{described(point['params'])} over random", point["params"], point.get("over_random", {}))
        for point in document["points"]
    ]
    found = []
    for what, params, gains in named:
        gain = gains.get(metric.name)
        if gain:
            interval = tuple(gain["interval"]) if gain["interval"] else None
            known = practical(gain["difference"], interval, gain["seeds"], rope)
            found.append(
                Row(what, {"over_random": params}, gain["difference"], gain["seeds"], known)
            )
    return found
