"""What a backward pass derives again at once, where a step draws paths.

Of a drawn path each edge has one operation, so that what is cheap to compute (ReLU, BN, pools,
joined nodes, products of kernels) makes up most of what a backward pass keeps. In a context of this
module it is kept as a recipe: the function and its inputs, which are kept themselves or are recipes
in turn. Convolutions are not computed again. The numbers are the same bits: the same functions see
the same inputs.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, UntypedStorage

T = TypeVar("T")
Args = tuple[Any, ...]


class _Recipe:
    """A value that is computed again from its inputs.

    Args:
        function: Without randomness.
        inputs: Tensors, recipes, or anything else.
        place: Which of several results it is; the result itself, if it is one.
    """

    def __init__(self, function: Callable[..., Any], inputs: Args, place: int | None) -> None:
        self._function = function
        self._inputs = inputs
        self._place = place

    def value(self) -> Tensor:
        """The value."""
        given = [one.value() if isinstance(one, _Recipe) else one for one in self._inputs]
        made = self._function(*given)
        result: Tensor = made if self._place is None else made[self._place]
        return result


class _Saved:
    """What a backward pass keeps.

    Attributes:
        kept: A tensor, or the recipe of one.
    """

    def __init__(self, kept: "Tensor | _Recipe") -> None:
        self.kept = kept


#: The recipes of the tensors of the pass that is under way, by their memory.
Recipes = MutableMapping[UntypedStorage, tuple[_Recipe, torch.Size, tuple[int, ...], int]]
_recipes: ContextVar[Recipes | None] = ContextVar("recipes", default=None)


@contextlib.contextmanager
def rederiving(when: bool) -> Iterator[None]:
    """A context in which the backward pass keeps no value of `derived`.

    Args:
        when: Whether to do so; only where a gradient is asked for has it an effect.
    """
    if not (when and torch.is_grad_enabled()):
        yield
        return
    recipes: Recipes = weakref.WeakKeyDictionary()
    token = _recipes.set(recipes)
    hooks = torch.autograd.graph.saved_tensors_hooks
    try:
        with hooks(lambda tensor: _Saved(_kept(tensor, recipes)), _unpacked):
            yield
    finally:
        _recipes.reset(token)


def derived(function: Callable[..., T], *inputs: Any) -> T:  # noqa: ANN401  # any arguments
    """The function's value; in a context of `rederiving`, it is computed again where it is needed.

    Args:
        function: Cheap, and without randomness, so that computing it again gives the same bits.
        inputs: Its arguments; no tensor among them may be changed in place afterwards.
    """
    recipes = _recipes.get()
    if recipes is None:
        return function(*inputs)
    saved: list[_Saved] = []  # what the function saves of its own value waits for the recipe

    def packed(tensor: Tensor) -> _Saved:
        saved.append(_Saved(tensor))
        return saved[-1]

    with torch.autograd.graph.saved_tensors_hooks(packed, _unpacked):
        value = function(*inputs)
    _register(function, inputs, value, recipes)
    for one in saved:
        if isinstance(one.kept, Tensor):
            one.kept = _kept(one.kept, recipes)
    return value


def _register(
    function: Callable[..., Any],
    inputs: Args,
    value: Any,  # noqa: ANN401  # a tensor or several
    recipes: Recipes,
) -> None:
    """Keep the recipe of a function's value, but of what is no more than a view of an input."""
    kept = tuple(_kept(one, recipes) if isinstance(one, Tensor) else one for one in inputs)
    own = {one.untyped_storage() for one in inputs if isinstance(one, Tensor)}
    several = isinstance(value, tuple)
    for place, one in enumerate(value if several else (value,)):
        if one.untyped_storage() not in own:
            recipe = _Recipe(function, kept, place if several else None)
            geometry = one.shape, one.stride(), one.storage_offset()
            recipes[one.untyped_storage()] = recipe, *geometry


def _kept(tensor: Tensor, recipes: Recipes) -> Tensor | _Recipe:
    """A tensor's recipe, or the tensor without its graph."""
    found = recipes.get(tensor.untyped_storage())
    if found is None:
        return tensor.detach()
    recipe, *geometry = found
    own = tensor.shape, tensor.stride(), tensor.storage_offset()
    return recipe if own == tuple(geometry) else _Recipe(torch.as_strided, (recipe, *own), None)


def _unpacked(saved: _Saved) -> Tensor:
    if isinstance(saved.kept, Tensor):
        return saved.kept
    with torch.enable_grad():  # as in the pass, which some functions ask for; nothing is recorded
        return saved.kept.value()
