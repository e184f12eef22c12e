"""The JSON schema of a study file, for editors."""

import functools

from zostudy import options, registry
from zostudy.config.document import Document
from zostudy.config.settings import StudyConfig
from zostudy.config.techniques import TECHNIQUES
from zostudy.registry import Component, Kind


@functools.cache
def schema() -> Document:
    """JSON schema of a study file, the built-in components' options included."""
    whole = StudyConfig.model_json_schema()
    sections: dict[Kind, str] = {
        "dataset": "DatasetSettings",
        "mask_source": "PruneSettings",
        "channel_split": "ChannelSplitSettings",
        "relaxation": "RelaxationSettings",
        "perturbation": "PerturbationSettings",
        "regularizer": "RegularizerSettings",
        "freezing": "FreezingSettings",
        "search_schedule": "ScheduleSettings",
        "selection": "SelectionSettings",
        "search_algorithm": "AlgorithmSettings",
        "architecture_score": "ScoreSettings",
    }
    for kind, title in sections.items():
        properties = whole["$defs"][title]["properties"]
        del properties["options"]
        for component in registry.components(kind).values():
            for option in component.options:
                properties.setdefault(option.name, _option_schema(component, option))
    whole["properties"]["technique"]["enum"] = [*TECHNIQUES, "custom"]
    return whole


def _option_schema(component: Component, option: options.Option) -> Document:
    described: Document = {"description": f"Option of {component.name}: {component.summary}"}
    if option.choices:
        return described | {"enum": list(option.choices)}
    kinds = {
        "int": "integer",
        "float": "number",
        "bool": "boolean",
        "str": "string",
        "dict": "object",
    }
    types = [kinds.get(allowed, "array") for allowed in option.allowed]
    bounds = options.bounds(option.interval) if option.interval else {}
    return described | {"type": types if len(types) > 1 else types[0]} | bounds
