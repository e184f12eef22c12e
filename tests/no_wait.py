"""A stand-in for a device at which the host must not wait: the meta device, watched.

Tensors of the host are on the CPU, those of the device on ``meta``, so that every crossing shows.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from zostudy.networks.dry_run import ShapeKernels

ATEN = torch.ops.aten

#: What has the size or the value of its result from numbers on the device.
READING = {
    ATEN._local_scalar_dense,
    ATEN.equal,
    ATEN.is_nonzero,
    ATEN.nonzero,
    ATEN.masked_select,
    ATEN._unique2,
    ATEN.unique_dim,
    ATEN.unique_consecutive,
    ATEN.bincount,
}

INDEXING = {ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_}


class WaitError(AssertionError):
    """The host would wait for the device."""


class NoWait(TorchDispatchMode):
    """Refuses every operation for which the host would wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet, given = func.overloadpacket, list(tensors((*args, *kwargs.values())))
        on_device = any(tensor.is_meta for tensor in given)
        if on_device and (packet in READING or f"{func}" == "aten.repeat_interleave.Tensor"):
            raise WaitError(f"{func} reads numbers of the device")
        if on_device and packet in INDEXING:
            for index in tensors(args[1]):
                if not index.is_meta or index.dtype in (torch.bool, torch.uint8):
                    raise WaitError(f"{func} by a tensor of the host, or by a mask")
        if packet is ATEN._to_copy:
            target = kwargs.get("device") or given[0].device
            self._crosses(func, given[0].device, target, kwargs.get("non_blocking"))
        if packet in (ATEN.copy_, ATEN.copy):
            waits_not = (*args[2:], kwargs.get("non_blocking"))[0]
            self._crosses(func, args[1].device, args[0].device, waits_not)
        return func(*args, **kwargs)

    @staticmethod
    def _crosses(func, source, target, non_blocking):
        """Only a copy to the device that says it goes on by itself; `runtime.sent` makes those."""
        if source.type != target.type and (source.type == "meta" or not non_blocking):
            raise WaitError(f"{func} copies from {source} to {target}")


class NoLists(TorchFunctionMode):
    """Refuses lists that become tensors of the device, which no operation shows."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and args[0].is_meta:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                raise WaitError("an index that is a list is copied to the device")
        return func(*args, **(kwargs or {}))


def tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


@contextlib.contextmanager
def no_wait():
    """Shapes are worked out once, below the watch."""
    with ShapeKernels(), NoWait(), NoLists():
        yield
