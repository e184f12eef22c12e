"""Operations that a search step dispatches, views left out; a minute on one core, no GPU needed.

Counted on the ``meta`` device, forward and backward passes and optimizers, batch 256. A GPU
launches a kernel or more for most of them. Reference: per-edge with all operations.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.cases import SPACE, PerEdgeSearch, Search, random_half
from benchmarks.document import Row, main
from zostudy.networks.dry_run import ShapeKernels
from zostudy.runtime import Runtime
from zostudy.space.mask import OperationMask

_BATCH = 256


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives no types
    """Counts what is dispatched, views left out."""

    count: int = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  # an operation of torch
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # an operation returns anything
        """Run an operation and count it."""
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def operations_of(mask: OperationMask, partial_channels: int, *, per_edge: bool = False) -> int:
    """Operations of a search's second step."""
    runtime, formulation = Runtime(torch.device("meta")), PerEdgeSearch if per_edge else Search
    with ShapeKernels():
        search = formulation(mask, partial_channels, _BATCH, runtime=runtime)
        search.step()
        seen = Operations()  # type: ignore[no-untyped-call]  # torch gives no types
        with seen:
            search.step()
    return seen.count


def rows() -> Iterator[Row]:
    """The results, as they come."""
    everything = OperationMask.full(SPACE)
    cases = {"zero-one-shot-rnd": (random_half(1), 4), "pc-darts": (everything, 4)}
    for name, (mask, k) in (cases | {"darts": (everything, 1)}).items():
        reference = operations_of(everything, k, per_edge=True)
        yield Row(name, "operations", operations_of(mask, k), reference)


if __name__ == "__main__":
    main(__doc__ or "", rows)
