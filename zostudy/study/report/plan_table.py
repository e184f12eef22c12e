"""What a user sees of a plan: the data, a table of predicted memory, what is above the budget."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zostudy.config.sizes import shown_bytes
from zostudy.metrics import PHASES
from zostudy.study.planning.plan import PhasePlan, Plan
from zostudy.study.points import short_paths
from zostudy.study.report import data_summary

_ESTIMATED = "≈: mask or genotype are not known yet; one like them stands for them"
_DRAWN = "at most, on average: of the steps of a search that draws the operation of each edge"


def print_plan(plan: Plan, console: Console) -> None:
    """Print the data sets, the memory and steps of each point, and what is above the budget."""
    if not plan.configurations:
        return
    for dataset in plan.datasets:
        for sentence in data_summary.sentences(dataset):
            console.print(sentence, markup=False, soft_wrap=True)
    console.print(_table(plan))
    for configuration in plan.configurations:
        if configuration.excluded:
            console.print(
                f"{configuration.point}: is not run; {configuration.excluded}",
                markup=False,
                soft_wrap=True,
            )
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for exact in (True, False):
        for configuration, advice in plan.above(exact=exact):
            verb = "is" if exact else "may be"
            console.print(
                f"{configuration.point}: {advice.phase} {verb} above the memory budget of "
                f"{shown_bytes(plan.budget)}; {advice}",
                markup=False,
                soft_wrap=True,
            )


def _table(plan: Plan) -> Table:
    configurations = plan.configurations
    paths = list(dict.fromkeys(path for c in configurations for path in c.point.values))
    phases = [name for name in PHASES if any(name in c.phases for c in configurations)]
    ratios = [plan.ratio_to_darts(c) for c in configurations]
    estimated = any(not phase.exact for c in configurations for phase in c.phases.values())
    drawn = any(p.average_bytes is not None for c in configurations for p in c.phases.values())
    captions = [_ESTIMATED] * estimated + [_DRAWN] * drawn
    table = Table(title="predicted peak memory", caption="\n".join(captions) or None)
    for name in short_paths(paths).values():
        table.add_column(name)
    for name in phases:
        table.add_column(name, justify="right")
        table.add_column("steps", justify="right")
    if any(ratios):
        table.add_column("search / DARTS", justify="right")
    for configuration, ratio in zip(configurations, ratios, strict=True):
        row = [escape(str(configuration.point.values.get(path, ""))) for path in paths]
        for name in phases:
            phase = configuration.phases.get(name)
            row.append(_memory(phase) if phase else "–")
            row.append(f"{phase.steps:,}" if phase else "–")
        if any(ratios):
            row.append("–" if ratio is None else f"{ratio:.3f}")
        table.add_row(*row)
    return table


def _memory(phase: PhasePlan) -> str:
    """The peak; where paths are drawn its bound, and the mean below it."""
    about = "" if phase.exact else "≈ "
    peak = shown_bytes(phase.peak_bytes)
    if phase.average_bytes is None:
        return f"{about}{peak}"
    return f"at most {about}{peak}\non average {about}{shown_bytes(round(phase.average_bytes))}"
