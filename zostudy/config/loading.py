"""From a document to validated settings, and back."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zostudy import registry
from zostudy.config import document as documents
from zostudy.config import effect, messages
from zostudy.config.combinations import check_search, check_source
from zostudy.config.document import Document
from zostudy.config.evaluators import SOURCES
from zostudy.config.latency import LatencySettings
from zostudy.config.search import SearchSettings
from zostudy.config.settings import EvaluateSettings, StudyConfig, TrialConfig
from zostudy.config.sweep import RangeSettings, SweepSettings
from zostudy.config.techniques import TECHNIQUES, WITHOUT_SEARCH
from zostudy.errors import ConfigError
from zostudy.options import nearest
from zostudy.registry import Component, Kind

T = TypeVar("T", bound=TrialConfig)

#: Sections that name a component: path, key of the name, kind.
_COMPONENT_SECTIONS: tuple[tuple[tuple[str, ...], str, Kind], ...] = (
    (("dataset",), "name", "dataset"),
    (("prune",), "source", "mask_source"),
    (("supernet", "channel_split"), "name", "channel_split"),
    (("search", "relaxation"), "name", "relaxation"),
    (("search", "perturbation"), "name", "perturbation"),
    (("search", "regularizer"), "name", "regularizer"),
    (("search", "freezing"), "name", "freezing"),
    (("search", "schedule"), "name", "search_schedule"),
    (("search", "selection"), "name", "selection"),
    (("search", "algorithm"), "name", "search_algorithm"),
    (("search", "score"), "name", "architecture_score"),
)


@dataclass(frozen=True)
class StudyFile:
    """A validated study file and the document it came from.

    Attributes:
        document: The document, overrides applied.
        config: The settings of the study; its trial settings are those before any sweeping.
        resolve: Gives the settings of a point their numbers where they have words for them.
        made_of: What else determines the results of settings, today (data, files, code, device):
            digests or words by name. Trials that are made of different things are not compared.
    """

    document: Document
    config: StudyConfig
    resolve: Callable[[TrialConfig], TrialConfig] = lambda config: config
    made_of: Callable[[TrialConfig], Mapping[str, str]] = lambda _config: {}

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return Path(self.config.storage.folder)

    @property
    def batch_sizes(self) -> tuple[Any, ...]:
        """Every value of ``search.batch_size`` that the file names."""
        swept = self.config.sweep.parameters.get("search.batch_size", ())
        return (self.config.search.batch_size, *(swept if isinstance(swept, tuple) else ()))

    def trial(self, values: Mapping[str, Any]) -> TrialConfig:
        """The settings of one point of the sweep.

        Args:
            values: For each swept path, its value at this point.

        Raises:
            ConfigError: The settings are wrong at this point.
        """
        kept = {key: value for key, value in self.document.items() if key in _TRIAL_KEYS}
        return self.resolve(_validate(TrialConfig, documents.override(kept, values)))


_TRIAL_KEYS = frozenset(TrialConfig.model_fields)


def load(path: Path, assignments: tuple[str, ...] = ()) -> StudyFile:
    """Read and validate a study file.

    Args:
        path: The file.
        assignments: Overrides in the form ``path=value``, applied in order.

    Raises:
        ConfigError: Anything is wrong; the message has one line for every mistake.
    """
    values = dict(documents.assignment(text) for text in assignments)
    found = documents.read_with_lines(path)
    try:
        file = from_document(documents.override(found.value, values))
    except ConfigError as error:
        raise ConfigError(found.explained(str(error), but=values)) from error
    for name in values:
        if name in file.config.sweep.parameters:
            raise ConfigError(
                f"--set {name}: is swept, so that a value here has no effect; "
                f"set its values: --set 'sweep.parameters.{name}=[…]'"
            )
    return file


def from_document(document: Document) -> StudyFile:
    """Validate a document, at its base and at every swept value.

    Raises:
        ConfigError: Anything is wrong.
    """
    sweep = _validate_model(SweepSettings, document.get("sweep", {}), "sweep")
    _check_search_section(document, sweep)
    first = {
        path: values[0] if isinstance(values, tuple) else values.low
        for path, values in sweep.parameters.items()
    }
    config = _validate(StudyConfig, documents.override(document, first))
    file = StudyFile(document, config)
    for path in sweep.parameters:
        _check_path(path)
    for path, values in sweep.parameters.items():
        for value in _probed(values):
            file.trial(first | {path: value})
    if sweep.sampler.samples:
        _check_pairs(file, first)
    return file


#: Of a range or list of a sampled sweep, how many values are tried together with others'.
_PROBED = 12


def _probed(values: tuple[Any, ...] | RangeSettings) -> tuple[Any, ...]:
    """The values that a setting is tried with: all that are listed, of a range its two ends."""
    return values if isinstance(values, tuple) else (values.low, values.high)


def _check_pairs(file: StudyFile, first: Mapping[str, Any]) -> None:
    """Whether a sampler may draw any two values together; a grid's points are checked one by one.

    Raises:
        ConfigError: Two of them exclude each other.
    """
    parameters = file.config.sweep.parameters
    for (one, ones), (other, others) in itertools.combinations(parameters.items(), 2):
        for a, b in itertools.product(_probed(ones)[:_PROBED], _probed(others)[:_PROBED]):
            values = {one: a, other: b}
            try:
                file.trial({**first, **values})
            except ConfigError as error:
                drawn = " ".join(f"{path}={value}" for path, value in values.items())
                raise ConfigError(f"{error} (sampler draws {drawn})") from error


def _check_path(path: str) -> None:
    head = path.split(".")[0]
    if path in ("dataset.seed", "dataset.test_fraction"):
        raise ConfigError(
            f"sweep.parameters.{path}: trials with other test pictures cannot be compared; "
            "allowed: settings that leave the test part as it is"
        )
    if path in {f"evaluate.{name}" for name in SOURCES}:
        raise ConfigError(
            f"sweep.parameters.{path}: accuracies from elsewhere cannot be compared; "
            "allowed: settings that leave the source of accuracies as it is"
        )
    if head == "latency":
        raise ConfigError(
            f"sweep.parameters.{path}: latencies that are had in different ways cannot be "
            "compared; allowed: settings that leave the section 'latency' as it is"
        )
    allowed = _TRIAL_KEYS - {"extensions", "latency"}
    if head not in _TRIAL_KEYS:
        raise ConfigError(
            f"sweep.parameters.{path}: cannot be swept{nearest(head, _TRIAL_KEYS)}; "
            f"allowed: paths that begin with {', '.join(sorted(allowed))}"
        )


def _check_search_section(document: Document, sweep: SweepSettings) -> None:
    techniques = sweep.parameters.get("technique", (document.get("technique"),))
    if (
        "search" in document
        and isinstance(techniques, tuple)
        and all(isinstance(t, str) and t in WITHOUT_SEARCH for t in techniques)
    ):
        raise ConfigError(
            f"search: technique {techniques[0]!r} searches nothing, its pruning ends with a "
            "genotype; leave the section 'search' out"
        )


def _validate(model: type[T], document: Document) -> T:
    expanded = _expand_technique(document)
    extensions = expanded.get("extensions", [])
    if not (isinstance(extensions, list) and all(isinstance(e, str) for e in extensions)):
        raise ConfigError(f"extensions: {extensions!r}; needs a list of module names")
    for section, key, kind in _COMPONENT_SECTIONS:
        _split_options(expanded, section, key, kind, tuple(extensions))
    space = expanded.get("search_space", {})
    if isinstance(space, dict) and isinstance(space.get("name"), str):
        registry.find("search_space", space["name"], "search_space.name", tuple(extensions))
    config = _validate_model(model, expanded)
    check_source(config)
    check_search(config)
    return config


def _expand_technique(document: Document) -> Document:
    technique = document.get("technique", "custom")
    if technique == "custom":
        return documents.merge({}, document)
    if not isinstance(technique, str) or technique not in TECHNIQUES:
        known = [*TECHNIQUES, "custom"]
        hint = nearest(str(technique), known) or f"; known: {', '.join(known)}"
        raise ConfigError(f"technique: unknown technique {technique!r}{hint}")
    return documents.merge(TECHNIQUES[technique], document)


def _split_options(
    document: Document, section: tuple[str, ...], key: str, kind: Kind, extensions: tuple[str, ...]
) -> None:
    """Move a component's own options to the key ``options``, checked and completed, in place."""
    place, model = ".".join(section), TrialConfig
    holder: Any = document
    for name in section:
        model = model.model_fields[name].annotation  # type: ignore[assignment]  # a section
        holder = holder.setdefault(name, {})
        if not isinstance(holder, dict):
            return  # the model's own validation says what is wrong
    fields = set(model.model_fields) - {"options"}
    chosen = holder.get(key, model.model_fields[key].default)
    if not isinstance(chosen, str):
        return
    component = registry.find(kind, chosen, f"{place}.{key}", extensions)
    known = registry.components(kind, extensions)
    given: dict[str, Any] = {}
    for name in [name for name in holder if name not in fields]:
        value = holder.pop(name)
        _check_known(f"{place}.{name}", name, value, fields, known)
        if component.option(name) is not None:  # others' options are inactive here
            given[name] = value
    holder["options"] = registry.resolve_options(component, place, given)
    _check_effect(component, place, given, holder["options"])
    nested = component.facts.get("components", {})
    for name, nested_kind in nested.items() if isinstance(nested, dict) else ():
        if not holder["options"][name]:
            raise ConfigError(f"{place}.{name}: has no entries; needs at least one")
        holder["options"][name] = [
            _nested(f"{place}.{name}[{i}]", entry, nested_kind, extensions)
            for i, entry in enumerate(holder["options"][name])
        ]


