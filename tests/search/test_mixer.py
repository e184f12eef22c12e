"""What is mixed beside the relaxation: the auxiliary skip connection and what is dropped."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.methods import SPACES, batch, learner, mask_of, settings
from zostudy.networks.mixing import Mixing, PathDrop
from zostudy.search import steps
from zostudy.search.discretize import discretize

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
DROPS = {"drop_path": 0.4, "drop_skip": 0.6}


def cells_of(space):
    return 3 if space.name == "darts" else 1


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0]),
    ],
)
def test_the_auxiliary_skip_connection_fades(schedule, expected):
    found = learner(mask_of(SPACES["darts"]), settings(epochs=5, auxiliary_skip=schedule)).mixer
    for epoch, weight in enumerate(expected):
        found.begin(epoch)
        for kind, rows in found.mixing().operations.items():
            assert rows.shape == (14, 9)
            torch.testing.assert_close(rows[:, 8], torch.full((14,), float(weight)))
            torch.testing.assert_close(rows[:, :8], found.strengths().operations[kind])


@every_space
@pytest.mark.parametrize("share", ["half", "one"])
def test_the_auxiliary_skip_connection_is_outside_alpha_mask_and_genotype(space, share):
    mask = mask_of(space, share)
    own = learner(mask, settings(auxiliary_skip="linear"), cells=cells_of(space))
    without = learner(mask, settings(), cells=cells_of(space))
    missing = without.supernet.load_state_dict(own.supernet.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all("_auxiliary" in key or "skip_connect" in key for key in missing.unexpected_keys)
    images = batch(1)[0]

    def logits(found, epoch):
        found.mixer.begin(epoch)
        return found.supernet(images, found.mixer.mixing())

    assert not torch.allclose(logits(own, 0), logits(without, 0), atol=1e-3)
    torch.testing.assert_close(logits(own, 2), logits(without, 2), rtol=1e-5, atol=1e-6)
    assert [p.shape for p in own.architecture] == [p.shape for p in without.architecture]
    strengths = own.mixer.strengths()
    assert discretize(strengths, mask) == discretize(without.mixer.strengths(), mask)
    for kind, rows in strengths.operations.items():
        assert rows.shape == without.supernet.alpha[kind].shape
        assert torch.all(rows[~own.supernet.mask_of(kind)] == 0)


@every_space
@pytest.mark.usefixtures("double")
def test_what_is_dropped_is_the_same_where_it_is_computed_again(space):
    results = []
    for recompute in ("none", "partial", "full"):
        chosen = settings(recompute=recompute, **DROPS)
        found = learner(mask_of(space), chosen, cells=cells_of(space), channels=4, k=2)
        found.mixer.begin(1)
        images, labels = batch(1, 8)
        loss = cross_entropy(found.supernet(images, found.mixer.mixing()), labels)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in found.supernet.parameters())])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def test_a_rate_of_0_hands_the_pictures_on_and_others_preserve_their_mean():
    drop, images = PathDrop((0.0, 0.3), seed=7), torch.ones(20_000, 2, 1, 1)
    assert drop(images, (0, 1), 0) is images
    dropped = drop(images, (0, 1), 1)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(dropped[:, 0], dropped[:, 1])  # picture by picture
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropped, drop(images, (0, 1), 1))
    for other in ((0, 2), (1, 1)):
        assert not torch.equal(dropped, drop(images, other, 1))


@every_space
def test_paths_are_dropped_more_and_skip_connections_less_as_the_search_goes_on(space):
    mixer = learner(mask_of(space), settings(epochs=3, auxiliary_skip="linear", **DROPS)).mixer
    for epoch, (path, skip) in enumerate([(0, 0.6), (0.2, 0.3), (0.4, 0)]):
        mixer.begin(epoch)
        rates = dict(zip((*space.operations, "auxiliary"), mixer.mixing().drop.rates, strict=True))
        expected = {
            name: skip if name == "skip_connect" else path if "conv" in name else 0
            for name in rates
        }
        assert rates == pytest.approx(expected)


def test_without_drops_nothing_is_dropped():
    found = learner(mask_of(SPACES["darts"]), settings()).mixer
    found.begin(1)
    assert found.mixing().drop is None


def test_the_passes_of_a_step_see_one_draw_and_the_next_step_another():
    """Finite differences, as of the second order, would else measure the draw."""
    chosen = settings(accumulate=2, batch_size=8, relaxation="gdas", **DROPS)
    found = learner(mask_of(SPACES["nasbench201"], "full"), chosen)

    def gradient():
        return steps.gradients(
            lambda: found._losses(batch(1, 8), []), found.architecture, found.weights
        )

    found.mixer.begin(1)
    first, second = gradient(), gradient()
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    seeds = {found.mixer.mixing(part=part).drop.seed for part in (0, 1)}
    found.mixer.begin(1)
    assert not torch.equal(first[1], gradient()[1])
    assert len(seeds | {found.mixer.mixing(part=part).drop.seed for part in (0, 1)}) == 4


def test_paths_are_all_that_is_computed():
    space = SPACES["darts"]
    found = learner(mask_of(space), settings(relaxation="uniform_path", auxiliary_skip="linear"))
    found.mixer.begin(0)
    mixing = found.mixer.mixing()
    assert isinstance(mixing, Mixing)
    for kind, rows in mixing.active.items():
        for row, weights in zip(rows, mixing.operations[kind].tolist(), strict=True):
            assert row == tuple(weight > 0 for weight in weights)
            assert sum(row) == 2
            assert row[-1]
