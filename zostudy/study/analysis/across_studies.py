"""Studies side by side: the points they share, how those differ, and whether that is noise.

Two points of two studies are the same where every setting that one of the studies sweeps has the
same value in both. What else differs (an epoch more, another data set) is what a difference is of,
and is named. Where two points share at least two seeds, the seeds are paired (Student's t-test of
their differences); else the trials are independent groups (Welch's t-test). Both are two-sided, and
all differences of a comparison are one family, corrected by Holm's method. The difference over all
points that two studies share is that of the means of each shared seed, a family of its own.

Accuracies on different pictures are shown and not tested: their difference is one of the data. The
same goes for accuracies from different tables, columns and predictors, and for latencies that are
of different hardware, tables or settings.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from zostudy.config.latency import LatencySettings
from zostudy.config.loading import StudyFile, canonical, flat, to_document
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS
from zostudy.study import points
from zostudy.study.analysis.significance import ALPHA, Estimate, holm, independent, paired
from zostudy.study.ingredients import HARDWARE

#: Studies up to which all pairs are compared; of more, each with the first.
_ALL_PAIRS = 4

#: Settings that say where accuracies come from, and on which pictures they are measured.
_SOURCES = (
    "evaluate.by",
    "evaluate.column",
    "evaluate.validation_column",
    "dataset.splits",
)

#: Settings that say how latencies are had; of a table the content counts, not its place.
_LATENCY = tuple(f"latency.{name}" for name in LatencySettings.model_fields if name != "path")

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A study that is compared.

    Attributes:
        name: What it is called, unlike any other.
        file: Its study file.
        document: Its results.
    """

    name: str
    file: StudyFile
    document: Document


@dataclass(frozen=True)
class Difference:
    """Two studies by one metric, at a point or over all points that they share.

    Attributes:
        at: The settings of the point; None over all.
        first: The name of one study.
        second: That of the other.
        runs: Trials of each; pairs where seeds are paired.
        seeds_paired: Whether they are.
        difference: Mean of the second less that of the first.
        interval: Its 95 % interval, not corrected; None where there is no spread to judge by.
        p: Holm's corrected p-value; None likewise, and where pictures or devices differ.
        effect: The difference in standard deviations (Cohen's d).
    """

    at: Mapping[str, Any] | None
    first: str
    second: str
    runs: tuple[int, int]
    seeds_paired: bool
    difference: float
    interval: tuple[float, float] | None
    p: float | None
    effect: float | None

    @property
    def differs(self) -> bool:
        """Whether it is told from noise."""
        return self.p is not None and self.p < ALPHA

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "differs": self.differs}


@dataclass(frozen=True)
class SharedPoint:
    """A point that at least two studies have.

    Attributes:
        params: The value of every setting that one of them sweeps.
        own: For each study that has it, its point of the results document.
        trials: For each of them, its complete trials by their seeds.
        configs: For each of them, the settings as flat paths.
    """

    params: Mapping[str, Any]
    own: Mapping[str, Document]
    trials: Mapping[str, Mapping[int, Document]]
    configs: Mapping[str, Mapping[str, Any]]

    def same_pictures(self, first: str, second: str) -> bool:
        """Whether accuracies of two studies are of the same pictures, as far as is known."""
        one, other = (self._made_of(name, "data", "evaluate.path") for name in (first, second))
        own, others = self.configs[first], self.configs[second]
        paths = list(_SOURCES)
        if not all(data for data, *_ in one | other):
            paths += [path for path in {**own, **others} if path.startswith("dataset.")]
        return one == other and all(own.get(path) == others.get(path) for path in paths)

    def same_device(self, first: str, second: str) -> bool:
        """Whether latencies of two studies are had in one way, as far as is known."""
        one, other = (self._made_of(name, HARDWARE, "latency.path") for name in (first, second))
        ways = [
            {p: v for p, v in self.configs[name].items() if p in _LATENCY}
            for name in (first, second)
        ]
        return one == other and ways[0] == ways[1]

    def tests(self, metric: str, first: str, second: str) -> bool:
        """Whether a difference of two studies by a metric can be one of their settings."""
        if METRICS[metric].source == "latency":
            return self.same_device(first, second)
        return not _of_pictures(metric) or self.same_pictures(first, second)

    def _made_of(self, name: str, *ingredients: str) -> set[tuple[str, ...]]:
        """What some ingredients of a study's trials are."""
        made_of = [trial.get("made_of") or {} for trial in self.trials[name].values()]
        return {tuple(str(m.get(i, "")) for i in ingredients) for m in made_of}


