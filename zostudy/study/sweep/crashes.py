"""A study that can only fail: its first trials have crashed, all in the same way and phase."""

from collections import defaultdict
from collections.abc import Sequence

from zostudy.config.sweep import SweepSettings
from zostudy.study.points import Ended, Failure, Point, Standing, TrialOutcome, described

#: A trial that crashed: its point, and how.
_Crashed = tuple[Point, Failure]


def hopeless(standing: Standing, sweep: SweepSettings) -> str:
    """Why a study is not gone on with; empty where it is.

    All workers read the same outcomes and come to the same conclusion. A trial that failed for a
    reason of its own does not count; one that is complete, or that was stopped for its poor
    accuracy, shows that the study can be computed.

    Args:
        standing: Where the study stands.
        sweep: Of it, after how many crashes it stops.
    """
    if not sweep.stop_after_crashes:
        return ""
    same: dict[tuple[str, str], list[_Crashed]] = defaultdict(list)
    for point in standing.points:
        for outcome in standing.outcomes(point).values():
            if isinstance(outcome, TrialOutcome) or _was_computed(outcome):
                return ""
            if isinstance(outcome, Failure) and outcome.crash:
                same[outcome.crash, outcome.phase].append((point, outcome))
    most = max(same.values(), key=len, default=[])
    return _told(most) if len(most) >= sweep.stop_after_crashes else ""


def _was_computed(outcome: object) -> bool:
    return isinstance(outcome, Ended) and outcome.state == "stopped"


def _told(crashed: Sequence[_Crashed]) -> str:
    point, failure = crashed[0]
    place = f"in phase {failure.phase!r}" if failure.phase else "before the first phase"
    shared = {
        path: value
        for path, value in point.values.items()
        if all(other.values.get(path) == value for other, _ in crashed)
    }
    alike = f"; all have {described(shared)}" if shared else ""
    return (
        f"no trial has come to an end, and {len(crashed)} have crashed alike {place}: "
        f"{failure.reason}{alike}; `zostudy doctor --machine STUDY` says whether this machine "
        "computes an operation wrongly and what to set (ONEDNN_MAX_CPU_ISA=AVX has helped on "
        "processors, runtime.threads=1, another runtime.device or version of torch); "
        "sweep.stop_after_crashes=0 runs the others regardless"
    )
