import copy
import functools

import pytest
import torch

from tests.pruning.test_exact import SPACE, batch, small_mask, supernet_of
from tests.pruning.test_first_order import slope
from tests.reference import more_rankings
from tests.reference import rankings as reference
from tests.reference.pairing import reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.errors import NumericalError
from zostudy.proxies.inputs import Ranking
from zostudy.proxies.ranking import naswot, nngp
from zostudy.proxies.values import values
from zostudy.pruning import exact, first_order
from zostudy.pruning.scoring import removable, uniform_mixing
from zostudy.registry import components
from zostudy.space.mask import OperationMask

NAMES = list(components("ranking_function"))
DIFFERENTIABLE = [name for name in NAMES if Ranking.of({"name": name}, SPACE).differentiable]
PARTIAL = SupernetSettings(cells=3, channels=4, partial_channels=2, edge_normalization=True)
WHOLE = SupernetSettings(cells=2, channels=3)

NNGP = [
    {"outputs": outputs, "kernel": kernel, "statistic": statistic}
    for outputs in ("logits", "features")
    for kernel in ("correlation", "plain")
    for statistic in ("frobenius", "mean", "condition", "eigenvalues")
]
CASES = [(name, {}) for name in NAMES if name != "nngp"] + [("nngp", options) for options in NNGP]
CASES += [
    ("gradient_norm", {"norms": "whole"}),
    ("grasp", {"classifier": False}),
    ("zico", {"parts": 3}),
    ("ntk_condition", {"pictures": 4}),
    ("linear_regions", {"steps": 2}),
    ("synflow", {"gradients": "log"}),
    ("zen", {"norm": "removed"}),
    ("gradient_snr", {"parts": 3, "xi": 1e-3}),
    ("sweet_gradient", {"least": 0.001, "times": 20.0}),
    ("meco", {"side": 16, "channels": 2}),
]

#: What draws, and is told the generator.
DRAWING = ("meco", "az_expressivity", "az_progressivity", "az_trainability")


def bound(name, options):
    component = components("ranking_function")[name]
    defaults = {option.name: option.default for option in component.options}
    return Ranking.of({"name": name, **defaults, **options}, SPACE)


def value(supernet, ranking, given, mixing=None, twice=False):
    mixing = mixing or uniform_mixing(supernet)
    return values(supernet, mixing, [ranking], given, twice=twice)[0]


def redrawn(supernet, generator):
    """A copy whose kernels are drawn from N(0, 1), in the order of the parameters."""
    other = copy.deepcopy(supernet)
    architecture = {id(parameter) for parameter in other.architecture_parameters()}
    with torch.no_grad():
        for weight in other.parameters():
            if weight.ndim > 1 and id(weight) not in architecture:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return other


def expected(name, run, given, options):
    if name == "zen":
        generator = given.generator()
        redrawn(run.supernet, generator)
        shape = given.images.shape
        options = options | {"noise": [torch.randn(shape, generator=generator) for _ in range(2)]}
    if name in DRAWING:
        options = options | {"generator": given.generator()}
    module = more_rankings if hasattr(more_rankings, name) else reference
    return getattr(module, name)(run, **options)


@pytest.mark.parametrize(
    "settings", [PARTIAL, pytest.param(WHOLE, marks=pytest.mark.slow)], ids=["partial", "whole"]
)
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.usefixtures("double")
def test_a_ranking_is_that_of_an_independent_formulation(name, options, settings):
    supernet = supernet_of(settings)
    given = batch(12)
    own = redrawn(supernet, given.generator()) if name == "zen" else supernet
    plain = reference_of(own, settings, 1, 5)
    removed = removable(supernet.mask)[3]
    for without in (None, removed):
        run = reference.Run(plain, given.images, given.labels, without)
        run.supernet = supernet
        mixing = uniform_mixing(supernet, without=without)
        found = float(value(supernet, bound(name, options), given, mixing).detach())
        assert found == pytest.approx(expected(name, run, given, options), rel=1e-5)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.usefixtures("double")
