"""One part of a network, computed as a study computes it and compared with float64.

Symbols:
    y    what is compared: the output, and the gradient of the input and of every parameter
    ŷ    the same, in the study's precision, on its device, with its threads
    u    unit of rounding of one operation: 2⁻²⁴ √K in float32, where K is the length of the longest
         sum; more in bfloat16 and in TF32, whose inputs are rounded too
    ỹ   y in float64, in which every operation's result is multiplied by 1 + u N(0, 1)

ŷ is wrong where ‖ŷ − y‖₂ is more than eight times ‖ỹ − y‖₂ and than eight times u‖y‖₂. ỹ is what
rounding alone does to y, whatever the part's condition is, so that nothing here is tuned to a part;
eight is between the size of random roundings and the worst that they add up to. A number that lies
within rounding of a kink (ReLU at zero) may fall on its other side and change a gradient by much
more; that happens for some pictures and not for others, so that only what is wrong for three draws
of pictures and weights in a row counts, or what is wrong for one draw and then right for the same.

References:
    Parker 1997, "Monte Carlo arithmetic"; Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1 (errors of sums).
"""

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zostudy.networks import skeleton
from zostudy.networks.node_operations import NodeOperations
from zostudy.networks.operations import FactorizedReduction, ReLUConvBN, build
from zostudy.networks.standalone import AuxiliaryHead
from zostudy.runtime import Runtime, seeded
from zostudy.space.search_space import SearchSpace
from zostudy.study.machine.cases import Case

Images = Float[Tensor, "..."]
Result = Mapping[str, Tensor]

_MARGIN = 8.0
_TRIES = 3

#: How often the same is computed, at least and at most: what reads memory that it has not written
#: is right by chance. What has few numbers takes no time, and is where faults were found.
_TIMES = 2, 4
_FEW_NUMBERS = 2**14

#: A context in which nothing is different.
_PLAIN = contextlib.nullcontext()

#: The largest kernel's area, of which a sum has as many terms a channel.
_AREA = 25


@dataclass(frozen=True)
class Deviation:
    """A tensor that is not what it should be.

    Attributes:
        what: ``the output``, or which gradient.
        off: ‖ŷ − y‖ / ‖y‖; infinite where ŷ is not finite.
        rounding: What of that rounding explains at most.
    """

    what: str
    off: float
    rounding: float


class Reference64Error(Exception):
    """A part cannot be computed in float64, so that there is nothing to compare with."""


class Mixed(nn.Module):
    """One operation on the edges that leave a node, as a cell of the supernet runs it.

    Args:
        case: Its shape.
        space: Its search space.
    """

    def __init__(self, case: Case, space: SearchSpace) -> None:
        super().__init__()
        self.part = case.entering // case.partial
        self.rest = case.entering - self.part
        self.dense = case.recompute == "none"
        self.edges = NodeOperations(
            [space.operation(case.part)],
            [(True,)] * case.rows,
            self.part,
            case.stride,
            recompute=case.recompute,
        )
        self.edges.reset_parameters()
        self.weights = nn.Parameter(torch.linspace(0.5, 1.5, case.rows)[:, None])

    def forward(self, images: Images) -> Images:
        """The terms of all edges, weighted, side by side."""
        active = torch.split(images, [self.part, self.rest], dim=1)[0] if self.rest else images
        if self.rest and self.dense:
            active = active.clone()
        terms = [
            term if weight is None else weight * term
            for _, term, weight, _ in self.edges(active, self.edges.weights(self.weights))
        ]
        return torch.cat(terms, dim=1) if terms else 0 * active


def part(case: Case, space: SearchSpace) -> nn.Module:
    """The module of a case, in float32 on the CPU."""
    searched = case.network == "supernet"
    sizes = case.entering, case.leaving
    if case.operation and searched:
        return Mixed(case, space)
    if case.operation:
        return build(space.operation(case.part), case.entering, case.stride, affine=True)
    makers: dict[str, Callable[[], nn.Module]] = {
        "stem": lambda: skeleton.stem(space, *sizes, searched=searched),
        "preprocessing": lambda: ReLUConvBN(*sizes, affine=not searched),
        "factorized reduction": lambda: FactorizedReduction(*sizes, affine=not searched),
        "residual block": lambda: skeleton.ResidualBlock(*sizes, searched=searched),
        "head": lambda: skeleton.head(space, case.entering, searched=searched),
        "auxiliary head": lambda: AuxiliaryHead(*sizes),
        "classifier": lambda: nn.Sequential(nn.Flatten(), nn.Linear(*sizes)),
    }
    return makers[case.part]()


def deviations(
    case: Case, space: SearchSpace, runtime: Runtime, repeats: int = 1
) -> list[Deviation]:
    """What is computed wrongly in a case; nothing where all is right.

    Args:
        case: The case.
        space: Its search space.
        runtime: Device and precision.
        repeats: How often it is computed at least, for faults that show later.

    Raises:
        Reference64Error: There is nothing to compare with.
    """
    for attempt in range(repeats):
        wrong = _wrong(case, space, runtime, attempt * _TRIES)
        if wrong:
            return wrong
    return []


