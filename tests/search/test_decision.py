import pytest
import torch

from tests.methods import SPACES, mask_of
from zostudy.networks.mixing import Mixing
from zostudy.search import decision
from zostudy.search.discretize import discretize
from zostudy.space.mask import OperationMask

SPACE = SPACES["nasbench201"]
FULL = OperationMask.full(SPACE)
EVEN = [0.2] * 5


def strengths(*rows):
    """Rows of the first edges; the others prefer nothing."""
    return {"normal": [*rows, *[EVEN] * (6 - len(rows))]}


def genotype(own):
    edges = {"normal": torch.ones(6)}
    return discretize(Mixing({k: torch.tensor(v) for k, v in own.items()}, edges), FULL)


def only(row, others=(True,) * 5):
    return OperationMask(SPACE, {"normal": (row, *[others] * 5)})


def test_the_margin_is_the_mean_over_edges_that_have_a_choice():
    own = strengths([0.7, 0.1, 0.2, 0, 0], [0.1, 0.1, 0.1, 0.3, 0.4])
    assert decision.margin(own, FULL) == pytest.approx((0.5 + 0.1) / 6)
    alone = only((True, False, False, False, False))
    assert decision.margin(own, alone) == pytest.approx(0.1 / 5)
    assert decision.margin(own, mask_of(SPACE, "one")) == 0


def test_what_is_masked_counts_for_nothing():
    mask = only((False, True, True, False, False))
    own = strengths([0.9, 0.6, 0.4, 0, 0])
    assert decision.margin(own, mask) == pytest.approx(0.2 / 6)
    assert decision.zero_edges(strengths([0.9, 0.6, 0.4, 0, 0], [0.9, 0, 0, 0, 0.1]), mask) == 5


def test_the_entropy_is_a_share_of_the_largest():
    assert decision.entropy(strengths(), FULL) == pytest.approx(1)
    decided = {"normal": [[1.0, 0, 0, 0, 0]] * 6}
    assert decision.entropy(decided, FULL) == 0
    between = {"normal": [[0.5, 0.5, 0, 0, 0]] * 6}
    assert decision.entropy(between, FULL) == pytest.approx(
        torch.tensor(2.0).log() / torch.log(torch.tensor(5.0))
    )
    doubled = {"normal": [[1.0, 1.0, 0, 0, 0]] * 6}  # as of sigmoids, which have any sum
    assert decision.entropy(doubled, FULL) == pytest.approx(decision.entropy(between, FULL))
    assert decision.entropy(decided, mask_of(SPACE, "one")) == 0


def test_the_share_of_skip_connections():
    skips = [0, 1.0, 0, 0, 0]
    assert decision.skip_share(genotype(strengths(skips, skips, skips))) == 0.5
    assert decision.skip_share(genotype(strengths([0, 0, 1.0, 0, 0]))) == 0


def test_an_epoch_says_how_far_the_search_leads_and_how_long_its_genotype_stands():
    first = strengths([0.5, 0.1, 0.1, 0.1, 0.2])
    other = strengths([0.1, 0.9, 0, 0, 0], [0, 0.6, 0.4, 0, 0])
    start = decision.margin(first, FULL)
    genotypes = [genotype(first), genotype(other), genotype(other), genotype(other)]
    found = decision.of_epoch(other, start, FULL, genotypes)
    assert found["lead"] == pytest.approx(((0.8 + 0.2) / 6) / (0.3 / 6))
    assert found["skips"] == 2
    assert found["zero_edges"] == 4  # of equals, the zero operation is one of the strongest
    assert found["stable_epochs"] == 2
    assert found["start_genotype"] == 0
    back = decision.of_epoch(first, start, FULL, [*genotypes, genotype(first)])
    assert (back["stable_epochs"], back["start_genotype"]) == (0, 1)
    assert back["lead"] == pytest.approx(1)
    assert decision.of_epoch(other, 0.0, FULL, genotypes)["lead"] == 0


@pytest.mark.parametrize(
    ("lead", "same", "sentence"),
    [
        (
            1.25,
            1.0,
            "the search did not decide: on an edge the best operation leads the second by 1.2 "
            "times what α's random start alone gives, and the genotype is the one that α started "
            "with",
        ),
        (
            2.9,
            0.0,
            "the search did not decide: on an edge the best operation leads the second by 2.9 "
            "times what α's random start alone gives",
        ),
        (3.0, 1.0, ""),
        (0.0, 1.0, ""),  # no edge has a choice
    ],
)
def test_a_search_that_did_not_decide_says_so(lead, same, sentence):
    assert decision.sentence({"lead": lead, "start_genotype": same}) == sentence
