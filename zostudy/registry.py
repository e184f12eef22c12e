"""Named extension points, read from source text without importing it.

A component is a function or class in some module that carries one of the decorators below, with
its name as a literal: ``@regularizer("beta_decay")``. Its options are its own keyword-only
parameters, typed ``int``, ``float``, ``bool``, ``str``, ``tuple``, ``Literal[…]`` or, with an
interval of allowed numbers, ``Annotated[float, "(0, 1]"]``.
Declarations are found by parsing the module's source, so that a study file can be checked, with
every name and option, without importing torch; the code is imported when the component is used.
"""

import ast
import functools
import importlib
import importlib.util
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from zostudy.errors import ConfigError
from zostudy.options import Option, nearest

F = TypeVar("F", bound=Callable[..., Any])

Kind = Literal[
    "search_space",
    "operation",
    "channel_split",
    "dataset",
    "mask_source",
    "ranking_function",
    "relaxation",
    "perturbation",
    "regularizer",
    "freezing",
    "search_schedule",
    "selection",
    "search_algorithm",
    "architecture_score",
]

#: Where zostudy's own components are declared.
BUILTIN_MODULES = (
    "zostudy.space.darts",
    "zostudy.space.nasbench201",
    "zostudy.networks.operations",
    "zostudy.networks.channel_splits",
    "zostudy.data.sources",
    "zostudy.data.folders",
    "zostudy.pruning.mask_sources",
    "zostudy.pruning.given",
    "zostudy.pruning.zero_shot",
    "zostudy.proxies.ranking",
    "zostudy.proxies.saliency",
    "zostudy.proxies.geometry",
    "zostudy.proxies.gradient_snr",
    "zostudy.proxies.sweet_gradient",
    "zostudy.proxies.knas",
    "zostudy.proxies.meco",
    "zostudy.proxies.az_nas",
    "zostudy.search.relaxations",
    "zostudy.search.perturbations",
    "zostudy.search.regularizers",
    "zostudy.search.freezing",
    "zostudy.search.schedules",
    "zostudy.search.selections",
    "zostudy.search.algorithms",
    "zostudy.search.scores",
)


def _marker(kind: Kind) -> Callable[..., Callable[[F], F]]:
    def declare(name: str, **facts: object) -> Callable[[F], F]:
        del name, facts  # read from the source text by `scan`
        return lambda component: component

    declare.__name__ = kind
    declare.__doc__ = f"Declare a {kind.replace('_', ' ')} under a name, with literal facts."
    return declare


search_space = _marker("search_space")
operation = _marker("operation")
channel_split = _marker("channel_split")
dataset = _marker("dataset")
mask_source = _marker("mask_source")
ranking_function = _marker("ranking_function")
relaxation = _marker("relaxation")
perturbation = _marker("perturbation")
regularizer = _marker("regularizer")
freezing = _marker("freezing")
search_schedule = _marker("search_schedule")
selection = _marker("selection")
search_algorithm = _marker("search_algorithm")
architecture_score = _marker("architecture_score")


