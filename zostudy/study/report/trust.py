"""How far the masks and the searches of a study can be trusted, in plain sentences."""

from collections.abc import Mapping, Sequence

from zostudy.search.decision import DECIDED

#: Reliability of zero-shot scores below which a mask owes much, or almost everything, to chance.
LOW, NONE = 0.5, 0.2

#: A point's metrics, each with its mean over the seeds.
Metrics = Mapping[str, Mapping[str, float | None]]


def warning_of(points: Sequence[Metrics]) -> str:
    """What a user who prunes on noise should know; nothing where all is well.

    Args:
        points: The metrics of every point.
    """
    scored = [
        {name: summary["mean"] or 0.0 for name, summary in point.items()}
        for point in points
        if "prune_repeats" in point
    ]
    if any(metrics["prune_repeats"] == 1 for metrics in scored):
        return (
            "pruned by scores of a single repeat: nothing is known of their reliability, and they "
            "are mostly noise; set prune.repeats to more, or to "
            "{until_reliability: 0.7, at_most: 512}"
        )
    weak = [m for m in scored if m.get("prune_reliability", 0.0) < LOW]
    if not weak:
        return ""
    worst = min(weak, key=lambda metrics: metrics.get("prune_reliability", 0.0))
    found = worst.get("prune_reliability", 0.0)
    agree, mask = (
        ("hardly better than chance", "about as good as a random one")
        if found < NONE
        else ("only weakly", "in large part chance")
    )
    again = 100 * worst.get("prune_pruned_again", 0.0)
    chance = 100 * worst.get("prune_pruned_again_by_chance", 0.0)
    return (
        f"the two halves of the repeats agree {agree} ({found:.2f}; the other half would prune "
        f"{again:.0f} % of the same operations, chance {chance:.0f} %): this mask is {mask}; "
        "raise prune.repeats"
    )


def predictions(points: Sequence[Metrics]) -> str:
    """That accuracies are predictions, and how wide their intervals are; nothing elsewhere.

    Args:
        points: The metrics of every point.
    """
    widths = [
        high - low
        for point in points
        if (low := point.get("predicted_low", {}).get("mean")) is not None
        and (high := point.get("predicted_high", {}).get("mean")) is not None
    ]
    if not widths:
        return ""
    return (
        "accuracies are a predictor's, nothing was trained or measured; their intervals are "
        f"{max(widths):.2f} points wide at most, and the spread over seeds says nothing of them"
    )


def undecided(points: Sequence[Metrics]) -> str:
    """What a user whose searches decided nothing should know; nothing where they decided.

    Args:
        points: The metrics of every point.
    """
    leads = [
        lead
        for point in points
        if (lead := point.get("search_lead", {}).get("mean")) is not None and lead > 0
    ]
    below = [lead for lead in leads if lead < DECIDED]
    if not below:
        return ""
    lowest, highest = f"{min(below):.1f}", f"{max(below):.1f}"
    times = lowest if lowest == highest else f"{lowest} to {highest}"
    return (
        f"at {len(below)} of {len(leads)} points the search did not decide: the best operation of "
        f"an edge leads the second by {times} times what the random "
        "start of α alone gives, so that the genotype owes much to chance; raise search.epochs or "
        "search.architecture.learning_rate"
    )
