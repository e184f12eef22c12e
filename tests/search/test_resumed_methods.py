"""A search by any method that is killed in every epoch goes on bit for bit, draws included."""

import pytest
import torch

from tests.checkpoints import MemoryCheckpoint
from tests.methods import CPU, SPACES, mask_of, settings, split_of
from zostudy.config.settings import ChannelSplitSettings, SupernetSettings
from zostudy.registry import components
from zostudy.search import curvature, session
from zostudy.search.bilevel import search
from zostudy.stage import StageContext, silent

SUPERNET = SupernetSettings(cells=1, channels=2, partial_channels=2, edge_normalization=True)
STAGES = ("progressive", {"stages": 4, "cells_added": 1, "kept": 0.8})
FREEZING = ("operation_early_stop", {"every": 3, "threshold": 0.8})
SHRINKING = ("shrinking", {"every": 1})

#: Methods together, so that a few searches draw everything that can be drawn.
TOGETHER = [
    {"relaxation": "gdas", "drop_path": 0.3, "drop_skip": 0.3, "schedule": STAGES},
    {"relaxation": "dirichlet", "perturbation": "adversarial", "schedule": SHRINKING},
    {"relaxation": "snas", "order": "harmonized", "auxiliary_skip": "cosine", "eigenvalue": True},
    {"freezing": FREEZING, "schedule": SHRINKING, "auxiliary_skip": "linear"},
    {"relaxation": "uniform_path", "selection": ("evolution", {"population": 4, "generations": 1})},
    {"split": "attention", "schedule": SHRINKING},
]

#: Each alone.
ALONE = [
    *({"relaxation": name} for name in components("relaxation")),
    {"perturbation": "random"},
    {"perturbation": "adversarial"},
    {"regularizer": "entropy"},
    {"order": "second", "drop_path": 0.3},
    {"order": "harmonized"},
    {"auxiliary_skip": "linear", "schedule": SHRINKING},
    {"freezing": FREEZING},
    {"schedule": "skip_stop"},
    {"schedule": ("eigenvalue_stop", {"window": 1, "largest_rise": 1.0001})},
    {"schedule": STAGES},
    {"relaxation": "reinmax", "schedule": STAGES, "warmup_epochs": 4},
    {"selection": "perturbation"},
    {"selection": ("validated", {"candidates": 4})},
]


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "changes",
    [*TOGETHER, *(pytest.param(changes, marks=pytest.mark.slow) for changes in ALONE)],
    ids=str,
)
def test_a_search_that_is_killed_in_every_epoch_goes_on(changes, small_dataset, monkeypatch):
    monkeypatch.setattr(curvature, "_ITERATIONS", 2)
    monkeypatch.setattr(session, "_SAMPLED", 1)
    mask = mask_of(SPACES["nasbench201"])
    split = split_of(changes.get("split", "first"))
    size = SUPERNET.model_copy(update={"channel_split": ChannelSplitSettings(**split)})
    changes = {name: own for name, own in changes.items() if name != "split"}
    chosen = settings(**{"epochs": 5, "batch_size": 22} | changes)
    whole, pieces = MemoryCheckpoint(), MemoryCheckpoint()

    def kill(_):
        raise Killed

    def run(checkpoint, report=silent):
        context = StageContext(CPU, 0, checkpoint, report)
        return search(mask, small_dataset, size, chosen, context)

    undisturbed = run(whole)
    for place in range(len(undisturbed.history)):
        torch.manual_seed(99 + place)  # what happens in between leaves no trace
        with pytest.raises(Killed):
            run(pieces, kill)
    resumed = run(pieces)
    assert resumed.genotype == undisturbed.genotype
    assert resumed.history == undisturbed.history
    assert resumed.alpha_history == undisturbed.alpha_history
    assert (resumed.notes, resumed.healthy) == (undisturbed.notes, undisturbed.healthy)
    for name, tensor in whole.state["supernet"].items():
        assert torch.equal(tensor, pieces.state["supernet"][name])
