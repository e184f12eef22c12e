"""Freezing: operations whose weights a search stops training before it ends.

A freezing is ``(agreement, steps, *, options) -> stop or nothing``. It is asked after every step in
which α is trained; where it answers, the operations it names are frozen for the rest of the search,
and the mean that it is given next begins anew. The fact ``idle: True`` says that it never does, so
that nothing is measured.

Symbols:
    N      operations with weights, each on its edge of its cell
    g_t    gradient of the training loss for an operation's weights
    g_a    gradient of the loss on the pictures that train α for the same weights
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zostudy.config.search import SearchSettings
from zostudy.networks.supernet import Supernet
from zostudy.registry import freezing

Agreement = Float[Tensor, " operations"]
Frozen = Bool[Tensor, " operations"]


@freezing("none", idle=True)
def none(agreement: Agreement, steps: int) -> Frozen | None:
    """Every operation is trained to the end."""
    del agreement, steps
    return None


@freezing("operation_early_stop", needs=("pictures", "every operation", "first order"))
def operation_early_stop(
    agreement: Agreement,
    steps: int,
    *,
    threshold: Annotated[float, "[-1, 1]"] = 0.4,
    every: Annotated[int, "[1, 1000000]"] = 20,
) -> Frozen | None:
    """Stop training operations that overfit: their gradients on both parts disagree.

    Args:
        agreement: GM score, the mean over steps of the cosine between g_t and g_a.
        steps: Steps that the mean is over.
        threshold: An operation whose agreement is below this is frozen.
        every: Steps between two decisions.

    References:
        OLES, the GM score and Algorithm 1 (Jiang et al. 2023); values of its public code.
    """
    return agreement < threshold if steps >= every else None


@dataclass(frozen=True)
class _Rows:
    """One kind of operation on the edges that leave a node.

    Attributes:
        parameters: Its parameters; each holds an equal part for every edge, one after the other.
        operations: Where these edges' operations are among all N.
    """

    parameters: Sequence[nn.Parameter]
    operations: slice

    @property
    def count(self) -> int:
        """Edges."""
        return int(self.operations.stop) - int(self.operations.start)

    def parts(self, parameter: Tensor) -> Tensor:
        """A view of a parameter, or of its gradient, by edge."""
        return parameter.view(self.count, -1, *parameter.shape[1:])

    def agreement(self, architecture: Mapping[nn.Parameter, Tensor]) -> Float[Tensor, " edges"]:
        """The cosine between g_t and g_a; 1 where one of them is 0, so that nothing is to stop."""
        like = self.parameters[0]
        dot, training, other = like.new_zeros(3, self.count).unbind()
        for parameter in self.parameters:
            if parameter.grad is not None:
                own = self.parts(parameter.grad).flatten(1)
                their = self.parts(architecture[parameter]).flatten(1)
                dot = dot + (own * their).sum(dim=1)
                training = training + own.square().sum(dim=1)
                other = other + their.square().sum(dim=1)
        norms = training.sqrt() * other.sqrt()
        return torch.where(norms > 0, dot / norms, 1)


class Freezer:
    """Measures how well the gradients of each operation agree, and holds those that are frozen.

    Args:
        supernet: The supernet, on its device.
        settings: The search.
        weights: Parameters of the supernet, in the order in which gradients for them are given.

    Attributes:
        total: float[N], sum of the agreements since the last decision.
        steps: Steps since then.
        frozen: bool[N], on the CPU.
    """

    def __init__(
        self, supernet: Supernet, settings: SearchSettings, weights: Sequence[nn.Parameter]
    ) -> None:
        name = settings.freezing.name
        component = supernet.space.find("freezing", name, "search.freezing.name")
        self.idle = bool(component.facts.get("idle"))
        self._decide = component.load()
        self._options = settings.freezing.options
        self._weights = weights
        self._groups: list[_Rows] = []
        self._places: list[tuple[int, int, int, int]] = []
        for number, cell in enumerate(() if self.idle else supernet.cells):
            for source, node in enumerate(cell.nodes):  # type: ignore[arg-type]  # ours
                for column, rows, parameters in node.by_row():
                    begin = len(self._places)
                    self._places += [(number, source, column, row) for row in rows]
                    self._groups.append(_Rows(parameters, slice(begin, len(self._places))))
        self.total = torch.zeros(len(self._places), device=weights[0].device)
        self.steps = 0
        self.frozen = torch.zeros(len(self._places), dtype=torch.bool)

    @property
    def share(self) -> float:
        """The share of the operations with weights that is frozen."""
        return float(self.frozen.double().mean()) if len(self.frozen) else 0.0

    @torch.no_grad()
    def observe(self, architecture: Sequence[Tensor]) -> None:
        """Compare the gradients that the weights have now, g_t, with those of the other part.

        Args:
            architecture: g_a, a tensor a parameter.
        """
        if not self._groups:
            return
        by_parameter = dict(zip(self._weights, architecture, strict=True))
        self.total += torch.cat([group.agreement(by_parameter) for group in self._groups])
        self.steps += 1
        stop = self._decide(self.total / self.steps, self.steps, **self._options)
        if stop is not None:
            self.frozen |= stop.cpu()
            self.total.zero_()
            self.steps = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Frozen operations keep their weights, bit for bit, whatever an optimizer does meanwhile.

        Their gradients are 0, so that they do not count in the norm by which gradients are clipped.
        """
        held = []
        for group in self._groups:
            rows = [row for row, frozen in enumerate(self.frozen[group.operations]) if frozen]
            for parameter in group.parameters if rows else ():
                parts = group.parts(parameter.detach())
                held.append((parts, rows, parts[rows]))
                if parameter.grad is not None:
                    group.parts(parameter.grad)[rows] = 0
        yield
        for parts, rows, before in held:
            parts[rows] = before

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"total": self.total, "steps": self.steps, "frozen": self.frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.total.copy_(state["total"])
        self.steps = state["steps"]
        self.frozen.copy_(state["frozen"])

    def inherit_(self, other: "Freezer") -> None:
        """Take over the state of a supernet of the same size with these operations or more.

        Args:
            other: That of this supernet.
        """
        before = {place: number for number, place in enumerate(other._places)}
        chosen = [before[place] for place in self._places]
        self.load_state_dict(
            {"total": other.total[chosen], "steps": other.steps, "frozen": other.frozen[chosen]}
        )
