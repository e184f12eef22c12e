import pytest

from zostudy.study.report.trust import warning_of


def point(**metrics):
    return {f"prune_{name}": {"mean": value, "sd": None} for name, value in metrics.items()}


SURE = point(repeats=64.0, reliability=0.8, pruned_again=0.6, pruned_again_by_chance=0.12)


def test_masks_that_can_be_trusted_or_come_of_no_scores_are_passed_over():
    assert warning_of([SURE, point(seconds=3.0), {}]) == ""


@pytest.mark.parametrize(
    ("reliability", "words"),
    [
        (0.04, "hardly better than chance (0.04;"),
        (-0.3, "about as good as a random one; raise prune.repeats"),
        (0.3, "only weakly (0.30;"),
    ],
)
def test_a_mask_of_noise_is_told_in_one_plain_sentence(reliability, words):
    noisy = point(
        repeats=4.0, reliability=reliability, pruned_again=0.14, pruned_again_by_chance=0.125
    )
    warning = warning_of([SURE, noisy])
    assert words in warning
    assert "would prune 14 % of the same operations, chance 12 %" in warning
    assert "\n" not in warning


def test_a_single_repeat_is_told_apart_from_a_low_reliability():
    assert "single repeat: nothing is known" in warning_of([point(repeats=1.0)])
