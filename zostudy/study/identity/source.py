"""Digests of source code: of the engine, and of a study's extensions."""

import ast
import functools
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from zostudy import registry

#: The parts of zostudy that compute results.
_ENGINE = (
    *("space", "networks", "data", "proxies", "predictors", "pruning", "search", "evaluation"),
    "runtime.py",
)


@functools.cache
def engine_digest() -> str:
    """Digest of the source of the engine."""
    root = registry.source("zostudy").parent
    return _digest(
        path
        for part in _ENGINE
        for path in (sorted((root / part).rglob("*.py")) if "." not in part else [root / part])
    )


@functools.cache
def extensions_digest(extensions: tuple[str, ...]) -> str:
    """Digest of the source of a study's extensions; empty where there are none.

    What an extension imports belongs to it, but for zostudy itself, the standard library and what
    is installed: a module beside it, or the other modules of its package.

    Raises:
        ConfigError: An extension cannot be found.
    """
    if not extensions:
        return ""
    found: dict[Path, None] = {}
    for extension in extensions:
        _collect(registry.source(extension), extension, extension.split(".")[0], found)
    return _digest(found)


def _digest(paths: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in paths:
        content.update(path.read_bytes())
    return content.hexdigest()


def _collect(path: Path, module: str, extension: str, found: dict[Path, None]) -> None:
    """Add a module's file and those that it imports and that are the user's own."""
    if path in found:
        return
    found[path] = None
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return  # whoever imports it says so
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for name in _imported(tree, package):
        own = _own_source(name, extension)
        if own is not None:
            _collect(own, name, extension, found)


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Names of modules that a module imports anywhere, or may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *([node.module] if node.module else [])]
            base = ".".join(part for part in parts if part)
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _own_source(module: str, extension: str) -> Path | None:
    """The file of a module that is the user's own; nothing where it is another's, or no module.

    Nothing is imported: modules of a package are looked for where the package lies.
    """
    top, *parts = module.split(".")
    if not top or top == "zostudy":
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    if top != extension and any(path.is_relative_to(place) for place in _installed()):
        return None
    for part in parts:
        places = (path.parent / f"{part}.py", path.parent / part / "__init__.py")
        there = [place for place in places if path.name == "__init__.py" and place.is_file()]
        if not there:
            return None
        path = there[0]
    return path


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Where what is installed lies."""
    return tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