def _wrong(case: Case, space: SearchSpace, runtime: Runtime, first: int) -> list[Deviation]:
    """What is wrong for three draws in a row, or for one where it is not always the same."""
    found: list[Deviation] = []
    for draw in range(first, first + _TRIES):
        found, same = _compared(case, space, runtime, draw)
        if not found or not same:
            break
    return found


def _compared(
    case: Case, space: SearchSpace, runtime: Runtime, draw: int
) -> tuple[list[Deviation], bool]:
    """What is wrong for one draw, and whether it is so each time that it is computed."""
    generator = seeded("cpu", "machine", draw)
    torch.default_generator.manual_seed(draw)  # modules are made on the CPU
    module = part(case, space)
    shape = (case.batch, case.entering, case.height, case.width)
    images = torch.randn(shape, generator=generator)
    exact = copy.deepcopy(module).double()
    fewest, most = _TIMES
    count = max(fewest, min(most, _FEW_NUMBERS * case.partial // images.numel()))
    unit = _unit(case, runtime)
    # The reference is small and computed on one thread, beside what it is compared with.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as beside:
        reference = functools.partial(_run, exact, images.double(), draw)
        first = beside.submit(reference)
        times = _found(module, images, runtime, draw, count)
        try:
            wanted = first.result()
            if not any(_off(found, wanted, {}, unit) for found in times):
                return [], True  # whatever rounding would allow besides
            if _off(beside.submit(reference).result(), wanted, {}, unit):
                raise Reference64Error("what it gives is another thing each time")
            rounded = beside.submit(reference, Rounding(unit, generator)).result()
        except (RuntimeError, TypeError) as error:
            raise Reference64Error(str(error)) from error
    wrong = [_off(found, wanted, rounded, unit) for found in times]
    return max(wrong, key=len), all(wrong)


def _found(
    module: nn.Module, images: Images, runtime: Runtime, draw: int, count: int
) -> list[Result]:
    """What the study's own arithmetic gives, each time; the module stays where it computes."""
    placed = module.to(memory_format=torch.channels_last).to(runtime.device)
    given = images.contiguous(memory_format=torch.channels_last).to(runtime.device)
    found: list[Result] = []
    for _ in range(count):
        result = _run(placed, given, draw, runtime.autocast())
        found.append({name: t.to("cpu", copy=True) for name, t in result.items()})
    return found


def _run(
    module: nn.Module,
    images: Images,
    draw: int,
    mode: contextlib.AbstractContextManager[object] = _PLAIN,
) -> Result:
    """The output, and the gradients of its product with numbers drawn at random."""
    module.zero_grad()
    images = images.detach().requires_grad_()
    with mode:
        output = module(images)
        if output.requires_grad:
            output.backward(_gradient(output.shape, draw).to(output))
    gradients = {f"the gradient of {n}": p.grad for n, p in module.named_parameters()}
    every = {"the output": output.detach(), "the gradient of the input": images.grad, **gradients}
    return {name: tensor.detach() for name, tensor in every.items() if tensor is not None}


@functools.lru_cache(maxsize=1)
def _gradient(shape: torch.Size, draw: int) -> Tensor:
    """The gradient of the output, which is the same each time that a case is computed."""
    return torch.randn(shape, generator=seeded("cpu", "machine/gradient", draw))


def _unit(case: Case, runtime: Runtime) -> float:
    """The unit of rounding u."""
    terms = max(case.entering * _AREA, case.batch * case.height * case.width)
    single = math.sqrt(terms) * torch.finfo(torch.float32).eps / 2
    if runtime.precision == "bf16":
        return single + torch.finfo(torch.bfloat16).eps
    if runtime.device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        return single + 2.0**-10
    return single


def _off(found: Result, wanted: Result, rounded: Result, unit: float) -> list[Deviation]:
    """What is wrong; where nothing is known of what rounding does, u‖y‖ is all that it may do."""
    wrong = []
    for name, exact in wanted.items():
        size = float(exact.norm())
        error = float((found[name] - exact).norm()) if name in found else math.inf
        by_rounding = float((rounded[name] - exact).norm()) if name in rounded else 0.0
        allowed = _MARGIN * max(by_rounding, unit * size)
        if not error <= allowed:
            scale = size or 1.0
            off = error / scale if math.isfinite(error) else math.inf
            wrong.append(Deviation(name, off, allowed / scale))
    return wrong


class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Multiplies the result of every operation by 1 + u N(0, 1), backward passes included.

    Args:
        unit: u.
        generator: Draws the numbers.
    """

    def __init__(self, unit: float, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.unit = unit
        self.generator = generator

    def __torch_dispatch__(  # torch's name
        self,
        func: Any,  # noqa: ANN401  # an operation of torch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operation gives
        del types
        result = func(*args, **(kwargs or {}))
        if any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
            return result  # a view
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                noise = torch.empty(tensor.shape, dtype=tensor.dtype).normal_(
                    1.0, self.unit, generator=self.generator
                )
                tensor.mul_(noise)
        return result
