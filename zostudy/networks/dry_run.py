"""The memory of a step that is not run: its shapes on the ``meta`` device, without numbers.

A prediction runs the very code of a phase on a `Runtime` whose device is ``meta``, under the same
`LiveBytes` as a real step. Two things are added there: autocast, which torch leaves out on that
device, and speed.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from zostudy.networks.memory import Predicted
from zostudy.runtime import Runtime

#: What autocast computes in the lower precision, of all that networks call.
_LOWERED = frozenset(
    {
        torch.conv1d,
        torch.conv2d,
        functional.linear,
        torch.matmul,
        torch.mm,
        torch.bmm,
        torch.addmm,
        torch.baddbmm,
        torch.einsum,
        Tensor.matmul,
        Tensor.__matmul__,
        Tensor.mm,
        Tensor.bmm,
    }
)

#: Shape, strides and data type of what an operation makes.
_Spec = tuple[torch.Size, tuple[int, ...], torch.dtype]

#: What operations on ``meta`` tensors make, by the default data type and then by their arguments.
#: It is kept between predictions: those of a study have most of their shapes in common.
_KNOWN: dict[torch.dtype, dict[Any, _Spec | list[_Spec | None] | None]] = {}

#: Arguments that are remembered at most, a few hundred bytes each.
_MOST_KNOWN = 100_000


def predicted_peak(work: Callable[[Runtime], object], runtime: Runtime) -> int:
    """The peak of the first piece of work that is sampled, without its numbers.

    Where the work asks for a number it gets 1, and where it asks whether something is so, yes. It
    ends with its first sample (see `PeakMemory`).

    Args:
        work: Runs as it would in earnest, on the runtime that it is given.
        runtime: Where it would run; its precision counts.

    Returns:
        Bytes of live tensors; 0 where nothing is sampled.
    """
    with imaginary(runtime) as own:
        return first_peak(lambda: work(own))


@contextlib.contextmanager
def imaginary(runtime: Runtime) -> Iterator[Runtime]:
    """A context in which work has shapes and no numbers; equal shapes are worked out once.

    Args:
        runtime: Where it would run; its precision counts.

    Yields:
        Where it runs instead.
    """
    autocast = _LoweredPrecision() if runtime.precision == "bf16" else contextlib.nullcontext()
    with autocast, ShapeKernels():
        yield Runtime(torch.device("meta"), runtime.precision)


def first_peak(work: Callable[[], object]) -> int:
    """The peak of the first sample of work, in an `imaginary` context; 0 if nothing is sampled."""
    try:
        work()
    except Predicted as found:
        return found.peak_bytes
    return 0


def make_state(*optimizers: torch.optim.Optimizer) -> None:
    """Let optimizers make the state that their first step makes, without the step's gradients."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


class _LoweredPrecision(TorchFunctionMode):
    """Autocast for ``meta`` tensors, wherever it is enabled for the CPU.

    `Runtime.autocast` enables that on ``meta`` too, and recomputation enables it again, so that the
    same operations are lowered as on a device. Kernels are lowered at each use: the copies that
    autocast keeps until its end, of a size with the weights, are not counted.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # a function returns anything
        """Call the function, its arguments in the lower precision where autocast wants that."""
        del types
        if func in _LOWERED and torch.is_autocast_enabled("cpu"):
            args = [_lowered(value) for value in args]
        return func(*args, **(kwargs or {}))


def _lowered(value: Any) -> Any:  # noqa: ANN401  # an argument can be anything
    if isinstance(value, Tensor) and value.is_meta and value.is_floating_point():
        return value.to(torch.get_autocast_dtype("cpu"))
    return value


class ShapeKernels(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives no types
    """A context in which an operation on ``meta`` tensors is worked out once for equal arguments.

    torch works the shapes of some operations out in Python, at a tenth of a millisecond each; a
    supernet has thousands of them and a few hundred that differ. What one context has worked out
    the next one knows. Views are left to torch. Shuffled channels get memory of their own, as on a
    device; torch makes them a view on ``meta``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives no types
        self._known = _KNOWN.setdefault(torch.get_default_dtype(), {})
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._kinds: dict[Any, Literal["new", "in place", "other"]] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  # an operation of torch
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # an operation returns anything
        """Make the results of an operation that is known, or run it."""
        kwargs = kwargs or {}
        if func in _ELSEWHERE:
            return _elsewhere(func, args, kwargs)
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        if kind == "in place" and args[0].is_meta:
            return args[0]
        if kind != "new":
            return func(*args, **kwargs)
        key = (func, _key(args), _key(kwargs.items()))
        spec = self._known.get(key)
        if spec is None:
            result = _laid_out(func, args, func(*args, **kwargs))
            if not _shares_storage(result, args):
                self._known[key] = _spec(result)
            return result
        if isinstance(spec, list):
            return tuple(None if one is None else _empty(one) for one in spec)
        return _empty(spec)


