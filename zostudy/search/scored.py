"""Search by score alone: an algorithm proposes architectures, a score says how good they are.

No supernet is trained. The algorithm draws by the trial's seed and knows nothing but scores, so
that a search which was killed goes on bit for bit: it is run again from its beginning with the
scores that its checkpoint has.
"""

import json
import random as pseudo_random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.data.dataset import Dataset
from zostudy.errors import InadmissibleError, NumericalError
from zostudy.networks.dry_run import predicted_peak
from zostudy.networks.memory import PeakMemory
from zostudy.runtime import Runtime, seeded
from zostudy.search.admission import Admission, everything
from zostudy.search.result import SearchResult
from zostudy.search.scores import (
    Score,
    ScoreContext,
    Values,
    builds_networks,
    check_score,
    score_of,
)
from zostudy.space import enumeration
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import Node, SearchSpace
from zostudy.space.variation import Variation
from zostudy.stage import Progress, StageContext

#: Stream of the trial's seed that an algorithm draws from.
_ALGORITHM = "search/algorithm"

#: Architectures that are scored between two reports, and between two states of a checkpoint.
_EVERY = 10

#: Share of the time that saving may take: all that is known is written each time.
_SAVING = 0.05

#: Proposals in a row that bring nothing new, after which a search ends.
_STALE = 10_000

#: Architectures without a value, before any has one, after which a search fails.
_HOPELESS = 100


def search(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    context: StageContext,
    admission: Admission = everything,
) -> SearchResult:
    """Search the architectures that a mask leaves for the one of the best score.

    Resumes from the context's checkpoint, and saves to it every now and then; what was not saved is
    scored again, to the same values.

    Args:
        mask: What is searched.
        dataset: The data set, of which scores may read the pictures that train weights.
        supernet: Size of the networks that are scored.
        settings: The search.
        context: Device, seed, checkpoint and report.
        admission: Which architectures may be scored.

    Raises:
        NumericalError: No architecture has a value.
        InadmissibleError: No architecture that may be scored was found.
    """
    state = context.checkpoint.load() or {}
    runtime, stored = context.runtime, _stored(state, mask.space)
    memory = PeakMemory(runtime.device, state.get("peak_bytes", 0))
    given = ScoreContext(mask.space, supernet, dataset, settings, runtime, context.seed, memory)
    score = score_of(given)
    listed = admission.listed(mask)
    most = min(settings.evaluations, len(listed) or enumeration.count(mask))
    before, began, due = state.get("seconds", 0.0), time.perf_counter(), 0.0
    history: list[dict[str, float]] = []
    for genotype in proposals(mask, settings, score, context.seed, most, admission, listed):
        if genotype in stored:
            score.known[genotype] = stored[genotype]
        elif score(genotype) is None:
            _check_hope(score)
        done = len(score.known)
        if done % _EVERY and done < most:
            continue
        if done % _between(done) == 0 or done == most:
            history.append(_course(score, admission))
        if done >= len(stored):
            now = time.perf_counter()
            if now >= due or done == most:
                seconds = before + now - began
                context.checkpoint.save(
                    {"scored": _text(score), "seconds": seconds, "peak_bytes": memory.peak_bytes}
                )
                ended = time.perf_counter()
                due = ended + (ended - now) / _SAVING
            context.report(Progress("search", done, most, history[-1] if history else {}))
    best, done = score.best(), len(score.known)
    if score.known[best] is None:
        raise NumericalError(f"search: no architecture has a value{_why(score)}")
    return SearchResult(
        genotype=best,
        history=history,
        alpha_history=(),
        seconds=before + time.perf_counter() - began,
        peak_bytes=memory.peak_bytes,
        metrics={"evaluated": float(done)} | _course(score, admission),
        notes=_notes(done, most, limited=admission.limited),
        scored=[(genotype, values and list(values)) for genotype, values in score.known.items()],
    )


def proposals(
    mask: OperationMask,
    settings: SearchSettings,
    score: Score,
    seed: int,
    most: int,
    admission: Admission = everything,
    listed: Sequence[Genotype] = (),
) -> Iterator[Genotype]:
    """Architectures that the algorithm proposes for the first time.

    Args:
        mask: What is searched.
        settings: Their algorithm counts.
        score: Knows the values of each before the next is asked for.
        seed: The trial's seed.
        most: How many there are to be.
        admission: Which architectures may be proposed.
        listed: All of them, where they are known.

    Raises:
        InadmissibleError: No architecture that may be proposed was ever found.
    """
    chosen = settings.algorithm
    component = mask.space.find("search_algorithm", chosen.name, "search.algorithm.name")
    draw = pseudo_random.Random(seeded("cpu", seed, _ALGORITHM).initial_seed())
    variation = Variation(mask, draw, admission, listed)
    stale = 0
    try:
        for genotype in component.load()(variation, score.fitness, **chosen.options):
            stale = stale + 1 if genotype in score.known else 0
            if not stale:
                yield genotype
            if len(score.known) >= most or stale >= _STALE:
                return
    except InadmissibleError as error:
        if not score.known:  # else it ends with what was found
            raise admission.refusal() from error


