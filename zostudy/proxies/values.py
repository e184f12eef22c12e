"""The values that proxies have for a network under a mixing, and networks of one architecture."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.config.settings import SupernetSettings
from zostudy.networks.mixing import Mixing
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import Network, ProxyInputs, Ranking, captured
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask


def values(
    supernet: Supernet,
    mixing: Mixing,
    rankings: Sequence[Ranking],
    batch: ProxyInputs,
    *,
    twice: bool,
) -> list[Float[Tensor, ""]]:
    """Every ranking function's value for one batch, in order.

    One forward pass serves all that read no more than it gives.

    Args:
        supernet: An initialized supernet.
        mixing: Its mixing weights.
        rankings: Ranking functions.
        batch: The batch.
        twice: Whether the values are differentiated by the mixing.

    Raises:
        NumericalError: A ranking means nothing for this network.
    """
    names = {name for ranking in rankings if ranking.forward_only for name in ranking.reads}
    given = reading(supernet, batch, mixing, names)
    found = []
    for ranking in rankings:
        if ranking.forward_only:
            found.append(ranking.value(given))
            continue
        network = Network(supernet, mixing, twice=twice)
        with torch.enable_grad():
            found.append(
                ranking.value({**given, "network": network, "generator": batch.generator()})
            )
    return found


def reading(
    supernet: Supernet, batch: ProxyInputs, mixing: Mixing, names: Collection[str]
) -> dict[str, Any]:
    """What a forward pass gives, by name; none is made if only the batch itself is wanted.

    Args:
        supernet: The supernet.
        batch: The batch.
        mixing: Its mixing weights.
        names: What is wanted.
    """
    given: dict[str, Any] = {"images": batch.images, "labels": batch.labels}
    if set(names) - set(given):
        with captured(supernet, names) as seen:
            given["logits"] = supernet(batch.images, mixing)
        given |= seen
    return given


def stand_alone(
    genotype: Genotype,
    size: SupernetSettings,
    *,
    in_channels: int,
    classes: int,
    device: torch.device | str = "cpu",
) -> tuple[Supernet, Mixing]:
    """A network of one architecture, as proxies take it: a supernet that holds nothing else.

    Its weights are drawn from torch's global generator, as torch does by default. Every operation
    has weight 1; an edge that the genotype does not keep has the zero operation.

    Args:
        genotype: The architecture.
        size: Cells and channels; all channels of an operation are computed, and no edge is scaled.
        in_channels: Channels of the pictures.
        classes: Number of classes.
        device: Where the network is; its weights are drawn on the CPU.
    """
    space, kept = genotype.space, set(genotype.operations())
    rows = {}
    for kind in space.cell_types:
        own = [[(kind, *edge, name) in kept for name in space.operations] for edge in space.edges]
        for row in own:
            row[space.zero_index] |= not any(row)
        rows[kind] = tuple(map(tuple, own))
    whole = size.model_copy(update={"partial_channels": 1, "edge_normalization": False})
    mask = OperationMask(space, rows)
    made = Supernet(space, mask, whole, in_channels=in_channels, classes=classes)
    made.requires_grad_(requires_grad=False).to(device)
    weights = {kind: torch.tensor(rows[kind]).float().to(device) for kind in space.cell_types}
    return made, Mixing(
        weights, {kind: torch.ones_like(own[:, 0]) for kind, own in weights.items()}
    )