_CHANNEL_SHUFFLE = torch.ops.aten.channel_shuffle.default
_NUMBER = torch.ops.aten._local_scalar_dense.default
_COPY = torch.ops.aten._to_copy.default

#: Operations that do something else on ``meta`` than on a device.
_ELSEWHERE = frozenset({_CHANNEL_SHUFFLE, _NUMBER, _COPY})


def _elsewhere(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """What an operation does on a device, as far as shapes can say."""
    given = args[0]
    if given.is_meta and func is _CHANNEL_SHUFFLE:
        return torch.empty_like(given)
    if given.is_meta and func is _NUMBER:
        return torch.ones((), dtype=given.dtype).item()
    if given.is_meta and func is _COPY and _leaves_meta(kwargs.get("device")):
        return torch.ones(given.shape, dtype=kwargs.get("dtype") or given.dtype)
    return func(*args, **kwargs)


#: Axes of pictures and of kernels; what a convolution along one axis sees has fewer.
_PICTURES = 4

_CONVOLUTION = torch.ops.aten.convolution.default
_NORM_BACKWARD = torch.ops.aten.native_batch_norm_backward.default


def _laid_out(func: Any, args: Sequence[Any], result: Any) -> Any:  # noqa: ANN401  # any operation
    """Results in the layout that a device gives them, which says what a later copy costs."""
    if not _is_meta(args[0] if args else None):
        return result
    if func is _CONVOLUTION and any(map(_is_channels_last, args[:2])):
        return torch.empty_like(result, memory_format=torch.channels_last)
    if func is _NORM_BACKWARD and result[0] is not None:
        return torch.empty_like(args[1]), *result[1:]
    return result


def _is_channels_last(images: Tensor) -> bool:
    """Whether a convolution on a device takes pictures or kernels for channels-last.

    With one channel both layouts name the same numbers; as on a device, the strides decide then.
    """
    if images.dim() != _PICTURES:
        return False
    channels = images.stride(1)
    least = 0
    for axis in (1, 3, 2):
        if images.stride(axis) < least:
            return False
        least = images.stride(axis) * images.size(axis)
    return channels < least <= images.stride(0)


def _leaves_meta(device: torch.device | None) -> bool:
    return device is not None and device.type != "meta"


def _kind(func: Any) -> Literal["new", "in place", "other"]:  # noqa: ANN401  # an operation of torch
    """Whether an operation makes new tensors, or changes no more than the numbers of its first."""
    schema = func._schema
    if not any(part.alias_info for part in (*schema.arguments, *schema.returns)):
        return "new"
    in_place = schema.name.endswith("_") and torch.Tag.pointwise in func.tags
    return "in place" if in_place else "other"


def _key(values: Iterable[Any]) -> tuple[Any, ...]:
    """What the results' shapes follow from: the shapes of tensors, and everything else."""
    return tuple(
        (value.shape, value.stride(), value.dtype, value.device.type)
        if isinstance(value, Tensor)
        else _key(value)
        if isinstance(value, list | tuple)
        else (type(value), None if isinstance(value, torch.Generator) else value)
        for value in values
    )


def _spec(result: Any) -> _Spec | list[_Spec | None] | None:  # noqa: ANN401  # any result
    """The specification of ``meta`` tensors; nothing for any other result."""
    if isinstance(result, Tensor):
        return (result.shape, result.stride(), result.dtype) if result.is_meta else None
    if not isinstance(result, tuple) or not all(r is None or _is_meta(r) for r in result):
        return None
    return [None if r is None else (r.shape, r.stride(), r.dtype) for r in result]


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _shares_storage(result: Any, args: Sequence[Any]) -> bool:  # noqa: ANN401  # any result
    """Whether a result is an argument's storage after all, as an undeclared view is."""
    given = {value.untyped_storage()._cdata for value in args if _is_meta(value)}
    made = result if isinstance(result, tuple) else (result,)
    return any(_is_meta(one) and one.untyped_storage()._cdata in given for one in made)


def _empty(spec: _Spec) -> Tensor:
    shape, stride, dtype = spec
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
