import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zostudy.config import document, loading
from zostudy.config.loading import canonical, digest, from_document, load, to_document
from zostudy.config.schema import schema
from zostudy.config.settings import TrialConfig
from zostudy.config.techniques import TECHNIQUES
from zostudy.errors import ConfigError
from zostudy.study.points import grid

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


def trial(**settings) -> TrialConfig:
    return from_document({"study": "s", **settings}).trial({})


# -- wrong study files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"serach": {}}, r"^serach: unknown key; did you mean 'search'\?$"),
        ({"search": {"epoch": 3}}, r"^search\.epoch: unknown key; did you mean 'epochs'\?$"),
        (
            {"search": {"weights": {"learnin_rate": 0.1}}},
            r"^search\.weights\.learnin_rate: unknown key; did you mean 'learning_rate'\?$",
        ),
        (
            {"search": {"regularizer": {"name": "beta_decy"}}},
            r"^search\.regularizer\.name: unknown regularizer 'beta_decy'; "
            r"did you mean 'beta_decay'\?$",
        ),
        (
            {"prune": {"source": "zeroshot"}},
            r"^prune\.source: unknown mask source 'zeroshot'; did you mean 'zero_shot'\?$",
        ),
        (
            {"prune": {"source": "zero_shot", "ranking": ["ngnp"]}},
            r"^prune\.ranking\[0\]: unknown ranking function 'ngnp'; did you mean 'nngp'\?$",
        ),
        ({"dataset": {"name": "cifar"}}, r"^dataset\.name: unknown dataset 'cifar'; did you mean"),
        ({"search_space": {"name": "dart"}}, r"^search_space\.name: unknown search space 'dart'"),
        ({"technique": "dartz"}, r"^technique: unknown technique 'dartz'; did you mean 'darts'\?$"),
        ({"technique": ["darts"]}, r"^technique: unknown technique \['darts'\]"),
        ({"prune": {"source": "random", "x": 0.5}}, r"^prune\.x: unknown key"),
        ({"search": {"epochs": "ten"}}, r"^search\.epochs: 'ten' is not allowed: .*integer"),
        ({"search": {"epochs": 2.5}}, r"^search\.epochs: 2\.5 is not allowed: .*integer"),
        ({"search": {"epochs": None}}, r"^search\.epochs: None is not allowed"),
        ({"evaluate": {"drop_path": float("nan")}}, r"^evaluate\.drop_path: nan is not allowed"),
        ({"description": date(2020, 1, 1)}, r"^study file: holds a value that is no JSON"),
        ({"search": 3}, r"^search: 3 is not allowed"),
        ({"prune": ["none"]}, r"^prune: \['none'\] is not allowed"),
        ({"supernet": {"cells": True}}, r"^supernet\.cells: True is not allowed"),
        ({"search": {"order": "third"}}, r"^search\.order: 'third' is not allowed: .*'first'"),
        ({"prune": {"source": "random"}}, r"^prune\.xi: 'random' needs this option \(float\)$"),
        ({"study": "../up"}, r"^study: '\.\./up' is not allowed"),
        ({"study": "a/b"}, r"^study: 'a/b' is not allowed"),
        ({"study": "a\n"}, r"^study: 'a\\n' is not allowed"),
        ({"study": None}, r"^study: None is not allowed"),
        ({"extensions": "mine"}, r"^extensions: 'mine'; needs a list of module names$"),
        ({"extensions": ["no.such"]}, r"^extensions: module 'no\.such' cannot be found"),
        (
            {"search": {"epochs": 5, "warmup_epochs": 5}},
            r"^search\.warmup_epochs: 5 leaves no epoch for α; allowed: 0 to 4",
        ),
        (
            {"search": {"order": "second", "architecture_fraction": 0}},
            r"^search\.order: 'second' needs pictures of its own for α",
        ),
        ({"search": {"strategy": "none"}}, r"^search\.strategy: 'none' needs a pruning that ends"),
        (
            {"prune": {"source": "zero_shot", "until": "genotype"}},
            r"^prune\.until: 'genotype' leaves nothing to search",
        ),
        (
            {"dataset": {"validation_fraction": 0}},
            r"^sweep\.objectives: validation_accuracy needs dataset\.validation_fraction above 0",
        ),
        ({"dataset": {"splits": [0, 1]}}, r"^dataset\.splits: \[0, 1\] is not allowed"),
        (
            {
                "dataset": {"splits": "by_seed", "validation_fraction": 0},
                "search": {"architecture_fraction": 0},
                "sweep": {"objectives": []},
            },
            r"^dataset\.splits: 'by_seed' has no effect where dataset\.validation_fraction and ",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place_value_and_what_is_allowed(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        from_document({"study": "s"} | settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("xi", [0, 0.0, -0.5, 1.5, 2])
@pytest.mark.parametrize("source", ["random", "zero_shot"])
def test_a_pruning_level_outside_its_interval_is_refused(xi, source):
    with pytest.raises(ConfigError, match=rf"^prune\.xi: {float(xi)} is not allowed; .*\(0, 1\]$"):
        trial(prune={"source": source, "xi": xi})


@pytest.mark.parametrize("xi", [0.01, 0.5, 1, 1.0])
def test_a_pruning_level_inside_its_interval_is_a_number_between_0_and_1(xi):
    assert trial(prune={"source": "random", "xi": xi}).prune.options["xi"] == float(xi)


def test_every_mistake_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        from_document({"study": "s", "search": {"epoch": 3, "batch_size": 0}, "evalute": {}})
    lines = str(caught.value).splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "evalute",
        "search.batch_size",
        "search.epoch",
    ]


def test_a_study_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"^study: is missing and has no default$"):
        from_document({})


# -- sweeps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prune.xi": []}, r"^sweep\.parameters\.prune\.xi: has no values; needs at least one$"),
        ({"prune.xi": [0.5, 1.5]}, r"^prune\.xi: 1\.5 is not allowed; allowed: \(0, 1\]$"),
        ({"prune.xii": [0.5]}, r"^prune\.xii: unknown key; did you mean 'xi'\?$"),
        ({"evaluate.epochs": [5, "x"]}, r"^evaluate\.epochs: 'x' is not allowed"),
        ({"serach.epochs": [5]}, r"serach.*did you mean 'search'\?"),
        ({"study": ["a", "b"]}, r"^sweep\.parameters\.study: cannot be swept"),
        ({"dataset.seed": [0, 1]}, r"^sweep\.parameters\.dataset\.seed: trials with other test"),
        ({"search.epochs.x": [1]}, r"^search\.epochs"),
        ({"search.epochs": {"low": 1, "high": 3}}, r"a range in a grid needs a step"),
        ({"search.epochs": {"low": 1, "hihg": 3}}, r"hihg: unknown key"),
        ({"search.epochs": 3}, r"^sweep\.parameters\.search\.epochs"),
        ({"search.regularizer.name": ["none", "beta"]}, r"unknown regularizer 'beta'"),
        ({"technique": ["darts", "drats"]}, r"^technique: unknown technique 'drats'"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_runs(parameters, message):
    with pytest.raises(ConfigError, match=message):
        from_document(
            {
                "study": "s",
                "prune": {"source": "random", "xi": 0.5},
                "search": {"epochs": 20},
                "sweep": {"parameters": parameters},
            }
        )


def test_the_ends_of_a_sampled_range_are_checked():
    sweep = {
        "sampler": {"name": "tpe"},
        "trials": 3,
        "parameters": {"prune.xi": {"low": 0.5, "high": 1.5}},
    }
    with pytest.raises(ConfigError, match=r"^prune\.xi: 1\.5 is not allowed"):
        from_document({"study": "s", "prune": {"source": "random", "xi": 1.0}, "sweep": sweep})


@pytest.mark.parametrize("technique", ["etenas", "etenas-pc"])
def test_a_technique_that_searches_nothing_takes_no_search_section(technique):
    message = rf"^search: technique '{technique}' searches nothing"
    with pytest.raises(ConfigError, match=message):
        from_document({"study": "s", "technique": technique, "search": {"epochs": 3}})
    sweep = {"parameters": {"technique": [technique]}}
    with pytest.raises(ConfigError, match=message):
        from_document({"study": "s", "search": {"epochs": 3}, "sweep": sweep})


def test_a_sweep_over_techniques_may_have_a_search_section():
    sweep = {"parameters": {"technique": ["darts", "etenas"]}}
    file = from_document({"study": "s", "search": {"epochs": 20}, "sweep": sweep})
    assert file.trial({"technique": "darts"}).search.epochs == 20
    assert file.trial({"technique": "etenas"}).search.strategy == "none"


# -- techniques ----------------------------------------------------------------------------------


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_technique_is_plain_settings_that_can_be_written_out(technique):
    named = trial(technique=technique)
    plain = {
        key: value
        for key, value in to_document(named).items()
        if key not in ("technique", "extensions")
    }
    written = from_document({"study": "s", **plain}).trial({})
    assert canonical(written) == canonical(named)
    assert len({digest(canonical(trial(technique=name))) for name in TECHNIQUES}) == len(TECHNIQUES)


@pytest.mark.parametrize(
    ("technique", "source", "partial", "decay", "searches"),
    [
        ("darts", "none", 1, False, True),
        ("beta-darts", "none", 1, True, True),
        ("pc-darts", "none", 4, False, True),
        ("etenas", "zero_shot", 1, False, False),
        ("etenas-pc", "zero_shot", 4, False, False),
        ("darts-rnd", "random", 1, False, True),
        ("zero-one-shot", "zero_shot", 4, True, True),
        ("zero-one-shot-rnd", "random", 4, True, True),
    ],
)
def test_the_eight_techniques_are_those_of_table_1(technique, source, partial, decay, searches):
    config = trial(technique=technique)
    assert config.prune.source == source
    assert config.supernet.partial_channels == partial
    assert config.supernet.edge_normalization == (partial > 1)
    assert (config.search.strategy == "bilevel") == searches
    if searches:
        assert (config.search.regularizer.name == "beta_decay") == decay
    if source != "none" and searches:
        assert config.prune.options["xi"] == 0.5


def test_what_the_file_says_wins_over_its_technique():
    config = trial(technique="zero-one-shot", prune={"xi": 0.3}, supernet={"partial_channels": 2})
    assert config.prune.options["xi"] == 0.3
    assert config.supernet.partial_channels == 2
    assert config.supernet.edge_normalization


def test_a_point_that_was_stored_before_a_setting_came_is_the_same_point_still():
    stored = "6a534f402d4b680f81b742ae040b68f0263c4a18c771adc96016165b2360b2a9"
    assert digest(canonical(trial())) == stored
    assert digest(canonical(trial(cluster={"workers": 8, "gpus": 1}))) == stored
    assert digest(canonical(trial(search={"freezing": {"name": "operation_early_stop"}}))) != stored
    assert digest(canonical(trial(latency={"runs": 9}))) == stored
    assert digest(canonical(trial(latency={"by": "measured"}))) != stored
    assert digest(canonical(trial(dataset={"splits": "shared"}))) == stored
    assert digest(canonical(trial(dataset={"splits": "by_seed"}))) != stored


def test_options_of_another_source_are_checked_but_have_no_effect():
    quiet = trial(prune={"source": "none", "xi": 0.3})
    assert canonical(quiet) == canonical(trial())
    with pytest.raises(ConfigError, match=r"prune\.xi: 3\.0 is not allowed"):
        trial(prune={"source": "none", "xi": 3})


# -- round trip ----------------------------------------------------------------------------------

unit = st.floats(0.01, 0.99)
sections = st.fixed_dictionaries(
    {},
    optional={
        "technique": st.sampled_from([*TECHNIQUES, "custom"]),
        "description": st.text(st.characters(exclude_categories=["C"]), max_size=20),
        "dataset": st.fixed_dictionaries(
            {"name": st.sampled_from(["digits", "cifar10"])}, optional={"validation_fraction": unit}
        ),
        "supernet": st.fixed_dictionaries(
            {}, optional={"cells": st.integers(1, 20), "channels": st.sampled_from([4, 16, 64])}
        ),
        "prune": st.one_of(
            st.fixed_dictionaries({"source": st.just("random"), "xi": unit}),
            st.fixed_dictionaries(
                {"source": st.just("zero_shot")},
                optional={
                    "xi": unit,
                    "repeats": st.integers(1, 9),
                    "measure": st.sampled_from(["operations", "architectures"]),
                    "ranking": st.just(["nngp"]),
                },
            ),
        ),
        "evaluate": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(1, 999),
                "weights": st.fixed_dictionaries({"learning_rate": st.floats(1e-6, 10)}),
            },
        ),
        "sweep": st.fixed_dictionaries(
            {},
            optional={
                "seeds": st.lists(st.integers(0, 99), min_size=1, unique=True),
                "parameters": st.fixed_dictionaries(
                    {
                        "evaluate.batch_size": st.lists(st.integers(2, 99), min_size=1),
                        "search_space.name": st.just(["darts"]),
                    }
                ),
            },
        ),
    },
)


