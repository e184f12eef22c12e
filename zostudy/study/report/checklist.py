"""The checklist of best practices for research on architecture search, from a study's records.

References:
    Lindauer and Hutter, "Best Practices for Scientific Research on Neural Architecture Search",
    JMLR 2020.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zostudy.config.settings import StudyConfig
from zostudy.config.sizes import counted

#: Seeds from which a spread says something.
_SEEDS = 5


@dataclass(frozen=True)
class Item:
    """One question of the checklist.

    Attributes:
        question: What is asked.
        met: Whether the study's records answer it with yes.
        answer: What they say, or what is missing.
    """

    question: str
    met: bool
    answer: str


def checklist(config: StudyConfig, document: Mapping[str, Any]) -> list[Item]:
    """The questions that records can answer; a paper has to answer others, such as on its code."""
    return [*_of_comparisons(config, document), *_of_trials(document)]


def _of_splits(config: StudyConfig, seeds: int) -> Item:
    by_seed, held_out = config.dataset.splits == "by_seed", config.dataset.validation_fraction > 0
    if not held_out:
        words = "there is no validation part"
    elif by_seed:
        words = "every seed has a split of its own"
    else:
        words = "all seeds share one split (dataset.splits: by_seed gives each its own)"
    question = "Does the spread hold the chance of the split into training and validation?"
    return Item(question, by_seed and held_out and seeds > 1, words)


def _of_comparisons(config: StudyConfig, document: Mapping[str, Any]) -> list[Item]:
    """Whether what is compared is comparable."""
    seeds = len(config.sweep.seeds)
    settings = list(dict.fromkeys(p for point in document["points"] for p in point["params"]))
    sources = {str(point["params"].get("prune.source")) for point in document["points"]}
    table = config.evaluate.by == "table"
    gain = next(iter(document.get("random_baseline", {}).get("gain", {}).values()), None)
    return [
        Item(
            "Are results means over several seeds, with their spread?",
            seeds >= _SEEDS,
            f"{counted(seeds, 'seed')} a point"
            + ("" if seeds >= _SEEDS else f"; {_SEEDS} say more"),
        ),
        _of_splits(config, seeds),
        Item(
            "Were architectures selected without the test set?",
            not table or not config.sweep.objectives,
            "evaluated by a table of test accuracies; nothing is selected by them"
            if table
            else "accuracies are predicted, and none was measured"
            if config.evaluate.by == "predictor"
            else f"selected on {100 * config.dataset.validation_fraction:g} % held out of training",
        ),
        Item(
            "Is the search compared with random choice in the same space?",
            bool(gain) or (table and "metrics" in document.get("random_choice", {})),
            f"{counted(gain['genotypes'], 'random genotype')}, evaluated the same way"
            if gain
            else "random architectures of the table stand beside it"
            if table
            else "no random architectures were trained the same way (sweep.random_baseline)",
        ),
        Item(
            "Is pruning compared with a random mask?",
            {"random", "zero_shot"} <= sources,
            "mask sources: " + ", ".join(sorted(sources - {"None"}) or [config.prune.source]),
        ),
        Item(
            "Were all settings but those compared the same?",
            bool(settings),
            f"swept: {', '.join(settings) or 'nothing'}; all else is in one study file",
        ),
    ]


def _of_trials(document: Mapping[str, Any]) -> list[Item]:
    """Whether the trials are reported as they were run."""
    made_of = [trial["made_of"] for trial in document["trials"] if trial.get("made_of")]
    devices = sorted({str(one.get("device")) for one in made_of})
    engines = sorted({str(one.get("engine", ""))[:12] for one in made_of})
    failed = [trial["number"] for trial in document["trials"] if trial["state"] == "failed"]
    return [
        Item(
            "Did all trials run with the same code, and on one kind of device?",
            len(devices) == 1 and len(engines) == 1,
            f"devices: {_listed(devices)}; engine: {_listed(engines)}",
        ),
        Item(
            "Are all trials reported, failed ones included?",
            True,
            f"{counted(len(document['trials']), 'trial')}, {len(failed)} failed; all are below",
        ),
        Item(
            "Are time and memory of every phase reported?",
            any("search_seconds" in point["metrics"] for point in document["points"]),
            "seconds and peak bytes of prune, search and evaluate are in the tables",
        ),
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "not recorded"
