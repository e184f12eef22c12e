import pytest
import torch

from zostudy.pruning import reliability
from zostudy.pruning.reliability import assess, corrected, split_half, standard_errors


def samples(repeats, operations, signal, seed=0):
    """What all repeats share has standard deviation `signal`, the noise of each has 1."""
    generator = torch.Generator().manual_seed(seed)
    shared = signal * torch.randn(operations, generator=generator, dtype=torch.float64)
    noise = torch.randn(repeats, operations, generator=generator, dtype=torch.float64)
    return shared + noise


def draws():
    return torch.Generator().manual_seed(1)


def lowest(count):
    return lambda scores: scores.argsort()[:count].tolist()


@pytest.mark.parametrize(("signal", "repeats"), [(0.5, 4), (0.25, 16), (1.0, 16)])
def test_reliability_is_the_correlation_with_a_mean_over_as_many_others(signal, repeats):
    taken = samples(repeats, 3000, signal)
    expected = signal**2 / (signal**2 + 1 / repeats)
    assert split_half(taken, repeats, draws()) == pytest.approx(expected, abs=0.06)


def test_reliability_of_fewer_and_of_more_repeats_than_were_taken_is_foretold():
    taken = samples(16, 3000, 0.5)
    assert split_half(taken, 1, draws()) == pytest.approx(0.25 / 1.25, abs=0.05)
    assert split_half(taken, 64, draws()) == pytest.approx(0.25 / (0.25 + 1 / 64), abs=0.05)


def test_noise_has_no_reliability_and_is_pruned_again_by_chance():
    found = assess(samples(8, 8000, 0.0), lowest(2000), draws())
    assert found.reliability == pytest.approx(0.0, abs=0.05)
    assert found.pruned_again == pytest.approx(0.25, abs=0.02)
    assert found.pruned_again_by_chance == pytest.approx(0.25, abs=0.01)


def test_what_every_repeat_agrees_on_is_pruned_again():
    found = assess(samples(1, 50, 1.0).expand(6, 50), lowest(10), draws())
    assert found.reliability == pytest.approx(1.0)
    assert found.pruned_again == pytest.approx(1.0)


def test_halves_that_contradict_each_other_are_not_corrected():
    assert corrected(-0.5, 2.0) == -0.5
    assert corrected(0.5, 2.0) == pytest.approx(2 / 3)


def test_one_repeat_says_nothing_of_itself():
    one = samples(1, 20, 1.0)
    assert assess(one, lowest(5), draws()) is None
    with pytest.raises(ValueError, match="one repeat has no spread"):
        standard_errors(one)


def test_scores_that_are_all_equal_rank_nothing():
    assert assess(torch.ones(4, 20), lowest(5), draws()) is None


def test_standard_errors_are_those_of_the_mean():
    taken = samples(400, 200, 1.0)
    assert float(standard_errors(taken).mean()) == pytest.approx(1 / 20, rel=0.02)


def test_equal_scores_share_their_rank():
    scores = torch.tensor([3.0, 1.0, 3.0, 2.0])
    assert reliability._ranks(scores).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_the_same_draws_give_the_same_figures():
    taken = samples(7, 60, 0.5)
    assert assess(taken, lowest(9), draws()) == assess(taken, lowest(9), draws())
