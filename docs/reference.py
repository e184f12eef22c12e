"""Writes the pages of the reference from the code, whenever the documentation is built.

MkDocs calls `on_files` (see ``hooks`` in mkdocs.yml). Each function below returns the text of one
page; none of them imports torch.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import zostudy
from zostudy import options, registry
from zostudy.cli import app
from zostudy.config.settings import StudyConfig
from zostudy.config.techniques import TECHNIQUES
from zostudy.metrics import METRICS

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(zostudy.__file__).parent

#: What a metric is counted in, in words.
_UNITS = {
    "flag": "1 or 0",
    "percent": "%",
    "percentile": "%",
    "points": "percentage points",
    "seconds": "s",
    "milliseconds": "ms",
}

_KINDS: dict[registry.Kind, tuple[str, str]] = {
    "dataset": ("Data sets", "dataset.name"),
    "search_space": ("Search spaces", "search_space.name"),
    "operation": ("Operations", ""),
    "channel_split": ("Channel splits", "supernet.channel_split.name"),
    "mask_source": ("Mask sources", "prune.source"),
    "ranking_function": ("Ranking functions (zero-cost proxies)", "prune.ranking"),
    "relaxation": ("Relaxations", "search.relaxation.name"),
    "perturbation": ("Perturbations", "search.perturbation.name"),
    "regularizer": ("Regularizers", "search.regularizer.name"),
    "freezing": ("Freezing of operations", "search.freezing.name"),
    "search_schedule": ("Schedules of a search", "search.schedule.name"),
    "selection": ("Selections", "search.selection.name"),
    "search_algorithm": ("Algorithms of a search by score", "search.algorithm.name"),
    "architecture_score": ("Scores of architectures", "search.score.name"),
}

#: Packages and modules of the Python API, and what a reader finds in them.
_API = {
    "registry": "Decorators that declare your own components",
    "space": "Search spaces, masks and genotypes",
    "data": "Data sets, splits and batches",
    "networks": "Operations, supernet and stand-alone network",
    "proxies": "Zero-cost proxies",
    "pruning": "Mask sources and Algorithm 1",
    "search": "The one-shot search",
    "evaluation": "Training and tables",
    "stage": "What a stage is given, and how it reports",
    "runtime": "Device, precision and seeds",
    "metrics": "Metrics",
    "config": "Settings",
    "errors": "Errors",
}


def pages() -> dict[str, str]:
    """The text of every page, by its path under docs/."""
    return {
        "reference/cli.md": command_line(),
        "reference/settings.md": settings(),
        "reference/metrics.md": metrics(),
        "reference/components.md": components(),
        "reference/api.md": api(),
    }


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages to those that MkDocs has found."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


# -- command line --------------------------------------------------------------------------------


def command_line() -> str:
    """Every command with its arguments and options, as the program itself parses them."""
    group = typer.main.get_command(app)
    text = [
        "# Command line",
        "",
        "Every command that reads a study takes `--set PATH=VALUE`, as often as you like. "
        "Tables go to stdout, progress and errors to stderr. The exit code is 0 for success, 1 if "
        "something failed while it ran, and 2 if the input is wrong, in which case nothing was "
        "computed or written.",
        "",
    ]
    for name, command in _commands(group, ""):
        text += [f"## zostudy {name}", "", inspect.cleandoc(command.help or ""), ""]
        arguments = [_argument(p) for p in command.params if p.param_type_name == "argument"]
        options = ["[OPTIONS]"] if len(command.params) > len(arguments) else []
        usage = " ".join(["zostudy", name, *arguments, *options])
        text += [f"```text\n{usage}\n```", ""]
        rows = [row for parameter in command.params for row in _parameter(parameter)]
        if rows:
            text += [*_table(("argument or option", "default", "meaning"), rows), ""]
    return "\n".join(text)


def _commands(command: Any, prefix: str) -> Iterable[tuple[str, Any]]:  # noqa: ANN401  # typer's own
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from _commands(child, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", child


def _argument(parameter: Any) -> str:  # noqa: ANN401  # as above
    return str(parameter.metavar or parameter.name.upper())


def _parameter(parameter: Any) -> Iterable[tuple[str, str, str]]:  # noqa: ANN401  # as above
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    if parameter.param_type_name == "argument":
        names = f"`{_argument(parameter)}`"
    elif not parameter.is_flag:
        names = f"{names} `{_argument(parameter)}`"
    value = parameter.default
    given = value not in (None, "", [], False) and not callable(value)
    default = f"`{value}`" if given else ("required" if parameter.required else "–")
    yield names, default, parameter.help or ""


# -- settings ------------------------------------------------------------------------------------


def settings() -> str:
    """Every setting of a study file: default, what is allowed, meaning."""
    schema = StudyConfig.model_json_schema()
    own = [n for n, p in schema["properties"].items() if "$ref" not in p]
    sections = [name for name in schema["properties"] if name not in own]
    text = [
        "# Settings of a study file",
        "",
        "A study file is YAML. Only `study` is required; everything else has the default given "
        "here. `zostudy schema` prints the same as a JSON schema, which editors use to complete "
        "and check a file. A section that names a component (`dataset`, `prune`, "
        "`search.regularizer`) also takes that component's own options, which are listed under "
        "[Components](components.md).",
        "",
        "## Top level",
        "",
        *_settings_table(schema, {name: schema["properties"][name] for name in own}, "", {}),
        "",
        f"The values of `technique` are {', '.join(f'`{t}`' for t in TECHNIQUES)} and `custom`; "
        "see [the techniques](../concepts/pipeline.md#the-eight-techniques).",
        "",
    ]
    for name in sections:
        section = schema["properties"][name]
        described = schema["$defs"][section["$ref"].rsplit("/", 1)[-1]]
        rows = _settings_table(schema, described["properties"], f"{name}.", section["default"])
        text += [f"## {name}", "", described.get("description", ""), "", *rows, ""]
    return "\n".join(text)


def _settings_table(
    schema: Mapping[str, Any],
    properties: Mapping[str, Any],
    prefix: str,
    default: Mapping[str, Any],
) -> list[str]:
    rows = list(_settings_rows(schema, properties, prefix, default))
    return _table(("setting", "default", "allowed", "meaning"), rows)


def _settings_rows(
    schema: Mapping[str, Any],
    properties: Mapping[str, Any],
    prefix: str,
    default: Mapping[str, Any],
) -> Iterable[tuple[str, str, str, str]]:
    for name, described in properties.items():
        if name == "options":
            continue
        value = default.get(name, described.get("default", "required"))
        nested, path = _definition(schema, described), f"{prefix}{name}"
        if nested is not None and isinstance(value, dict) and "$ref" in described:
            yield from _settings_rows(schema, nested["properties"], f"{path}.", value)
            continue
        shown = value if value == "required" else f"`{_shown(value)}`"
        meaning = _plain(described.get("description", ""))
        yield f"`{path}`", shown, _allowed(schema, described), meaning
        if nested is not None:
            inner = f"{path}." + ("NAME." if described.get("type") == "object" else "N.")
            yield from _settings_rows(schema, nested["properties"], inner, {})


def _definition(
    schema: Mapping[str, Any], described: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The model that a setting holds, or that each of its items holds."""
    inner = described.get("items") or described.get("additionalProperties") or {}
    candidates = [described, *([inner] if isinstance(inner, dict) else [])]
    candidates += inner.get("anyOf", ()) if isinstance(inner, dict) else ()
    for candidate in candidates:
        if "$ref" in candidate:
            found: Mapping[str, Any] = schema["$defs"][candidate["$ref"].rsplit("/", 1)[-1]]
            return found
    return None


