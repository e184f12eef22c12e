"""What a study found, in sentences: the best point, what each setting does, what stays open."""

from collections.abc import Mapping, Sequence
from typing import Any

from zostudy.config.sizes import counted
from zostudy.metrics import METRICS, Metric
from zostudy.study.analysis.factors import Comparison, comparisons
from zostudy.study.analysis.importances import Importances
from zostudy.study.analysis.significance import MOST_RUNS
from zostudy.study.points import described, short_paths
from zostudy.study.report.results_table import mean_and_spread

Document = Mapping[str, Any]

#: What a study is judged by, where it has no objective: the first of these that its trials have.
_JUDGED_BY = ("validation_accuracy", "test_accuracy", "predicted_accuracy")


def judged_by(document: Document, objectives: Sequence[str]) -> Metric | None:
    """The metric that points are compared by: the first objective, else an accuracy."""
    named = [*objectives, *_JUDGED_BY]
    known = {name for point in document["points"] for name in point["metrics"]}
    return next((METRICS[name] for name in named if name in known), None)


def compared(document: Document, metric: Metric | None) -> dict[str, list[Comparison]]:
    """For that metric, and for what a trial costs, every pair of values of every swept setting."""
    names = [metric.name] if metric else []
    costs = [one.name for one in METRICS.values() if one.compared and one.better == "smaller"]
    return {
        name: found
        for name in dict.fromkeys([*names, *costs])
        if (found := comparisons(document["trials"], name))
    }


def answers(
    document: Document,
    metric: Metric | None,
    by_metric: Mapping[str, Sequence[Comparison]],
    shares: Importances | None,
) -> list[str]:
    """The sentences that a reader wants first.

    Args:
        document: The results.
        metric: What the points are judged by.
        by_metric: Every pair of values of every swept setting, by metric.
        shares: How much of that metric's variance each setting explains.
    """
    if metric is None:
        return ["No trial is complete, so nothing can be said yet."]
    found = [_best(document, metric)]
    own = by_metric.get(metric.name, [])
    if own and all(one.p is None for one in own):
        found.append(
            "Each point has one seed, so nothing can be told from noise: the differences below "
            "may be chance. Set sweep.seeds to five or more."
        )
    over = over_random(document, metric)
    found += [over] if over else []
    found += [difference(one, metric) for one in own]
    return [*found, importance(shares, metric)] if shares else found


def importance(found: Importances, metric: Metric) -> str:
    """How much of a metric's variance each setting explains, the largest shares first."""
    short = short_paths([path for name in found.shares for path in name if len(name) == 1])
    ordered = sorted(found.shares.items(), key=lambda one: -one[1])
    told = [(" × ".join(short[p] for p in name), share) for name, share in ordered]
    shown = [f"{name} {100 * share:.0f} %" for name, share in told if share >= 0.005]
    pairs = any(len(name) > 1 for name in found.shares)
    rest = "noise and larger interactions" if pairs else "interactions and noise"
    cut = ", ".join(short[path] for path in found.cut)
    parts = f" ({cut}: values in four parts)" if cut else ""
    if not shown:
        return (
            f"No setting{parts} explains more of the variance of {metric.title} "
            f"between {found.trials} trials than chance would."
        )
    return (
        f"Of the variance of {metric.title} between {found.trials} trials, seeds "
        f"taken out, these explain: {', '.join(shown)}{parts}; "
        f"{100 * found.rest:.0f} % is left to {rest}."
    )


def over_random(document: Document, metric: Metric | None = None) -> str:
    """What the search gives over random genotypes; empty where the study has none.

    Args:
        document: The results.
        metric: The metric that the study is judged by; else an accuracy.
    """
    random = document.get("random_baseline")
    if random is None:
        return ""
    known = _over_random_by(random, metric)
    if known is None:
        return "Random genotypes: no seed has both a searched and a random one that is complete."
    gain = random["gain"][known.name]
    best = ((document["best"] or {}).get("over_random") or {}).get(known.name)
    place = f"; the best point is above {best['percentile']:.0f} % of its own" if best else ""
    return (
        f"Beside {counted(gain['genotypes'], 'random genotype')} of the same space and masks, "
        f"trained and measured in the same way, search gives {_gained(known, gain)} in the mean "
        f"over points{place}."
    )


