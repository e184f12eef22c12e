"""Random genotypes beside the points of a grid: which there are, and that they are run as all."""

import json

import pytest

from tests.study.sweep.engine import Engine, stored
from zostudy.config.loading import canonical
from zostudy.errors import ConfigError
from zostudy.study.points import TrialOutcome, to_json
from zostudy.study.report import results
from zostudy.study.sweep import grid, optuna_storage, queue, random_baseline, standings, worker

XI = {"prune.xi": [0.25, 0.5]}


def drawn(file):
    return [point for point in grid.of_study(file).values() if point.baseline]


def test_each_mask_has_its_own_and_seeds_share_them_evenly(make):
    file = make(XI | {"search.regularizer.name": ["none", "beta_decay"]}, seeds=[3, 4, 5],
                random_baseline=5)  # fmt: skip
    found = [(dict(p.values), p.seeds) for p in drawn(file)]
    random = {"search.strategy": "random"}
    assert found == [
        ({"prune.xi": xi, **random, "search.draw": draw}, seeds)
        for draw, seeds in ((0, (3, 4, 5)), (1, (3, 4)))
        for xi in (0.25, 0.5)
    ]
    standing = standings.standing(file)
    assert (len(standing.searched), standing.trials_left) == (4, 4 * 3 + 2 * 5)


@pytest.mark.parametrize(
    ("techniques", "groups"),
    [(["darts", "pc-darts"], 1), (["darts", "etenas"], 1), (["darts", "zero-one-shot"], 2)],
)
def test_techniques_with_the_same_mask_share_them(make, techniques, groups):
    """One that prunes to a genotype is compared with the whole space."""
    file = make({"technique": techniques}, trial={"prune": {}}, random_baseline=2)
    found = drawn(file)
    assert len(found) == 2 * groups
    for point in found:
        assert point.config.search.strategy == "random"
        assert not point.config.mask_source.to_genotype
    keys = {random_baseline.counterpart(p.config) for p in grid.of_study(file).values()}
    assert keys == {p.key for p in found if not p.config.search.draw}


def test_what_cannot_be_is_refused(make):
    with pytest.raises(ConfigError, match=r"random_baseline: 3 needs sampler 'grid'"):
        make({"prune.xi": {"low": 0.1, "high": 0.9}}, sampler={"name": "tpe"}, trials=3,
             random_baseline=3)  # fmt: skip
    file = make({"search.strategy": ["bilevel", "random"]}, random_baseline=3)
    with pytest.raises(ConfigError, match=r"'random' is what sweep\.random_baseline adds"):
        grid.of_study(file)
    with pytest.raises(ConfigError, match=r"search\.draw: 2 has no effect unless strategy"):
        make(XI, trial={"search": {"draw": 2}})


def test_they_are_run_go_on_and_stay_out_of_every_mean(make):
    file = make(XI, seeds=[0, 1], random_baseline=3)

    def stops(point, _seed):
        return KeyboardInterrupt() if point.baseline and point.config.search.draw else None

    first = Engine(stops)
    with pytest.raises(KeyboardInterrupt):
        first.run(file)
    second = Engine()
    second.run(file)
    assert len(first.calls) - 1 + len(second.calls) == 4 + 6
    marks = [
        t.user_attrs.get(random_baseline.MARK) for t in stored(file) if t.state.name == "COMPLETE"
    ]
    assert sorted(marks, key=str) == [0, 0, 0, 0, 1, 1, None, None, None, None]
    found = results.document(file)
    assert [point["n"] for point in found["points"]] == [2, 2]
    random = found["random_baseline"]
    assert [group["n"] for group in random["groups"]] == [3, 3]
    assert [group["params"] for group in random["groups"]] == [
        {"prune.xi": 0.25},
        {"prune.xi": 0.5},
    ]
    numbers = [t["number"] for t in (*found["trials"], *random["trials"])]
    assert sorted(numbers) == list(range(10))
    plain = make(XI, seeds=[0, 1])
    assert results.document(plain)["points"] == [
        {k: v for k, v in point.items() if k != "over_random"} for point in found["points"]
    ]
    json.dumps(found)


def test_fewer_or_more_random_genotypes_keep_those_that_are_there(make):
    Engine().run(make(XI, random_baseline=2))
    more = Engine()
    more.run(make(XI, random_baseline=3))
    assert [values["search.draw"] for values, _, _ in more.calls] == [2, 2]
    assert not standings.standing(make(XI, random_baseline=1)).trials_left


def test_its_mask_is_that_of_the_points_whatever_the_supernet(make):
    file = make({"supernet.channels": [8, 16]}, random_baseline=1)
    (point,) = drawn(file)
    assert "supernet" not in canonical(point.config)
    scored = {"prune": {"source": "zero_shot", "xi": 0.5}}
    assert len(drawn(make({"supernet.channels": [8, 16]}, trial=scored, random_baseline=1))) == 2


def run_all(file):
    """Run what is due with trials that do nothing; how many there were."""
    worker.prepare(file)
    count = 0
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, grid.of_study(file))
        there.look()
        while due := [unit for unit in there.add_due(16) if unit.state == "waiting"]:
            assert there.claim(due[0])
            there.look()
            outcome = to_json(TrialOutcome({}, {}, ""))
            there.end(due[0], [0.0], {f"seed:{seed}": outcome for seed in due[0].seeds})
            there.look()
            count += 1
    return count


def test_fewer_random_genotypes_run_nothing_again(make):
    assert run_all(make({"search.epochs": [20]}, seeds=[0, 1, 2], random_baseline=6)) == 9
    grown = {"search.epochs": [20, 30]}
    assert run_all(make(grown, seeds=[0, 1, 2], random_baseline=6)) == 3
    assert run_all(make(grown, seeds=[0, 1, 2], random_baseline=4)) == 0