_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "`true` or `false`",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
}


def _allowed(schema: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in described:
        return " or ".join(dict.fromkeys(_allowed(schema, part) for part in described["anyOf"]))
    if "enum" in described:
        return ", ".join(f"`{_shown(choice)}`" for choice in described["enum"])
    if "const" in described:
        return f"`{described['const']}`"
    words = _TYPES.get(described.get("type", ""), "a mapping")
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    limits = [f"{word} {_number(described[key])}" for key, word in bounds if key in described]
    if "items" in described and "type" in described["items"]:
        words += f" of {_TYPES[described['items']['type']].removeprefix('a ')}s"
    return f"{words}, {' and '.join(limits)}" if limits else words


def _number(value: float) -> str:
    if value == 2**63 - 1:
        return "2⁶³ − 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _shown(value: object) -> str:
    """A value as YAML holds it on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return '""' if value == "" else str(value)


# -- metrics -------------------------------------------------------------------------------------


def metrics() -> str:
    """Every metric of a trial, and what it may be used for."""
    rows = [
        (
            f"`{metric.name}`",
            metric.title,
            _UNITS.get(metric.unit, metric.unit),
            metric.better if metric.better != "neither" else "–",
            "yes" if metric.objective else "–",
            "yes" if metric.constraint else "–",
            metric.meaning + (f" Only with `evaluate.by: {metric.by[0]}`." if own else ""),
        )
        for metric in METRICS.values()
        for own in [metric.by in (("table",), ("predictor",))]
    ]
    head = ("metric", "title", "unit", "better", "objective", "constraint", "meaning")
    return "\n".join(
        [
            "# Metrics",
            "",
            "Every complete trial has these metrics, as far as its phases measure them. "
            "`zostudy results --json` and MLflow use the same names. Times end in `_seconds` and "
            "sizes in `_bytes`; accuracies are percentages. Tables and reports have the title, "
            "with the unit in which they show the value. *Objective* says whether "
            "`sweep.objectives` may name the metric, *constraint* whether `sweep.constraints` may.",
            "",
            *_table(head, rows),
            "",
            "Test accuracy is never an objective: selection does not see the test part "
            "([Honest selection](../concepts/selection.md)). On the CPU, peak memory is that of "
            "live tensors; on a GPU it is the allocator's peak ([Memory](../guides/memory.md)).",
            "",
        ]
    )


# -- components ----------------------------------------------------------------------------------


def components() -> str:
    """Every component of the registry by kind, with its options."""
    text = [
        "# Components",
        "",
        "A component is a named part that a study file chooses. You can add your own: see "
        "[Extending](../guides/extending.md).",
        "",
    ]
    for kind, (title, setting) in _KINDS.items():
        chosen = f"A study file chooses one with `{setting}`." if setting else ""
        if kind == "ranking_function":
            chosen = f"A study file lists one or several under `{setting}`."
        if kind == "operation":
            chosen = "A search space lists the operations that it uses."
        text += [f"## {title}", "", chosen, ""]
        for component in registry.components(kind).values():
            text += [*_component(component), ""]
    return "\n".join(text)


def _component(component: registry.Component) -> list[str]:
    text = [f"### {component.name}", "", _plain(component.summary), ""]
    facts = [
        f"`{key}`: {_fact(value)}"
        for key, value in component.facts.items()
        if key in ("sign", "source", "differentiable", "reads")
    ]
    if facts:
        text += [f"{'; '.join(facts)}.", ""]
    where = f"zostudy/{component.module.removeprefix('zostudy.').replace('.', '/')}.py"
    if component.options:
        explained = _explained(component)
        rows = [
            (
                f"`{option.name}`",
                "required" if option.required else f"`{_shown(option.default)}`",
                _option_allowed(option),
                explained.get(option.name, ""),
            )
            for option in component.options
        ]
        text += [*_table(("option", "default", "allowed", "meaning"), rows), ""]
    return [*text, f"Source: `{where}`"]


def _fact(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _option_allowed(option: options.Option) -> str:
    if option.choices:
        return ", ".join(f"`{_shown(choice)}`" for choice in option.choices)
    words = {"int": "a whole number", "float": "a number", "bool": "`true` or `false`",
             "str": "text", "tuple": "a list", "dict": "a mapping"}  # fmt: skip
    kinds = " or ".join(words.get(kind, kind) for kind in option.allowed)
    return f"{kinds} in {option.interval}" if option.interval else kinds


def _explained(component: registry.Component) -> dict[str, str]:
    """What the docstring says of each option, from its section ``Args``."""
    tree = ast.parse(registry.source(component.module).read_text(encoding="utf-8"))
    (node,) = (
        n
        for n in tree.body
        if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == component.attribute
    )
    text = ast.get_docstring(node) or ""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    found = re.finditer(
        r"^    (\w+): ((?:.*\n?)(?:     +.*\n?)*)", section[1] if section else "", re.MULTILINE
    )
    return {match[1]: _plain(match[2]) for match in found}


# -- Python API ----------------------------------------------------------------------------------


def api() -> str:
    """The public functions and classes of every package, from their docstrings."""
    text = [
        "# Python API",
        "",
        "The engine is an ordinary Python package: its stages are functions of values, and can be "
        "called without a study file. Names that are not listed here are internal and may change.",
        "",
    ]
    for name, title in _API.items():
        text += [f"## {title}", ""]
        path = ROOT / name
        modules = (
            [f"zostudy.{name}"]
            if not path.is_dir()
            else [f"zostudy.{name}.{p.stem}" for p in sorted(path.glob("*.py")) if p.stem[0] != "_"]
        )
        for module in modules:
            text += [f"::: {module}", "    options:", "      heading_level: 3", ""]
    return "\n".join(text)


# -- text ----------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """A docstring's text on one line of Markdown: ``name`` is code."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