def _over_random_by(random: Document, metric: Metric | None) -> Metric | None:
    named = [*([metric.name] if metric else []), *_JUDGED_BY]
    return next((METRICS[name] for name in named if name in random["gain"]), None)


def _gained(metric: Metric, gain: Mapping[str, Any]) -> str:
    """A difference to random genotypes, with what is known of it."""
    what = f"{metric.title} {signed(metric, gain['difference'])}"
    if gain["p"] is None:
        return f"{what} (one seed: no interval)"
    low, high = (signed(metric, bound) for bound in gain["interval"])
    told = "told from noise" if gain["differs"] else "not told from noise"
    return (
        f"{what} (95 % interval {low} to {high}, {gain['seeds']} seeds, "
        f"p = {probability(gain['p'])}: {told})"
    )


def points_over_random(document: Document, metric: Metric | None) -> list[tuple[bool, str]]:
    """For every point whether its gain over random genotypes is told from noise, and what it is."""
    known = _over_random_by(document.get("random_baseline", {"gain": {}}), metric)
    if known is None:
        return []
    found = []
    for point in document["points"]:
        gain = point.get("over_random", {}).get(known.name)
        if gain:
            at = described(point["params"])
            beside = counted(gain["genotypes"], "random genotype")
            text = f"{at}: {_gained(known, gain)}; above {gain['percentile']:.0f} % of {beside}."
            found.append((gain["differs"], text))
    return found


def difference(one: Comparison, metric: Metric) -> str:
    """What going from one value of a setting to another does, and whether it is told from noise."""
    setting = short_paths([one.setting])[one.setting]
    title = metric.title
    change = signed(metric, one.difference)
    what = f"{setting} {one.first} → {one.second}: {title} {change}"
    if one.interval is None or one.p is None:
        return f"{what} ({counted(one.pairs, 'pair')} of trials, one seed: no interval)."
    low, high = (signed(metric, bound) for bound in one.interval)
    known = f"(95 % interval {low} to {high}, {one.seeds} seeds, p = {probability(one.p)})"
    if one.differs:
        return f"{what} {known}: told from noise."
    return f"{what} {known}: not told from noise; {_needed(one)}."


def _needed(one: Comparison) -> str:
    if one.seeds_needed is None:
        return f"if it is real, it takes more than {MOST_RUNS:,} seeds to find"
    if one.seeds_needed <= one.seeds:
        return "a single comparison would find it, but not as one of so many"
    return f"if it is real, {one.seeds_needed} seeds would find it four times of five"


def _best(document: Document, metric: Metric) -> str:
    best = document["best"]
    if best is None:
        front = len(document["pareto"])
        if front:
            return (
                f"{counted(front, 'point')} stand on the Pareto front: no other is better in all."
            )
        return "No point has all its seeds complete and keeps to the constraints, so none is best."
    at = ", ".join(
        f"{short_paths(list(best['params']))[p]} = {v}" for p, v in best["params"].items()
    )
    value = mean_and_spread(metric, best["metrics"].get(metric.name))
    told = ""
    if metric.name != "test_accuracy" and "test_accuracy" in best["metrics"]:
        test = mean_and_spread(METRICS["test_accuracy"], best["metrics"]["test_accuracy"])
        told = f"; test accuracy {test}"
    return f"Best by {metric.title}: {at or 'nothing swept'} with {value}{told}."


def signed(metric: Metric, value: float) -> str:
    """A difference as people write it, with its sign."""
    shown = metric.shown(abs(value))
    return f"{'−' if value < 0 else '+'}{shown}"


def probability(value: float) -> str:
    """A p-value, three decimals."""
    return f"{value:.3f}" if value >= 0.001 else "under 0.001"