def test_the_first_order_score_of_a_differentiable_ranking_is_its_slope(name):
    supernet = supernet_of(WHOLE).requires_grad_(requires_grad=False)
    ranking, batches = bound(name, {}), [batch(6)]
    scores = first_order.operation_scores(supernet, [ranking], batches)
    for place in [p for p in scores if p[0] == "reduction"][:4]:
        towards = uniform_mixing(supernet, without=place)
        found = ranking.sign * slope(supernet, ranking, batches, towards)
        assert scores[place] == pytest.approx(found, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_ranking_is_finite_and_the_same_twice(name):
    ranking, given = bound(name, {}), batch(8)
    for mask, settings in ((OperationMask.full(SPACE), PARTIAL), (small_mask(), WHOLE)):
        supernet = supernet_of(settings, mask).requires_grad_(requires_grad=False)
        first, second = (value(supernet, ranking, given) for _ in range(2))
        assert first.shape == ()
        assert torch.isfinite(first)
        assert torch.equal(first, second)


@pytest.fixture(scope="module")
def uniform_networks():
    """One operation an edge, for every operation that computes."""
    rows = [tuple(index == column for index in range(8)) for column in range(1, 8)]
    masks = [OperationMask(SPACE, dict.fromkeys(SPACE.cell_types, (row,) * 14)) for row in rows]
    return [
        supernet_of(settings, mask).requires_grad_(requires_grad=False)
        for mask in masks
        for settings in (PARTIAL, WHOLE)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_ranking_is_finite_whatever_the_one_operation_is(name, uniform_networks):
    ranking, given = bound(name, {}), batch(8)
    for supernet in uniform_networks:
        assert torch.isfinite(value(supernet, ranking, given))


@pytest.mark.parametrize("name", NAMES)
def test_a_ranking_says_its_sign_and_its_source(name):
    facts = components("ranking_function")[name].facts
    assert facts["sign"] in (1, -1)
    assert facts["source"]


@pytest.mark.parametrize(
    "scorer",
    [pytest.param(exact, id="exact", marks=pytest.mark.slow), first_order],
)
def test_several_rankings_are_summed_each_by_its_own_sign(scorer):
    supernet = supernet_of(WHOLE).requires_grad_(requires_grad=False)
    batches = [batch(6)]
    each = [bound("ntk_condition", {"pictures": 2}), bound("nngp", {}), bound("snip", {})]
    together = scorer.operation_scores(supernet, each, batches)
    alone = [scorer.operation_scores(supernet, [ranking], batches) for ranking in each]
    for place, score in together.items():
        assert score == pytest.approx(sum(scores[place] for scores in alone), rel=1e-4, abs=1e-6)


def test_the_worse_is_pruned_first_also_where_a_ranking_is_negative_or_falls():
    supernet = supernet_of(WHOLE)
    places = removable(supernet.mask)
    logits = functools.partial(torch.linalg.vector_norm)
    up, down = (
        Ranking("test", lambda x, s=s: s * logits(x), sign) for s, sign in ((1, 1), (-1, 1))
    )
    falls = Ranking("test", logits, -1)
    scores = [exact.operation_scores(supernet, [r], [batch()]) for r in (up, down, falls)]
    for place in places:
        assert scores[1][place] == pytest.approx(-scores[0][place])
        assert scores[2][place] == pytest.approx(-scores[0][place])


def test_rankings_that_mean_nothing_are_refused():
    features = torch.randn(4, 6)
    with pytest.raises(NumericalError, match="degenerate: the logits of a picture are all equal"):
        nngp(torch.ones(4, 5), features)
    with pytest.raises(NumericalError, match="not finite"):
        nngp(torch.full((4, 5), torch.nan), features)
    with pytest.raises(NumericalError, match="tells nothing of 2 classes"):
        nngp(torch.randn(4, 2), features)
    assert torch.isfinite(nngp(torch.randn(4, 2), features, kernel="plain"))
    with pytest.raises(NumericalError, match="naswot: the kernel is degenerate"):
        naswot((torch.ones(3, 2, 4, 4),))


@pytest.mark.usefixtures("double")
def test_a_loss_that_is_not_finite_names_the_ranking_the_edge_and_the_operation():
    supernet = supernet_of(WHOLE)
    calls = []

    def breaks(logits):
        calls.append(1)
        return logits.square().mean() * (torch.nan if len(calls) == 3 else 1.0)

    with pytest.raises(
        NumericalError,
        match=r"shaky: its loss is nan without \w+ on edge c-\d → n\d of the normal cell",
    ):
        exact.operation_scores(supernet, [Ranking("shaky", breaks, 1)], [batch()])
    flat = Ranking("constant", lambda logits: logits.detach().mean(), 1)
    with pytest.raises(NumericalError, match="constant: does not depend on the mixing weights"):
        first_order.operation_scores(supernet, [flat], [batch()])
