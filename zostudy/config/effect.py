"""Which settings of a trial have no effect, because of others."""

from zostudy.config.document import Document
from zostudy.config.evaluators import followed
from zostudy.config.latency import LatencySettings
from zostudy.config.search import SearchSettings
from zostudy.config.settings import EvaluateSettings, TrialConfig

#: Settings of a search by score alone, which no other follows, and the others that it follows.
_BY_SCORE = ("algorithm", "score", "evaluations", "constraints")
_SHARED = ("strategy", "architecture_fraction")


def of_search(settings: SearchSettings, document: Document) -> Document:
    """Of the settings of a search, those that it follows."""
    if settings.strategy == "none":
        return {"strategy": "none"}
    if settings.strategy == "score":
        return {name: document[name] for name in (*_SHARED, *_BY_SCORE)}
    return {name: value for name, value in document.items() if name not in _BY_SCORE}


def of_evaluation(settings: EvaluateSettings, document: Document) -> Document:
    """Of the settings of an evaluation, those that it follows."""
    return {name: document[name] for name in followed(settings.evaluator, list(document))}


def of_latency(settings: LatencySettings, document: Document) -> Document:
    """Of the settings of a latency, those that it follows."""
    return {name: document[name] for name in ("by", *settings.followed)}


def leave_search_out(config: TrialConfig, kept: Document) -> None:
    """Leave out what has no effect where a genotype is drawn at random, in place.

    A random genotype follows its mask and its limits alone, and a mask that is known without
    looking at pictures is that of every supernet.
    """
    kept["search"] = {"strategy": "random", "draw": config.search.draw}
    if config.search.constraints:
        kept["search"]["constraints"] = config.search.limits
    if config.mask_source.known:
        del kept["supernet"]
    else:
        kept["search"]["architecture_fraction"] = config.search.architecture_fraction
