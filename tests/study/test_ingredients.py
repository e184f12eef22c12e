import pytest

from zostudy.study.ingredients import Apart, Difference, differences, trials_named


def test_what_was_changed_added_or_removed_is_a_difference():
    then = {"data": "a", "prune.path": "b", "engine": "e"}
    now = {"data": "x", "extensions": "c", "engine": "e"}
    assert differences(then, now) == (
        Difference("data", "a", "x"),
        Difference("prune.path", "b", ""),
        Difference("extensions", "", "c"),
    )


def test_what_is_not_known_today_is_not_compared():
    assert differences({"data": "a", "device": "cpu"}, {"data": "", "device": ""}) == ()


def test_of_a_trial_that_recorded_nothing_nothing_is_different():
    assert differences({}, {"data": "b"}, ()) == ()


def test_only_the_ingredients_that_are_named_are_compared():
    assert differences({"data": "a"}, {"data": "b", "engine": "c"}, ("engine",)) == (
        Difference("engine", "", "c"),
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((3,), "trial 3"), ((1, 0), "trials 0, 1"), ((0, 1, 2, 5, 2), "trials 0–2, 5")],
)
def test_trials_are_named_by_their_numbers(numbers, text):
    assert trials_named(numbers) == text


def test_a_sentence_has_both_digests_in_short_and_the_way_out():
    apart = Apart((0, 1), (Difference("data", "a" * 64, "b" * 64),))
    assert str(apart) == (
        "trials 0, 1 are kept apart, and no mean counts them: the data (pictures, labels, classes "
        f"and splits) was {'a' * 10} then and is {'b' * 10} now; `zostudy run` runs what is "
        "missing now, and bringing back what was there then makes them count again"
    )


def test_another_engine_cannot_be_brought_back_like_a_file():
    assert "bringing back" not in str(Apart((0,), (Difference("engine", "a", "b"),)))