@settings(deadline=None)
@given(sections)
def test_a_study_file_survives_yaml_and_its_settings_survive_being_written_out(drawn):
    """YAML → settings → YAML → settings is the identity."""
    if drawn.get("technique", "").startswith("etenas"):
        drawn.pop("prune", None)
    written = yaml.safe_dump({"study": "s"} | drawn, allow_unicode=True)
    file = from_document(document.parse(written))
    whole = to_document(file.config)
    if "etenas" in whole["technique"]:
        del whole["search"]  # its technique says it
    again = from_document(document.parse(yaml.safe_dump(whole, allow_unicode=True)))
    assert again.config == file.config
    assert digest(canonical(again.config)) == digest(canonical(file.config))


def test_equal_settings_have_equal_digests_whatever_the_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_flat_names_every_value_by_its_path():
    assert loading.flat({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


# -- files and overrides -------------------------------------------------------------------------


def test_overrides_win_over_the_file_in_their_order(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("study: s\nevaluate: {epochs: 3}\n")
    epochs = ("evaluate.epochs=4", "evaluate.epochs=5")
    file = load(path, (*epochs, "prune.source=random", "prune.xi=1"))
    assert file.config.evaluate.epochs == 5
    assert file.config.prune.options == {"xi": 1.0}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("evaluate.epoch=4", r"^evaluate\.epoch: unknown key; did you mean 'epochs'\?$"),
        ("evaluat.epochs=4", r"^evaluat: unknown key; did you mean 'evaluate'\?$"),
        ("evaluate.epochs=four", r"^evaluate\.epochs: 'four' is not allowed"),
        ("study.name=x", r"^study\.name: study has no keys$"),
        ("evaluate", r"^--set 'evaluate': needs the form path=value"),
        ("evaluate.epochs=[1", r"^--set evaluate\.epochs: line 1: "),
    ],
)
def test_a_wrong_override_is_an_error(tmp_path, assignment, message):
    path = tmp_path / "s.yaml"
    path.write_text("study: s\n")
    with pytest.raises(ConfigError, match=message):
        load(path, (assignment,))


def test_an_override_of_a_swept_setting_is_an_error_that_says_how_to_set_its_values(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("study: s\nsweep: {parameters: {search.epochs: [20, 30]}}\n")
    with pytest.raises(ConfigError, match=r"^--set search\.epochs: is swept, .*parameters"):
        load(path, ("search.epochs=25",))
    file = load(path, ("sweep.parameters.search.epochs=[25]",))
    assert [point.config.search.epochs for point in grid(file)] == [25]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_is_valid(path):
    file = load(path)  # a sampler may be given more points than anybody wants to list
    assert file.config.sweep.sampler.samples or grid(file)


# -- schema --------------------------------------------------------------------------------------


def test_the_schema_is_a_json_schema_with_the_components_options():
    whole = schema()
    assert json.loads(json.dumps(whole)) == whole
    assert {"study", "technique", "prune", "sweep"} <= set(whole["properties"])
    prune = whole["$defs"]["PruneSettings"]["properties"]
    assert {"source", "xi", "measure", "path"} <= set(prune)
    assert "options" not in prune
    assert "beta-darts" in whole["properties"]["technique"]["enum"]


def test_the_schema_accepts_what_validates_and_rejects_what_does_not():
    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.Draft202012Validator(schema())
    checker.check_schema(schema())
    for path in STUDIES:
        checker.validate(document.read(path))
    checker.validate(document.parse("study: s\nprune: {source: random, xi: 0.5}\n"))
    for wrong in ("study: s\nserach: {}", "study: s\nsearch: {epochs: x}", "prune: {}"):
        assert not checker.is_valid(document.parse(wrong))
