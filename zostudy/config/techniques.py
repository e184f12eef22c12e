"""The eight techniques of the paper's Table 1 as plain settings.

They are those of docs/method.md, sections 4, 5 and 7.

A technique supplies settings that the study file leaves out; whatever the file says wins.
"""

from typing import Any

_PARTIAL = {"partial_channels": 4, "edge_normalization": True}
_WHOLE = {"partial_channels": 1, "edge_normalization": False}
_BETA_DECAY = {"strategy": "bilevel", "regularizer": {"name": "beta_decay"}}
_PLAIN = {"strategy": "bilevel", "regularizer": {"name": "none"}}
_TO_GENOTYPE = {
    "source": "zero_shot",
    "until": "genotype",
    "none_operation": "removed",
    "operations_per_round": 3,
}
_NO_SEARCH = {"strategy": "none"}

TECHNIQUES: dict[str, dict[str, Any]] = {
    "darts": {"supernet": _WHOLE, "prune": {"source": "none"}, "search": _PLAIN},
    "beta-darts": {"supernet": _WHOLE, "prune": {"source": "none"}, "search": _BETA_DECAY},
    "pc-darts": {"supernet": _PARTIAL, "prune": {"source": "none"}, "search": _PLAIN},
    "etenas": {"supernet": _WHOLE, "prune": _TO_GENOTYPE, "search": _NO_SEARCH},
    "etenas-pc": {"supernet": _PARTIAL, "prune": _TO_GENOTYPE, "search": _NO_SEARCH},
    "darts-rnd": {
        "supernet": _WHOLE,
        "prune": {"source": "random", "xi": 0.5},
        "search": _PLAIN,
    },
    "zero-one-shot": {
        "supernet": _PARTIAL,
        "prune": {"source": "zero_shot", "xi": 0.5},
        "search": _BETA_DECAY,
    },
    "zero-one-shot-rnd": {
        "supernet": _PARTIAL,
        "prune": {"source": "random", "xi": 0.5},
        "search": _BETA_DECAY,
    },
}

#: Techniques whose pruning ends with a genotype; they search nothing.
WITHOUT_SEARCH = frozenset(
    name for name, settings in TECHNIQUES.items() if settings["search"] == _NO_SEARCH
)
