"""Searches by every method, small enough for a test: settings, learners and masks."""

import torch

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.networks.supernet import Supernet
from zostudy.registry import components, resolve_options
from zostudy.runtime import Runtime
from zostudy.search.learner import Learner
from zostudy.search.mixer import Mixer, auxiliary_operations
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACES = {name: search_space(name) for name in ("darts", "nasbench201")}
SECTIONS = ("relaxation", "perturbation", "regularizer", "freezing", "schedule", "selection")
KINDS = {"schedule": "search_schedule"}
CPU = Runtime(torch.device("cpu"))


def settings(**changes):
    """Settings of a search; of a component, its name, or its name and options."""
    for section in SECTIONS:
        if section in changes:
            given = changes[section]
            name, options = (given, {}) if isinstance(given, str) else given
            component = components(KINDS.get(section, section))[name]
            resolved = resolve_options(component, section, options)
            changes[section] = {"name": name, "options": resolved}
    return SearchSettings(**{"epochs": 3, "warmup_epochs": 0, "batch_size": 16} | changes)


def mask_of(space, share="half", seed=0):
    """The full mask, about half of it, or one operation an edge; a genotype always exists."""
    if share == "full":
        return OperationMask.full(space)
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for kind in space.cell_types:
        drawn = torch.rand(len(space.edges), len(space.operations), generator=generator)
        drawn[:, space.zero_index] *= 0.8  # never the best of its edge alone
        usable = [column != space.zero_index for column in range(len(space.operations))]
        best = drawn.masked_fill(~torch.tensor(usable), -1).argmax(1)
        kept = (drawn > 0.5) & (share == "half")
        kept[torch.arange(len(kept)), best] = True
        rows[kind] = tuple(map(tuple, kept.tolist()))
    return OperationMask(space, rows)


def split_of(name):
    """A channel split with its default options."""
    options = resolve_options(components("channel_split")[name], "split", {})
    return {"name": name, "options": options}


def learner(mask, chosen, *, cells=1, channels=4, k=1, seed=0, normalize=False, split="first"):
    """A learner of a small supernet with α of some size, for pictures of one channel."""
    torch.manual_seed(seed)
    size = SupernetSettings(
        cells=cells,
        channels=channels,
        partial_channels=k,
        edge_normalization=normalize,
        channel_split=split_of(split),
    )
    supernet = Supernet(
        mask.space,
        mask,
        size,
        in_channels=1,
        classes=3,
        auxiliary=auxiliary_operations(chosen),
        recompute=chosen.recompute,
    )
    with torch.no_grad():
        for kind, alpha in supernet.alpha.items():
            alpha.copy_(0.3 * torch.randn_like(alpha) * supernet.mask_of(kind))
        for beta in supernet.beta.values():
            beta.copy_(torch.randn_like(beta))
    supernet.to(torch.get_default_dtype())
    mixer = Mixer(supernet, chosen, torch.Generator().manual_seed(seed))
    return Learner(supernet, mixer, chosen, CPU)


def batch(seed, count=4, side=8):
    """Random pictures and labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, side, side, generator=generator), torch.arange(count) % 3
