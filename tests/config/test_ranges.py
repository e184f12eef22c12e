"""Every number of a study file has a range, which the JSON schema says and `validate` holds."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zostudy import cli
from zostudy.cli import ending
from zostudy.config.loading import from_document
from zostudy.config.schema import schema
from zostudy.errors import ConfigError

WHOLE = schema()
BASE: dict[str, Any] = {
    "study": "s",
    "prune": {"source": "zero_shot"},
    "search": {"epochs": 1_000_000, "regularizer": {"name": "beta_decay", "schedule": "linear"}},
    "evaluate": {},
}
#: Settings that others bound too, so that not every value in their range goes with the defaults.
BOUND = {
    "supernet.partial_channels", "search.accumulate", "search.warmup_epochs", "search.epochs",
    "search.weights.minimum_learning_rate", "evaluate.weights.minimum_learning_rate",
    "search.weights.learning_rate", "evaluate.weights.learning_rate", "sweep.trials",
    "supernet.channels", "dataset.validation_fraction", "search.draw", "sweep.random_baseline",
}  # fmt: skip


def numbers(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The path and the schema of every number that a section holds."""
    if "$ref" in node:
        node = WHOLE["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    for name, inner in node.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        if inner.get("type") in ("integer", "number"):
            yield place, inner
        yield from numbers(inner, place)


NUMBERS = {path: found for path, found in numbers(WHOLE) if path != "sweep.population"}


def inside(found: dict[str, Any]) -> st.SearchStrategy[float]:
    """Values that a schema allows."""
    low = found.get("minimum", found.get("exclusiveMinimum"))
    high = found.get("maximum", found.get("exclusiveMaximum"))
    if found["type"] == "integer":
        return st.integers(int(low), int(high))
    ends = {"exclude_min": "exclusiveMinimum" in found, "exclude_max": "exclusiveMaximum" in found}
    return st.floats(low, high, allow_nan=False, **ends)


def outside(found: dict[str, Any]) -> list[Any]:
    """Values on the other side of each end, and of another kind."""
    low = found.get("minimum", found.get("exclusiveMinimum"))
    high = found.get("maximum", found.get("exclusiveMaximum"))
    step = 0 if "exclusiveMinimum" in found else 1
    above = 0 if "exclusiveMaximum" in found else 1
    return [low - step, high + above, "x", None, True, [1], {"a": 1}, float("nan")]


def with_value(path: str, value: Any) -> dict[str, Any]:
    """The study with one more setting."""
    made: dict[str, Any] = {key: dict(v) if isinstance(v, dict) else v for key, v in BASE.items()}
    *parents, last = path.split(".")
    holder = made
    for key in parents:
        holder[key] = dict(holder.get(key, {}))
        holder = holder[key]
    holder[last] = value
    return made


def test_every_number_has_a_range():
    assert len(NUMBERS) > 40
    open_ended = [
        path
        for path, found in NUMBERS.items()
        if not {"minimum", "exclusiveMinimum"} & set(found)
        or not {"maximum", "exclusiveMaximum"} & set(found)
    ]
    assert open_ended == []


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_number_inside_its_range_is_valid(data):
    path = data.draw(st.sampled_from(sorted(NUMBERS.keys() - BOUND)))
    from_document(with_value(path, data.draw(inside(NUMBERS[path]))))


@pytest.mark.parametrize("path", sorted(NUMBERS))
def test_a_number_outside_its_range_is_refused_with_path_value_and_what_is_allowed(
    path, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for value in outside(NUMBERS[path]):
        document = with_value(path, value)
        with pytest.raises(ConfigError) as caught:
            from_document(document)
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(document))
        assert ending.run(lambda: cli.app(["validate", "s.yaml"], standalone_mode=False)) == 2
        assert path.rsplit(".", 1)[-1] in capsys.readouterr().err
        assert [file.name for file in tmp_path.iterdir()] == ["s.yaml"]
        message = str(caught.value)
        assert message.startswith(f"{path}: "), message
        assert repr(value) in message or repr(float(value)) in message
        assert "needs" in message or "allowed: " in message
        assert "Input should" not in message


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (
            {"runtime": {"device": "gpu"}},
            r"^runtime\.device: 'gpu' is not allowed: needs auto, cpu",
        ),
        ({"runtime": {"device": "CPU"}}, r"^runtime\.device: 'CPU' is not allowed: needs auto"),
        ({"runtime": {"device": "cuda:-1"}}, r"^runtime\.device: 'cuda:-1' is not allowed"),
        ({"tracking": {"experiment": "a" * 201}}, r"^tracking\.experiment: 'a+…?'? is not allowed"),
        ({"tracking": {"experiment": " "}}, r"^tracking\.experiment: ' ' is not allowed: needs 1"),
        ({"tracking": {"experiment": "a\x07"}}, r"^tracking\.experiment: 'a\\x07' is not allowed"),
        ({"storage": {"folder": ""}}, r"^storage\.folder: '' is not allowed: needs a path"),
        ({"storage": {"folder": "a" * 256}}, r"^storage\.folder: .* is not allowed: needs a path"),
        ({"storage": {"optuna": "optuna.db"}}, r"^storage\.optuna: 'optuna\.db' is not allowed: n"),
        ({"study": ".hidden"}, r"^study: '\.hidden' is not allowed: needs 1 to 100 letters"),
        ({"dataset": {"name": "cifar10", "root": ""}}, r"^dataset\.root: '' is empty; allowed: a"),
        (
            {"dataset": {"name": "Digits"}},
            r"did you mean 'digits'\? \(upper and lower case count\)",
        ),
        (
            {"search": {"architecture": {"betas": [0.5, 1.5]}}},
            r"^search\.architecture\.betas\[1\]: 1\.5 is not allowed: needs a number from 0, below",
        ),
        (
            {"search": {"architecture": {"betas": [0.5]}}},
            r"^search\.architecture\.betas: \[0\.5\] is not allowed: needs a list of 2 values",
        ),
        (
            {"prune": {"source": "zero_shot", "repeats": {"until_reliability": 2, "at_most": 9}}},
            r"^prune\.repeats\.until_reliability: 2 is not allowed; allowed: \(0, 1\)$",
        ),
        ({"prune": {"source": "zero_shot", "ranking": []}}, r"^prune\.ranking: has no entries"),
        (
            {"evaluate": {"weights": {"minimum_learning_rate": 1}}},
            r"^evaluate\.weights\.minimum_learning_rate: 1\.0 is above learning_rate",
        ),
        (
            {"sweep": {"parameters": {"prune.xi": "x"}}},
            r"^sweep\.parameters\.prune\.xi: 'x' is not allowed: needs a list of values, or keys",
        ),
        (
            {"sweep": {"parameters": {"search.epochs": {"low": 16, "high": 1e9, "step": 1}}}},
            r"^sweep\.parameters\.search\.epochs\.step: 1 makes more than 100,000 values",
        ),
        (
            {
                "sweep": {
                    "sampler": {"name": "tpe"},
                    "trials": 3,
                    "parameters": {
                        "search.epochs": [40, 20],
                        "search.warmup_epochs": [2, 30],
                    },
                }
            },
            r"^search\.warmup_epochs: 30 leaves no epoch .*\(sampler draws search\.epochs=20",
        ),
    ],
)
def test_what_a_run_could_not_use_is_refused_with_what_is_allowed(settings_, message):
    with pytest.raises(ConfigError, match=message) as caught:
        from_document({"study": "s", **settings_})
    assert len(str(caught.value).splitlines()) == 1
