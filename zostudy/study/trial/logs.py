"""What a finished phase leaves in its run: figures, and files."""

from collections.abc import Mapping

from zostudy.pruning.mask_sources import PruneResult
from zostudy.search.result import SearchResult
from zostudy.study.pictures import drawing, edge_panels
from zostudy.study.store.records import Record
from zostudy.study.tracking.runs import CACHE_FROM, CACHE_HIT, Run

#: Tag: why a search ended early, that it did not decide, or that it collapsed.
SEARCH_NOTE = "zostudy.search_note"

#: The predicted peak of a phase, and the measured one over it.
PREDICTED = ("predicted_bytes", "predicted_ratio")


def log_record(run: Run, record: Record) -> None:
    """Whether a phase was computed by its run, or by which it was; and its figures."""
    source = record.origin["mlflow_run_id"]
    run.tags({CACHE_HIT: str(source != run.id)})
    if source != run.id:
        run.tags({CACHE_FROM: source})
    values = record.values
    for step, figures in enumerate(values.get("history", ()), start=1):
        run.metrics(figures, step=step)  # those of a cached phase, or lost before a checkpoint
    shown = ("seconds", "peak_bytes", *PREDICTED)
    run.metrics({key: values[key] for key in shown if key in values} | values["figures"])


def log_pruning(run: Run, result: PruneResult) -> None:
    """The mask and how it came about."""
    values = result.to_dict()
    run.json(values["mask"], "mask.json")
    run.json({name: values[name] for name in ("rounds", "edges", "added")}, "trajectory.json")
    run.figure(drawing.mask_figure(result.mask), "mask.png")
    if result.rounds:
        run.figure(edge_panels.scores_figure(result.rounds[0]), "scores.png")


def log_search(run: Run, result: SearchResult) -> None:
    """The genotype, the course of mixing weights or scores, and what is to be said of it all."""
    genotype, course = result.genotype, result.alpha_history
    if result.notes:
        run.tags({SEARCH_NOTE: "; ".join(result.notes)})
    if result.healthy:
        healthy, epoch = result.healthy
        run.json(healthy.to_dict() | {"epoch": epoch}, "healthy_genotype.json")
    run.json(genotype.to_dict(), "genotype.json")
    if course:
        run.json(course, "alpha_history.json")
        run.figure(edge_panels.alpha_figure(course, genotype.space), "alpha.png")
    if result.scored:
        named = genotype.space.notation is not None
        scored = [
            {"genotype": one.to_notation() if named else one.to_dict()["cells"], "values": own}
            for one, own in result.scored
        ]
        run.json(scored, "scored.json")


def log_metrics(run: Run, metrics: Mapping[str, float]) -> None:
    """What was measured."""
    run.metrics(dict(metrics))
