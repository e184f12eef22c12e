"""What a finished phase leaves in its run: figures, and files."""

from collections.abc import Mapping
from typing import Any

from zostudy import metrics
from zostudy.pruning.greedy import Round
from zostudy.study.pictures import drawing
from zostudy.study.store.records import Record
from zostudy.study.tracking.runs import CACHE_FROM, CACHE_HIT, Run
from zostudy.study.trial.computing import PREDICTED
from zostudy.study.trial.phases import TrialPhases


def measured(phase: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a trial that a phase's values hold.

    A value stands there under the metric's name, or without the phase's name in front.
    """
    held = values["figures"] | values
    sources = (phase, "genotype") if phase == "evaluate" else (phase,)
    found = {}
    for metric in metrics.of(*sources):
        for name in (metric.name, metric.name.removeprefix(f"{phase}_")):
            if held.get(name) is not None:
                found[metric.name] = held[name]
    return found


def log_source(run: Run, record: Record) -> None:
    """Whether a phase was computed by its run, or by which it was."""
    source = record.origin["mlflow_run_id"]
    run.tags({CACHE_HIT: str(source != run.id)})
    if source != run.id:
        run.tags({CACHE_FROM: source})
    for step, figures in enumerate(record.values.get("history", ()), start=1):
        run.metrics(figures, step=step)  # those of a cached phase, or lost before a checkpoint


def log_phase(run: Run, name: str, values: Mapping[str, Any], phases: TrialPhases) -> None:
    """A finished phase's figures and artifacts."""
    shown = ("seconds", "peak_bytes", *PREDICTED)
    run.metrics({key: values[key] for key in shown if key in values} | values["figures"])
    if name == "prune":
        run.json(values["mask"], "mask.json")
        trajectory = {name: values[name] for name in ("rounds", "edges", "added")}
        run.json(trajectory, "trajectory.json")
        run.figure(drawing.mask_figure(phases.mask(values)), "mask.png")
        if values["rounds"]:
            first = Round.of(values["rounds"][0], phases.mask(values))
            run.figure(drawing.scores_figure(first), "scores.png")
    if name == "search":
        run.json(values["genotype"], "genotype.json")
        run.json(values["alpha_history"], "alpha_history.json")
        run.figure(drawing.alpha_figure(values["alpha_history"], phases.space), "alpha.png")
    if name == "evaluate":
        run.metrics(measured(name, values))
