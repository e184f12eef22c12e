"""Studies side by side: which points are the same, how they differ, what is refused."""

import json

import pytest

from tests.study.sweep.engine import Engine
from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.study.analysis.across_studies import Study, compared
from zostudy.study.points import TrialOutcome
from zostudy.study.report import results, side_by_side


class Made(Engine):
    """Trials whose accuracy is given by their point and seed."""

    def __init__(self, accuracy):
        super().__init__()
        self.accuracy = accuracy

    def outcome(self, point, seed, _number):
        found = self.accuracy(point.values, seed)
        metrics = {"validation_accuracy": found, "test_accuracy": found - 1, "macs": 5e6}
        if point.config.latency.by != "none":
            metrics["latency_ms"] = found / 9
        return TrialOutcome(metrics, {}, f"run-{point.key[:4]}-{seed}")


@pytest.fixture
def ran(tmp_path):
    def made(name, parameters, seeds, accuracy, **settings):
        file = from_document(
            {
                "study": name,
                "prune": {"source": "random", "xi": 0.5},
                "storage": {"optuna": f"sqlite:///{tmp_path}/{name}.db"},
                "sweep": {"parameters": parameters, "seeds": seeds},
                **settings,
            }
        )
        Made(accuracy).run(file)
        return Study(name, file, results.document(file))

    return made


XI = {"prune.xi": [0.25, 0.5]}


def accuracy(add=0.0):
    return lambda values, seed: 90 + add + seed + 0.1 * add * seed * values.get("prune.xi", 1)


def test_shared_seeds_are_paired_and_what_differs_is_named(ran):
    one = ran("a", XI, [0, 1, 2], accuracy())
    other = ran("b", XI, [0, 1, 2, 3], accuracy(2.0), search={"epochs": 20})
    found = compared([one, other])
    assert found.settings == {"search.epochs": {"a": "50", "b": "20"}}
    at_points, (over_all,) = found.differences("validation_accuracy")
    assert [d.runs for d in at_points] == [(3, 3), (3, 3)]
    assert at_points[0].difference == pytest.approx(2 + 0.2 * 0.25)
    assert all(d.seeds_paired and d.differs for d in (*at_points, over_all))
    assert over_all.at is None
    assert over_all.difference == pytest.approx(2 + 0.2 * 0.375)


def test_a_setting_that_only_one_study_sweeps_tells_which_points_are_the_same(ran):
    one = ran("a", XI | {"search.epochs": [50, 60]}, [0, 1], accuracy())
    other = ran("b", XI, [5, 6, 7], accuracy(3.0))
    found = compared([one, other])
    assert [dict(p.params) for p in found.points] == [
        {"prune.xi": 0.25, "search.epochs": 50},
        {"prune.xi": 0.5, "search.epochs": 50},
    ]
    assert not found.settings
    first, _ = found.differences("validation_accuracy")[0]
    assert (first.runs, first.seeds_paired) == ((2, 3), False)
    assert any("search.epochs is swept by a and not by b" in note for note in found.notes)
    assert any("2 points have no counterpart: only a has them" in note for note in found.notes)


def test_accuracies_on_other_pictures_are_shown_and_not_tested(ran):
    one = ran("a", XI, [0, 1, 2], accuracy())
    other = ran("b", XI, [0, 1, 2], accuracy(2.0), dataset={"seed": 1})
    found = compared([one, other])
    assert all(d.p is None for part in found.differences("test_accuracy") for d in part)
    assert "the data differs (dataset.seed)" in found.notes[0]


MEASURED = {"by": "measured", "runs": 9}


@pytest.mark.parametrize(
    ("latency", "processor", "why"),
    [
        (MEASURED, "one", ""),
        (MEASURED, "another", "hardware, or the content of the table"),
        (MEASURED | {"threads": 2}, "one", "latency.threads"),
    ],
)
def test_latencies_of_other_devices_are_shown_and_not_tested(ran, latency, processor, why):
    one = ran("a", XI, [0, 1, 2], accuracy(), latency=MEASURED)
    other = ran("b", XI, [0, 1, 2], accuracy(2.0), latency=latency)
    for study, hardware in ((one, "one"), (other, processor)):
        for trial in study.document["trials"]:
            trial["made_of"] = {"hardware": hardware}
    found = compared([one, other])
    tested = {d.p is not None for part in found.differences("latency_ms") for d in part}
    assert tested == {not why}
    assert all(d.p is not None for part in found.differences("test_accuracy") for d in part)
    said = f"the latency differs ({why}): latencies stand side by side and are not tested"
    assert (said in found.notes) == bool(why)


def test_a_whole_number_is_the_same_value_as_a_float(ran):
    one = ran("a", {"prune.xi": [0.5, 1]}, [0, 1], accuracy())
    other = ran("b", {"prune.xi": [0.25, 1.0]}, [0, 1], accuracy(1.0))
    assert [p.params["prune.xi"] for p in compared([one, other]).points] == [1]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"prune.xi": [0.75]}, r"share no point; prune\.xi has no value in common \(a: 0\.25, 0"),
        ({"prune.source": ["none"]}, r"share no point; prune\.xi has no value in common"),
    ],
)
def test_studies_that_share_no_point_are_refused(ran, parameters, said):
    one = ran("a", XI, [0], accuracy())
    with pytest.raises(ConfigError, match=said):
        compared([one, ran("b", parameters, [0], accuracy())])


def test_what_is_printed_and_what_json_holds(ran, capsys):
    from zostudy.study.report import console

    studies = [ran("a", XI, [0, 1, 2], accuracy()), ran("b", XI, [0, 1, 2], accuracy(2.0))]
    found = compared(studies)
    metric = side_by_side.chosen(found, studies, "")
    side_by_side.show(found, metric, console.output())
    out = capsys.readouterr().out
    assert "91.00 ± 1.00 (3)" in out
    assert "over all shared points: a → b: validation % +2.07 (95 % interval" in out
    assert "3 shared seeds, p = under 0.001): told from noise." in out
    document = json.loads(json.dumps(side_by_side.document(found, metric)))
    assert document["metric"] == "validation_accuracy"
    assert [point["studies"]["b"]["n"] for point in document["points"]] == [3, 3]
    with pytest.raises(ConfigError, match=r"--metric: no two studies have 'mac' .* did you mean"):
        side_by_side.chosen(found, studies, "mac")


@pytest.mark.usefixtures("no_engine")
def test_wrong_calls_are_one_line(zostudy, study):
    for arguments, said in (
        ((study,), "is one study; needs two or more"),
        ((study, study), "is the study 'small' in sqlite:///optuna.db once more"),
        ((study, "missing.yaml"), "missing.yaml"),
    ):
        code, out, err = zostudy("compare", *arguments)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