@dataclass(frozen=True)
class Comparison:
    """Studies side by side.

    Attributes:
        studies: Their names.
        points: The points that at least two of them have.
        settings: What else differs at these points: for each path, the values of each study.
        notes: What is to be known of the comparison, a sentence each.
    """

    studies: tuple[str, ...]
    points: tuple[SharedPoint, ...]
    settings: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]

    def metrics(self) -> list[str]:
        """The metrics that two studies have at the same point."""
        counts: dict[str, int] = {}
        for point in self.points:
            names = [name for own in point.own.values() for name in own["metrics"]]
            counts |= {n: max(counts.get(n, 0), names.count(n)) for n in names}
        return [name for name, count in counts.items() if count > 1]

    def differences(self, metric: str) -> tuple[list[Difference], list[Difference]]:
        """By a metric, the differences at every point, and those over all points."""
        at_points, over_all = [], []
        for first, second in self._pairs():
            shared = [p for p in self.points if {first, second} <= p.own.keys()]
            sides = [(p, _values(p, first, metric), _values(p, second, metric)) for p in shared]
            sides = [side for side in sides if side[1] and side[2]]
            at_points += [
                _difference(
                    point.params,
                    (first, second),
                    one,
                    other,
                    tested=point.tests(metric, first, second),
                )
                for point, one, other in sides
            ]
            means = _means([(one, other) for _, one, other in sides])
            if means and len(sides) > 1:
                one, other = ({s: m[side] for s, m in means.items()} for side in (0, 1))
                tested = all(p.tests(metric, first, second) for p, _, _ in sides)
                over_all.append(_difference(None, (first, second), one, other, tested=tested))
        return _corrected(at_points), _corrected(over_all)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        if len(self.studies) > _ALL_PAIRS:
            return ((self.studies[0], other) for other in self.studies[1:])
        return itertools.combinations(self.studies, 2)


def compared(studies: Sequence[Study]) -> Comparison:
    """Studies side by side.

    Raises:
        ConfigError: They share no point, or one has no complete trial.
    """
    for study in studies:
        if not any(trial["state"] == "complete" for trial in study.document["trials"]):
            raise ConfigError(f"compare: study {study.name!r} has no complete trial to compare")
    factors = {study.name: _swept(study) for study in studies}
    paths = list(dict.fromkeys(path for swept in factors.values() for path in swept))
    found: dict[str, dict[str, tuple[Document, dict[str, Any], dict[str, Any]]]] = {}
    for study in studies:
        for point in study.document["points"]:
            if point["n"]:
                config = points.point(study.file, point["params"]).config
                document = to_document(config)
                params = {p: point["params"].get(p, _at(document, p)) for p in paths}
                key = json.dumps({p: _alike(v) for p, v in params.items()}, sort_keys=True)
                found.setdefault(key, {})[study.name] = (point, params, flat(canonical(config)))
    shared = tuple(
        SharedPoint(
            next(iter(own.values()))[1],
            {name: point for name, (point, _, _) in own.items()},
            {s.name: _trials(s, own[s.name][0]) for s in studies if s.name in own},
            {name: config for name, (_, _, config) in own.items()},
        )
        for own in found.values()
        if len(own) > 1
    )
    if not shared:
        raise ConfigError(f"compare: {_nothing_shared(studies, factors, found)}")
    settings = _differing(shared, paths)
    named = tuple(study.name for study in studies)
    notes = (*_other_factors(factors), *_alone(studies, found), *_pictures(shared, settings))
    return Comparison(
        named, shared, settings, (*notes, *_devices(shared, settings), *_made_of(studies))
    )


def _swept(study: Study) -> list[str]:
    return list(dict.fromkeys(p for point in study.document["points"] for p in point["params"]))