@dataclass(frozen=True)
class Component:
    """A declaration found in a module's source.

    Attributes:
        kind: What it extends.
        name: The name that study files use.
        module: The module to import.
        attribute: The function or class in it.
        options: Its keyword-only parameters.
        facts: The decorator's literal keyword arguments.
        summary: The first line of its docstring.
    """

    kind: str
    name: str
    module: str
    attribute: str
    options: tuple[Option, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    summary: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the module and return the function or class."""
        return self.sibling(self.attribute)

    def sibling(self, attribute: str) -> Callable[..., Any]:
        """A function beside the component, such as one that its facts name."""
        if self.module in BUILTIN_MODULES:
            found: Callable[..., Any] = getattr(importlib.import_module(self.module), attribute)
            return found
        try:
            found = getattr(importlib.import_module(self.module), attribute)
        except Exception as error:  # an extension's own code may raise anything
            raise ConfigError(
                f"extensions: module {self.module!r} cannot be imported ({_where(error)})"
            ) from error
        return found

    def option(self, name: str) -> Option | None:
        """The option of that name, if the component has it."""
        return next((option for option in self.options if option.name == name), None)


def _options(node: ast.FunctionDef | ast.ClassDef) -> tuple[Option, ...]:
    if isinstance(node, ast.ClassDef):
        inits = [b for b in node.body if isinstance(b, ast.FunctionDef) and b.name == "__init__"]
        if not inits:
            return ()
        node = inits[0]
    found = []
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        annotation, interval, inner = argument.annotation, "", dict[str, str]()
        if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
            annotation, interval, inner = _annotated(annotation)
        text = ast.unparse(annotation) if annotation else "str"
        choices: tuple[object, ...] = ()
        if text.startswith("Literal["):
            choices = tuple(ast.literal_eval(f"({text[len('Literal[') : -1]},)"))
        allowed = tuple(part.split("[")[0].strip() for part in text.split("|"))
        value = None if default is None else ast.literal_eval(default)
        required = default is None
        option = Option(argument.arg, allowed, choices, interval, inner, value, required=required)
        found.append(option)
    return tuple(found)


def _annotated(annotation: ast.Subscript) -> tuple[ast.expr, str, dict[str, str]]:
    """The type and the intervals of ``Annotated[float, "(0, 1]"]``, those of keys included."""
    if not isinstance(annotation.slice, ast.Tuple):
        return annotation, "", {}
    kind, *facts = (annotation.slice.elts[0], *map(ast.literal_eval, annotation.slice.elts[1:]))
    interval = next((fact for fact in facts if isinstance(fact, str)), "")
    inner = next((fact for fact in facts if isinstance(fact, dict)), {})
    return kind, interval, inner


def _where(error: BaseException) -> str:
    """An error of an extension's code in one line, with the place that raised it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    return f"{text}; {own[-1].filename}:{own[-1].lineno}" if own else text


def source(module: str) -> Path:
    """The file that holds a module's source.

    Raises:
        ConfigError: There is no such module.
    """
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # of a package, which is imported: its code may raise anything
        text = f"extensions: module {module!r} cannot be found ({_where(error)})"
        raise ConfigError(text) from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(f"extensions: module {module!r} cannot be found; is it on the path?")
    return Path(spec.origin)


@functools.lru_cache(maxsize=64)
def scan(module: str) -> tuple[Component, ...]:
    """Every component that a module's source declares.

    Raises:
        ConfigError: There is no such module, or its source cannot be parsed.
    """
    path = source(module)
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"extensions: {path}:{error.lineno}: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"extensions: {path} cannot be read ({error})") from error
    found = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            try:
                component = _declared(module, node, decorator)
            except ValueError as error:
                raise ConfigError(
                    f"extensions: {path}:{node.lineno}: {node.name!r} needs a name, facts, options "
                    f"and defaults that are literals ({error})"
                ) from error
            if component is not None:
                found.append(component)
    return tuple(found)


def forget() -> None:
    """Read sources anew, as a process does that begins now."""
    scan.cache_clear()
    components.cache_clear()


def _declared(
    module: str, node: ast.FunctionDef | ast.ClassDef, decorator: ast.expr
) -> Component | None:
    """The component that a decorator declares, if it declares one.

    Raises:
        ValueError: The declaration is no literal.
    """
    if not (isinstance(decorator, ast.Call) and decorator.args):
        return None
    kind = ast.unparse(decorator.func).rsplit(".", 1)[-1]
    if kind not in get_args(Kind):
        return None
    facts = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords if k.arg}
    name = ast.literal_eval(decorator.args[0])
    summary = (ast.get_docstring(node) or "").split("\n")[0]
    return Component(kind, name, module, node.name, _options(node), facts, summary)


@functools.lru_cache(maxsize=64)
def components(kind: Kind, extensions: tuple[str, ...] = ()) -> Mapping[str, Component]:
    """Every component of a kind by name, zostudy's own first.

    Raises:
        ConfigError: An extension cannot be read, or declares a name that is taken.
    """
    named: dict[str, Component] = {}
    for module in (*BUILTIN_MODULES, *extensions):
        for component in scan(module):
            if component.kind != kind:
                continue
            if component.name in named:
                raise ConfigError(
                    f"extensions: {module} declares the {kind.replace('_', ' ')} "
                    f"{component.name!r}, which {named[component.name].module} has already"
                )
            named[component.name] = component
    return named


def find(kind: Kind, name: str, place: str, extensions: tuple[str, ...] = ()) -> Component:
    """The component of that name.

    Raises:
        ConfigError: No such component; the message has the nearest match.
    """
    known = components(kind, extensions)
    if name not in known:
        hint = nearest(name, known) or f"; known: {', '.join(sorted(known))}"
        raise ConfigError(f"{place}: unknown {kind.replace('_', ' ')} {name!r}{hint}")
    return known[name]


def resolve_options(
    component: Component, place: str, given: Mapping[str, object]
) -> dict[str, Any]:
    """The component's options, checked and completed with its defaults.

    Raises:
        ConfigError: An unknown option, a wrong type or choice, or a required option left out.
    """
    for name in given:
        if component.option(name) is None:
            names = [option.name for option in component.options]
            hint = nearest(name, names) or f"; options: {', '.join(names) or 'none'}"
            raise ConfigError(f"{place}.{name}: {component.name!r} has no such option{hint}")
    resolved: dict[str, Any] = {}
    for option in component.options:
        if option.name in given:
            resolved[option.name] = option.check(f"{place}.{option.name}", given[option.name])
        elif option.required:
            raise ConfigError(
                f"{place}.{option.name}: {component.name!r} needs this option "
                f"({' or '.join(option.allowed)})"
            )
        else:
            resolved[option.name] = option.default
    return resolved
