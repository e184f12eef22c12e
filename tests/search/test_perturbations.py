import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.methods import SPACES, batch, learner, mask_of, settings
from zostudy.registry import components
from zostudy.search import perturbations

PERTURBATIONS = components("perturbation")
moving = pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name != "none"])
RADIUS = 0.05


def given():
    """Mixing weights of two cell types, with zeros, a decided edge and sums that are not 1."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.rand(6, 5, generator=generator)
    normal[normal < 0.3] = 0
    normal[0] = torch.tensor([0.96, 0.01, 0.01, 0.01, 0.01])
    normal[1] = torch.tensor([0, 0, 1.0, 0, 0])
    return {"normal": normal, "reduction": torch.rand(6, 5, generator=generator).softmax(1)}


def costs():
    generator = torch.Generator().manual_seed(3)
    return {kind: torch.randn(6, 5, generator=generator) for kind in given()}


def loss(weights):
    return sum(float((own * costs()[kind]).sum()) for kind, own in weights.items())


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def perturbed(name, weights, progress=1.0, **options):
    chosen = {"radius": RADIUS} | options
    return PERTURBATIONS[name].load()(weights, progress, draw(), lambda _: costs(), **chosen)


def test_none_leaves_the_weights_as_they_are():
    weights = given()
    found = perturbations.none(weights, 1.0, draw(), lambda _: costs())
    assert found is weights


@moving
@pytest.mark.parametrize("progress", [0.2, 1.0])
def test_no_weight_moves_further_than_the_radius_before_its_edge_is_scaled(name, progress):
    weights, limit = given(), RADIUS * progress
    for kind, found in perturbed(name, weights, progress).items():
        own = weights[kind]
        assert not torch.equal(found, own)
        assert torch.all(found >= 0)
        assert torch.all(found[own == 0] == 0)
        torch.testing.assert_close(found.sum(1), own.sum(1))
        # One factor an edge leads to weights that are all within the radius of the old ones.
        lowest = (found / (own + limit)).amax(1)
        room = torch.where(own > limit, found / (own - limit), torch.inf)
        assert torch.all(lowest <= room.amin(1) + 1e-5)


@moving
def test_the_radius_rises_from_0(name):
    weights = given()
    for kind, found in perturbed(name, weights, 0.0).items():
        torch.testing.assert_close(found, weights[kind], rtol=1e-6, atol=1e-7)


@moving
def test_the_same_generator_perturbs_the_same(name):
    one, two = perturbed(name, given()), perturbed(name, given())
    assert all(torch.equal(one[kind], two[kind]) for kind in one)


def test_the_adversary_finds_the_worst_corner_of_a_linear_loss():
    weights = given()
    found = perturbed("adversarial", weights)
    corner = {
        kind: perturbations._valid(own, own + RADIUS * costs()[kind].sign())
        for kind, own in weights.items()
    }
    for kind, own in found.items():
        torch.testing.assert_close(own, corner[kind], rtol=1e-5, atol=1e-6)
    assert loss(found) > loss(weights)
    assert loss(found) > loss(perturbed("random", weights))


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_step_is_taken_under_a_perturbation_that_raises_the_training_loss(recompute):
    mask, pictures = mask_of(SPACES["nasbench201"], "full"), batch(1, 16)
    rise = {}
    for name in ("random", "adversarial"):
        chosen = settings(perturbation=(name, {"radius": 0.2}), recompute=recompute)
        found = learner(mask, chosen)
        found.mixer.begin(2)
        with torch.no_grad():
            before = cross_entropy(found.supernet(pictures[0], found.mixer.mixing()), pictures[1])
        found.mixer.perturb(lambda weights, own=found: own._ascent(pictures, weights))
        assert all(p.requires_grad and p.grad is None for p in found.supernet.parameters())
        with torch.no_grad():
            after = cross_entropy(found.supernet(pictures[0], found.mixer.mixing()), pictures[1])
        rise[name] = float(after - before)
        found.mixer.begin(2)  # the architecture step sees none of it
        assert not found.mixer._perturbed
    assert rise["adversarial"] > 0
    assert rise["adversarial"] > rise["random"]