def _at(document: Mapping[str, Any], path: str) -> object:
    """The value at a path of settings; None where there is none."""
    value: object = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _alike(value: object) -> object:
    """A whole number as a float, so that 1 and 1.0 are one value."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole else value  # type: ignore[arg-type]


def _of_pictures(metric: str) -> bool:
    """Whether a metric depends on the pictures, or on where accuracies come from."""
    return "accuracy" in metric or METRICS[metric].by in (("table",), ("predictor",))


def _trials(study: Study, point: Document) -> dict[int, Document]:
    return {
        trial["seed"]: trial
        for trial in study.document["trials"]
        if trial["state"] == "complete" and trial["params"] == point["params"]
    }


def _values(point: SharedPoint, study: str, metric: str) -> dict[int, float]:
    found = point.trials[study]
    return {s: t["metrics"][metric] for s, t in found.items() if metric in t["metrics"]}


def _means(
    sides: Sequence[tuple[Mapping[int, float], Mapping[int, float]]],
) -> dict[int, tuple[float, float]]:
    """For each seed that both have at every point, the means over the points."""
    every = [set(own) for both in sides for own in both]
    seeds = sorted(set.intersection(*every)) if every else []
    return {
        seed: (fmean(one[seed] for one, _ in sides), fmean(other[seed] for _, other in sides))
        for seed in seeds
    }


def _difference(
    at: Mapping[str, Any] | None,
    names: tuple[str, str],
    one: Mapping[int, float],
    other: Mapping[int, float],
    *,
    tested: bool,
) -> Difference:
    shared = [seed for seed in one if seed in other]
    pairs = len(shared) > 1 or (len(shared) == len(one) == len(other) == 1)
    found: Estimate
    if pairs:
        found, runs = paired([other[s] - one[s] for s in shared]), (len(shared), len(shared))
    else:
        found = independent(list(one.values()), list(other.values()))
        runs = (len(one), len(other))
    interval, p = (found.interval, found.p) if tested else (None, None)
    return Difference(at, *names, runs, pairs, found.difference, interval, p, found.effect)


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    corrected = holm([one.p for one in found])
    return [replace(one, p=p) for one, p in zip(found, corrected, strict=True)]


def _differing(shared: Sequence[SharedPoint], paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings, other than swept ones, that differ at a shared point."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for point in shared:
        for path in dict.fromkeys(p for config in point.configs.values() for p in config):
            values = {name: str(c.get(path, "not used")) for name, c in point.configs.items()}
            swept = any(path == p or path.startswith(f"{p}.") for p in paths)
            if len(set(values.values())) > 1 and not swept:
                for name, value in values.items():
                    found.setdefault(path, {}).setdefault(name, {})[value] = None
    return {
        path: {name: ", ".join(values) for name, values in by.items()} for path, by in found.items()
    }


def _other_factors(factors: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for path in dict.fromkeys(p for swept in factors.values() for p in swept):
        without = [name for name, swept in factors.items() if path not in swept]
        if without:
            having = [name for name in factors if name not in without]
            yield (
                f"{path} is swept by {', '.join(having)} and not by {', '.join(without)}: points "
                "with the same value of it are compared"
            )


def _alone(studies: Sequence[Study], found: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for study in studies:
        count = sum(study.name in own and len(own) == 1 for own in found.values())
        if count:
            what = "1 point has" if count == 1 else f"{count} points have"
            yield f"{what} no counterpart: only {study.name} has {'it' if count == 1 else 'them'}"


def _pictures(shared: Sequence[SharedPoint], settings: Mapping[str, object]) -> Iterator[str]:
    """What is to be said where accuracies are of different pictures."""
    pairs = [(p, *pair) for p in shared for pair in itertools.combinations(p.own, 2)]
    if all(point.same_pictures(first, second) for point, first, second in pairs):
        return
    named = [path for path in settings if path.startswith("dataset.") or path in _SOURCES]
    why = ", ".join(named) or "digests of pictures, labels or splits"
    yield f"the data differs ({why}): accuracies stand side by side and are not tested"


def _devices(shared: Sequence[SharedPoint], settings: Mapping[str, object]) -> Iterator[str]:
    """What is to be said where latencies are of different devices, or had in different ways."""
    for point in shared:
        timed = [name for name, own in point.own.items() if "latency_ms" in own["metrics"]]
        pairs = itertools.combinations(timed, 2)
        if not all(point.same_device(first, second) for first, second in pairs):
            named = [path for path in settings if path in _LATENCY]
            why = ", ".join(named) or "hardware, or the content of the table"
            yield f"the latency differs ({why}): latencies stand side by side and are not tested"
            return


def _made_of(studies: Sequence[Study]) -> Iterator[str]:
    for ingredient in ("engine", "device"):
        of = {s.name: _ingredients(s, ingredient) for s in studies}
        if len({frozenset(own) for own in of.values() if own}) > 1:
            told = "; ".join(f"{n}: {', '.join(v[:12] for v in own)}" for n, own in of.items())
            yield f"the {ingredient} differs ({told}): equal settings may give other figures"


def _ingredients(study: Study, name: str) -> list[str]:
    made_of = [trial.get("made_of", {}) for trial in study.document["trials"]]
    return sorted({str(one[name]) for one in made_of if one.get(name)})


def _nothing_shared(
    studies: Sequence[Study],
    factors: Mapping[str, Sequence[str]],
    found: Mapping[str, Mapping[str, object]],
) -> str:
    names = " and ".join(repr(study.name) for study in studies)
    for path in dict.fromkeys(p for swept in factors.values() for p in swept):
        values = {
            study.name: {
                str(json.loads(key)[path]) for key, own in found.items() if study.name in own
            }
            for study in studies
        }
        if not set.intersection(*values.values()):
            told = "; ".join(f"{n}: {', '.join(sorted(v)[:6])}" for n, v in values.items())
            return f"studies {names} share no point; {path} has no value in common ({told})"
    return f"studies {names} share no point"
