"""Bytes of live tensors: their peak over a piece of work, with or without a GPU.

On a CUDA device the allocator keeps the peak itself. Everywhere else each operation is watched as
it is dispatched, on real tensors and on ``meta`` tensors alike; these have sizes but no memory, so
that the peak of a step that fits on no machine is known on any machine.

Symbols:
    storage  the memory behind one tensor and all its views
    live     bytes of distinct storages that something still refers to, at one moment
    peak     the highest live count over a piece of work
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode

#: What keeps tensors alive from before a piece of work to after it.
Holder = nn.Module | torch.optim.Optimizer | Tensor


class _Watch(weakref.ref[UntypedStorage]):
    """A weak reference to a storage that knows the address and the bytes that were counted."""

    __slots__ = ("address", "size")
    address: int
    size: int


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives no types
    """A context that counts the bytes of live storages, each once.

    It counts the storages of the holders and every storage that is made by an operation inside,
    forward, backward and optimizer alike, until it is freed. A view and the result of an in-place
    operation are their base's storage. Tensors that existed before and belong to no holder are not
    counted. What an operation allocates and frees inside itself is not seen. Contexts may nest;
    each keeps its own count.

    Args:
        holders: Modules, optimizers and tensors that exist at the start; see `held_bytes`.

    Attributes:
        current: Bytes that live now.
        peak: The most bytes that ever lived at once.
    """

    def __init__(self, *holders: Holder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives no types
        self.current = 0
        self.peak = 0
        # By the address of the storage (`_cdata`). The Python object of a storage dies with it and
        # takes its entry away before the address can be given to another storage.
        self._watches: dict[int, _Watch] = {}
        for tensor in _tensors_of(*holders):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._watches:
                self._watch(storage)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # an operation returns anything
        """Run an operation and count what it made."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for tensor in _tensors_in((result,)):
            storage = tensor.untyped_storage()
            watch = self._watches.get(storage._cdata)
            if watch is not None:
                self._add(storage.nbytes() - watch.size)  # unless resized in place, nothing
                watch.size = storage.nbytes()
            elif all(
                given.untyped_storage()._cdata != storage._cdata
                for given in _tensors_in((*args, *kwargs.values()))
            ):
                self._watch(storage)
        return result

    def _watch(self, storage: UntypedStorage) -> None:
        watch = _Watch(storage, self._freed)
        watch.address, watch.size = storage._cdata, storage.nbytes()
        self._watches[watch.address] = watch
        self._add(watch.size)

    def _freed(self, watch: _Watch) -> None:
        del self._watches[watch.address]
        self.current -= watch.size

    def _add(self, size: int) -> None:
        self.current += size
        self.peak = max(self.peak, self.current)


def held_bytes(*holders: Holder) -> int:
    """Bytes of the distinct storages that holders keep alive.

    Args:
        holders: A module stands for its parameters, their gradients and its buffers; an optimizer
            for its parameters, their gradients and its state; a tensor for itself and its gradient.

    Returns:
        Bytes; a storage that is shared counts once.
    """
    return LiveBytes(*holders).current


class Predicted(Exception):  # noqa: N818  # it ends a prediction, and no error does
    """The peak of a sample on ``meta``, where there is no result to go on with.

    Attributes:
        peak_bytes: The peak, in bytes of live tensors.
    """

    def __init__(self, peak_bytes: int) -> None:
        super().__init__(f"{peak_bytes} bytes")
        self.peak_bytes = peak_bytes


class PeakMemory:
    """The peak memory of one phase of work on a device.

    Elsewhere than on CUDA, the peak is that of the pieces of work that were sampled, and watching
    costs time, so that a phase samples a few typical steps. On CUDA the allocator measures the
    whole phase from construction on, sampled or not; it keeps one peak for each device, so that
    phases on the same device cannot overlap.

    Args:
        device: Where the phase runs.
        before: Bytes of the peak that an interrupted part of the same phase had reached.
    """

    def __init__(self, device: torch.device, before: int = 0) -> None:
        self._device = device
        self._peak = before
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @contextlib.contextmanager
    def sample(self, *holders: Holder) -> Iterator[None]:
        """Run the body as a sample of the phase.

        Args:
            holders: What lives from before the body; see `held_bytes`.

        Raises:
            Predicted: The device is ``meta``.
        """
        if self._device.type == "cuda":
            yield
            return
        with LiveBytes(*holders) as live:
            yield
        self._peak = max(self._peak, live.peak)
        if self._device.type == "meta":
            raise Predicted(live.peak)

    @property
    def peak_bytes(self) -> int:
        """The peak so far, in bytes of live tensors; 0 where nothing was sampled yet."""
        if self._device.type == "cuda":
            return max(self._peak, torch.cuda.max_memory_allocated(self._device))
        return self._peak

    def metrics(self) -> dict[str, float]:
        """The peak by the name of the metric, in bytes.

        Returns:
            ``peak_bytes``; on CUDA also ``peak_reserved_bytes``, what the allocator took from the
            device to serve it (of an interrupted part only ``before`` is known).
        """
        if self._device.type == "cuda":
            reserved = torch.cuda.max_memory_reserved(self._device)
            return {
                "peak_bytes": float(self.peak_bytes),
                "peak_reserved_bytes": float(max(self._peak, reserved)),
            }
        return {"peak_bytes": float(self.peak_bytes)}


def _tensors_of(*holders: Holder) -> Iterator[Tensor]:
    for holder in holders:
        if isinstance(holder, Tensor):
            yield holder
            if holder.is_leaf and holder.grad is not None:
                yield holder.grad
        elif isinstance(holder, nn.Module):
            yield from _tensors_of(*holder.parameters(), *holder.buffers())
        else:
            for group in holder.param_groups:
                yield from _tensors_of(*group["params"])
            for state in holder.state.values():
                yield from (value for value in state.values() if isinstance(value, Tensor))


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the arguments or results of an operation, those in lists too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors_in(value)
