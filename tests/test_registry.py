import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from zostudy import registry
from zostudy.errors import ConfigError
from zostudy.options import Option
from zostudy.registry import Component, Kind

EXTENSION = '''
"""A user's own module; importing it is an error, reading it is not."""

from typing import Annotated, Literal

import zostudy.registry
from zostudy.registry import dataset, regularizer

raise RuntimeError("imported")


@regularizer("mine", fact=(1, 2))
def mine(alpha, *, strength: Annotated[float, "(0, 2)"], kind: Literal["a", "b"] = "a"):
    """Pull α to the mean."""


@zostudy.registry.dataset("stripes")
class Stripes:
    def __init__(self, *, count: int = 3, names: tuple[str, ...] = ("x",), free: int | str = 1):
        pass


@dataset("bare")
class Bare:
    """No options."""


@staticmethod
def other():
    pass
'''


@pytest.fixture
def extension(tmp_path, monkeypatch) -> str:
    (tmp_path / "my_extension.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_extension"
    registry.forget()


def test_declarations_are_read_without_importing_the_module(extension):
    found = registry.components("regularizer", (extension,))["mine"]
    assert found == Component(
        kind="regularizer",
        name="mine",
        module="my_extension",
        attribute="mine",
        options=(
            Option("strength", ("float",), interval="(0, 2)", required=True),
            Option("kind", found.options[1].allowed, choices=("a", "b"), default="a"),
        ),
        facts={"fact": (1, 2)},
        summary="Pull α to the mean.",
    )
    assert "my_extension" not in sys.modules
    with pytest.raises(
        ConfigError, match=r"my_extension.*RuntimeError: imported; .*my_extension\.py:9"
    ):
        found.load()


def test_a_class_has_the_options_of_its_constructor(extension):
    found = registry.components("dataset", (extension,))
    assert found["bare"].options == ()
    assert [(o.name, o.allowed, o.default) for o in found["stripes"].options] == [
        ("count", ("int",), 3),
        ("names", ("tuple",), ("x",)),
        ("free", ("int", "str"), 1),
    ]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_builtin_component_has_a_summary_and_can_be_imported(kind):
    known = registry.components(kind)
    assert known
    for name, component in known.items():
        assert component.summary, name
        assert callable(component.load())


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_default_is_allowed(kind):
    for component in registry.components(kind).values():
        for option in component.options:
            if not option.required:
                option.check(option.name, option.default)


def test_builtin_components_are_found_without_torch():
    code = (
        "import sys; from zostudy import registry\n"
        "names = registry.components('mask_source')\n"
        "print(sorted(names), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['file', 'given', 'none', 'random', 'zero_shot'] False\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def x(:", r"extensions: .*broken\.py:1: "),
        (
            'from zostudy.registry import dataset\n@dataset("digits")\ndef d(): pass',
            r"extensions: broken declares the dataset 'digits', which zostudy\.data\.sources has",
        ),
        (
            "from zostudy.registry import dataset\nNAME = 'x'\n@dataset(NAME)\ndef d(): pass",
            r"extensions: .*broken\.py:4: 'd' needs .* that are literals",
        ),
        (
            'from zostudy.registry import dataset\nD = 3\n@dataset("x")\n'
            "def d(*, a: int = D): pass",
            r"extensions: .*broken\.py:4: 'd' needs .* that are literals",
        ),
    ],
)
def test_a_module_that_declares_nothing_usable_is_an_error(tmp_path, monkeypatch, source, message):
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(ConfigError, match=message):
            registry.components("dataset", ("broken",))
    finally:
        registry.forget()


@pytest.mark.parametrize("name", ["no_such_module", "no.such.module", "sys", "..up", ""])
def test_a_module_that_has_no_source_is_an_error(name):
    with pytest.raises(ConfigError, match="cannot be found"):
        registry.scan(name)


def test_an_unknown_name_is_an_error_with_the_nearest_match_or_all_names():
    with pytest.raises(
        ConfigError, match=r"^a: unknown mask source 'randon'; did you mean 'random"
    ):
        registry.find("mask_source", "randon", "a")
    with pytest.raises(
        ConfigError,
        match=r"unknown regularizer 'zzz'; known: beta_decay, dirichlet_anchor, ent.*, zero_one$",
    ):
        registry.find("regularizer", "zzz", "a")


FLOAT = Option("o", ("float",), interval="(0, 1]")
CHOICE = Option("o", (), choices=("a", "b", 1))


@pytest.mark.parametrize(
    ("option", "value", "checked"),
    [
        (FLOAT, 0.5, 0.5),
        (FLOAT, 1, 1.0),
        (CHOICE, "a", "a"),
        (CHOICE, 1, 1),
        (Option("o", ("tuple",)), [1, 2], [1, 2]),
        (Option("o", ("int", "float")), 1, 1),
    ],
)
def test_an_allowed_value_is_returned(option, value, checked):
    result = option.check("here", value)
    assert result == checked
    assert type(result) is type(checked)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (FLOAT, 0, r"^here: 0\.0 is not allowed; allowed: \(0, 1\]$"),
        (FLOAT, 1.001, r"allowed: \(0, 1\]$"),
        (FLOAT, float("nan"), r"^here: nan is not allowed"),
        (FLOAT, "0.5", r"^here: '0\.5' is of type str; allowed: float$"),
        (FLOAT, True, r"of type bool; allowed: float"),
        (FLOAT, None, r"of type NoneType"),
        (CHOICE, "c", r"^here: 'c' is not allowed; .*allowed: 'a', 'b', 1$"),
        (CHOICE, True, r"True is not allowed"),
        (Option("o", ("int",), interval="[1, inf)"), 0, r"allowed: \[1, inf\)$"),
        (Option("o", ("int",)), 1.0, r"of type float; allowed: int"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(option, value, message):
    with pytest.raises(ConfigError, match=message):
        option.check("here", value)


def test_options_are_completed_with_defaults(extension):
    component = registry.find("regularizer", "mine", "r", (extension,))
    assert registry.resolve_options(component, "r", {"strength": 1}) == {
        "strength": 1.0,
        "kind": "a",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"^r\.strength: 'mine' needs this option \(float\)$"),
        ({"strength": 3.0}, r"^r\.strength: 3\.0 is not allowed; allowed: \(0, 2\)$"),
        ({"strengt": 1.0}, r"^r\.strengt: 'mine' has no such option; did you mean 'strength'\?$"),
        ({"strength": 1.0, "kind": "c"}, r"^r\.kind: 'c' is not allowed; .*'a', 'b'$"),
    ],
)
def test_wrong_options_are_refused(extension, given, message):
    component = registry.find("regularizer", "mine", "r", (extension,))
    with pytest.raises(ConfigError, match=message):
        registry.resolve_options(component, "r", given)


def test_the_source_of_a_module_is_a_file():
    assert registry.source("zostudy.registry") == Path(registry.__file__)