def _between(done: int) -> int:
    """Architectures between two entries of the course: a tenth of the power of ten below."""
    return max(_EVERY, int(10 ** (len(str(done)) - 2)))


def _check_hope(score: Score) -> None:
    """Whether an architecture may still have a value.

    Raises:
        NumericalError: So many were tried, and none has.
    """
    if len(score.known) >= _HOPELESS and not any(score.known.values()):
        raise NumericalError(
            f"search: none of the first {_HOPELESS} architectures has a value{_why(score)}"
        )


def _why(score: Score) -> str:
    return f"; the last one: {score.reasons[-1]}" if score.reasons else ""


def _course(score: Score, admission: Admission) -> dict[str, float]:
    """The values of the best architecture up to now, how many have none, how many were rejected."""
    values = score.known[score.best()] or ()
    found = {f"best_{name}": value for name, value in zip(score.names, values, strict=False)}
    found["refused"] = float(list(score.known.values()).count(None))
    return found | ({"rejected": float(admission.rejected)} if admission.limited else {})


def _text(score: Score) -> str:
    return json.dumps([[one.to_dict()["cells"], values] for one, values in score.known.items()])


def _stored(state: Mapping[str, Any], space: SearchSpace) -> dict[Genotype, Values | None]:
    """What an interrupted session has scored."""
    found = {}
    for cells, values in json.loads(state.get("scored", "[]")):
        document = {"search_space": space.name, "cells": cells}
        genotype = genotypes.from_dict(document, space.extensions)
        found[genotype] = None if values is None else tuple(values)
    return found


def _notes(done: int, most: int, *, limited: bool) -> list[str]:
    """That a search ended before it has scored as many as it may."""
    if done == most:
        return []
    return [
        f"the search ended after {done:,} of {most:,} architectures: "
        + (
            "further proposals brought no new one that keeps to the limits"
            if limited
            else f"{_STALE:,} proposals brought no new one"
        )
    ]


def check(
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    space: SearchSpace,
    runtime: Runtime,
) -> None:
    """Whether the score can work with these settings and this data.

    Raises:
        ConfigError: It cannot.
    """
    memory = PeakMemory(runtime.device)
    check_score(ScoreContext(space, supernet, dataset, settings, runtime, 0, memory))


def predict_peak(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    runtime: Runtime,
) -> int:
    """A bound of the peak of `search` on the CPU, from a network without numbers.

    It is that of the architecture whose every edge has the operation that needs most, each judged
    alone on all edges; it is 0 where no networks are built.

    Args:
        mask: What is searched.
        dataset: The data set, or its outline.
        supernet: Size of the networks.
        settings: The search.
        runtime: Its precision counts.

    Returns:
        Bytes of live tensors.
    """
    given = ScoreContext(
        mask.space, supernet, dataset.outline(), settings, runtime, 0, PeakMemory(runtime.device)
    )
    if not builds_networks(given):
        return 0

    def peak(genotype: Genotype) -> int:
        def work(imaginary: Runtime) -> None:
            memory = PeakMemory(imaginary.device)
            score_of(replace(given, runtime=imaginary, memory=memory))(genotype)

        return predicted_peak(work, runtime)

    space = mask.space
    needs = {name: peak(_largest(OperationMask.full(space), {name: 1})) for name in space.keepable}
    return peak(_largest(mask, needs))


def _largest(mask: OperationMask, needs: dict[str, int]) -> Genotype:
    """The architecture of the operations that need most, on the edges that have them."""
    space = mask.space
    cells: dict[str, tuple[Node, ...]] = {}
    for kind in space.cell_types:
        nodes = []
        for target in space.targets:
            by_edge = enumeration.operations(mask, kind, target)
            most = [
                (max(names, key=lambda name: needs.get(name, 0)), space.edges[edge][0])
                for edge, names in by_edge.items()
                if names
            ]
            most.sort(key=lambda pair: -needs.get(pair[0], 0))
            nodes.append(tuple(most[: space.kept(target)]))
        cells[kind] = tuple(nodes)
    return Genotype(space, cells)
