"""Techniques as plain settings: the eight of the paper's Table 1, then other methods.

The eight are those of docs/method.md, sections 4, 5 and 7; the others are described, with their
papers, in docs/concepts/search-methods.md. Each of them can be pruned, and each that trains a
supernet can have partial channels.

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

_METHODS: dict[str, dict[str, Any]] = {
    "fair-darts": {"relaxation": {"name": "sigmoid"}, "regularizer": {"name": "zero_one"}},
    "gdas": {"relaxation": {"name": "gdas"}},
    "snas": {"relaxation": {"name": "snas"}},
    "reinmax": {"relaxation": {"name": "reinmax"}},
    "drnas": {
        "relaxation": {"name": "dirichlet"},
        "regularizer": {"name": "dirichlet_anchor"},
    },
    "spos": {"relaxation": {"name": "uniform_path"}, "selection": {"name": "evolution"}},
    "sdarts-rs": {"perturbation": {"name": "random"}},
    "sdarts-adv": {"perturbation": {"name": "adversarial"}},
    "lambda-darts": {"order": "harmonized"},
    "darts-minus": {"auxiliary_skip": "linear"},
    "r-darts-l2": {"weights": {"weight_decay": 0.0027}},
    "r-darts-dp": {"drop_path": 0.2},
    "p-darts": {
        "schedule": {"name": "progressive"},
        "drop_skip": 0.3,
        "selection": {"name": "skip_limit"},
    },
    "darts-plus": {"schedule": {"name": "skip_stop"}},
    "darts-es": {"schedule": {"name": "eigenvalue_stop"}},
    "oles": {"freezing": {"name": "operation_early_stop"}},
    "darts-shrinking": {"schedule": {"name": "shrinking"}},
    "darts-pt": {"selection": {"name": "perturbation"}},
}
TECHNIQUES |= {
    "epc-darts": {
        "supernet": {**_PARTIAL, "channel_split": {"name": "attention"}},
        "search": _PLAIN,
    },
} | {
    name: {"supernet": _WHOLE, "search": {**_PLAIN, **search}} for name, search in _METHODS.items()
}

_BY_SCORE: dict[str, dict[str, Any]] = {
    "random-search": {"algorithm": {"name": "random"}},
    "regularized-evolution": {"algorithm": {"name": "evolution"}},
    "local-search": {"algorithm": {"name": "local"}},
    "expected-improvement": {"algorithm": {"name": "expected_improvement"}},
    "free-rea": {
        "algorithm": {"name": "free_rea"},
        "score": {
            "name": "proxies",
            "ranking": ["naswot", {"name": "synflow", "gradients": "log"}],
            "skip_reach": True,
            "combined": "shares",
            "repeats": 3,
        },
    },
    "zen-nas": {
        "algorithm": {
            "name": "evolution",
            "population": 512,
            "initial": 11,
            "sample": 1,
            "changes": 2,
            "removes": "worst",
        },
        "score": {"name": "proxies", "ranking": ["zen"]},
    },
}
TECHNIQUES |= {
    name: {"supernet": _WHOLE, "search": {"strategy": "score", **search}}
    for name, search in _BY_SCORE.items()
}

#: Techniques whose pruning ends with a genotype; they search nothing.
WITHOUT_SEARCH = frozenset(
    name for name, settings in TECHNIQUES.items() if settings["search"] == _NO_SEARCH
)