def _check_effect(
    component: Component, place: str, given: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Refuse an option whose value, not the default, has no effect because of another option."""
    only_with = component.facts.get("only_with", {})
    for name, conditions in only_with.items() if isinstance(only_with, dict) else ():
        declared = component.option(name)
        default = declared.default if declared else None
        for other, values in conditions.items():
            if given.get(name, default) != default and options[other] not in values:
                raise ConfigError(
                    f"{place}.{name}: has no effect where {place}.{other} is "
                    f"{options[other]!r}; it has with {' or '.join(map(repr, values))}"
                )


def _check_known(
    place: str, name: str, value: object, fields: set[str], known: Mapping[str, Component]
) -> None:
    options = [c.option(name) for c in known.values() if c.option(name) is not None]
    if not options:
        names = sorted(fields | {o.name for c in known.values() for o in c.options})
        hint = nearest(name, names) or f"; known: {', '.join(names)}"
        raise ConfigError(f"{place}: unknown key{hint}")
    if options[0] is not None:
        options[0].check(place, value)


def _nested(
    place: str, entry: object, kind: Kind, extensions: tuple[str, ...]
) -> dict[str, object]:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not (isinstance(entry, dict) and isinstance(entry.get("name"), str)):
        raise ConfigError(f"{place}: {entry!r}; needs a name, or a name with options")
    component = registry.find(kind, entry["name"], place, extensions)
    options = {key: value for key, value in entry.items() if key != "name"}
    return {"name": entry["name"], **registry.resolve_options(component, place, options)}


M = TypeVar("M", bound=BaseModel)


def _validate_model(model: type[M], document: object, place: str = "") -> M:
    try:
        return model.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise ConfigError("\n".join(messages.lines(model, document, error, place))) from error
    except (TypeError, ValueError, RecursionError) as error:
        text = f"{place or 'study file'}: holds a value that is no JSON ({error})"
        raise ConfigError(text) from error


def to_document(config: BaseModel) -> Document:
    """The settings as a study file has them: a component's options beside its name."""
    document: Document = _flattened(config.model_dump(mode="json"))
    return document


def _flattened(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, dict):
        rest = {k: _flattened(v) if isinstance(v, dict | list) else v for k, v in value.items()}
        return rest | value["options"] if rest.pop("options", None) is not None else rest
    return [_flattened(inner) for inner in value] if isinstance(value, list) else value


#: Later settings, and the value at which they change nothing: stored points keep their keys. The
#: section ``latency`` came later too, and is left out where there is none.
_LATER: tuple[tuple[str, str, object], ...] = (
    ("search", "freezing", {"name": "none"}),
    ("supernet", "channel_split", {"name": "first"}),
    ("search", "draw", 0),
    ("dataset", "splits", "shared"),
    ("search", "constraints", {}),
    ("runtime", "deterministic", True),
)


def canonical(config: TrialConfig) -> Document:
    """What determines a result, equal for equal points: no labels, nothing without effect."""
    document = to_document(config)
    kept = {k: v for k, v in document.items() if k in _TRIAL_KEYS - {"technique", "extensions"}}
    kept["search"] = effect.of_search(config.search, document["search"])
    kept["evaluate"] = effect.of_evaluation(config.evaluate, document["evaluate"])
    del kept["latency"]
    if config.latency.followed:
        kept["latency"] = effect.of_latency(config.latency, document["latency"])
    del kept["runtime"]["memory_budget"]
    for section, name, default in _LATER:
        if kept[section].get(name) == default:
            del kept[section][name]
    if config.search.strategy == "random":
        effect.leave_search_out(config, kept)
    return kept


def search_document(settings: SearchSettings) -> Document:
    """The settings that a search follows."""
    return effect.of_search(settings, to_document(settings))


def evaluation_document(settings: EvaluateSettings) -> Document:
    """The settings that an evaluation follows."""
    return effect.of_evaluation(settings, to_document(settings))


def latency_document(settings: LatencySettings) -> Document:
    """The settings that a latency follows."""
    return effect.of_latency(settings, to_document(settings))


def digest(document: object) -> str:
    """SHA-256 of a document's JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The document's values by their dotted paths."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
