"""No step waits for the device: nothing is read from it, nothing goes to it from pageable memory.

On the ``meta`` device by a watch, and on a GPU, where there is one, by torch's own.
"""

import contextlib

import pytest
import torch

from tests.methods import SPACES, mask_of, settings, split_of
from tests.no_wait import WaitError, no_wait
from zostudy.config.settings import EvaluateSettings, SupernetSettings
from zostudy.data.batches import training_batches
from zostudy.evaluation import training
from zostudy.networks.dry_run import ShapeKernels, make_state
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import values
from zostudy.pruning import scoring
from zostudy.runtime import Runtime, sent
from zostudy.search.learner import Learner
from zostudy.search.mixer import Mixer, auxiliary_operations
from zostudy.space.genotype import Genotype
from zostudy.stage import StageContext

META = torch.device("meta")

#: Changes of the settings, by what they make of a step.
KINDS = {
    "first": {},
    "second": {"order": "second"},
    "harmonized": {"order": "harmonized"},
    "accumulated": {"accumulate": 2},
    "second, accumulated": {"order": "second", "accumulate": 2},
    "partial": {"recompute": "partial"},
    "full, accumulated": {"recompute": "full", "accumulate": 2},
    "dropped": {"drop_path": 0.3, "drop_skip": 0.3, "auxiliary_skip": "linear"},
    "regularized": {"regularizer": "entropy"},
    "gumbel": {"relaxation": "snas"},
    "perturbed": {"perturbation": "random"},
    "adversarial": {"perturbation": "adversarial"},
    "attended": {"split": "attention"},
    "attended, full": {"split": "attention", "recompute": "full"},
}


def learner(changes, device):
    space = SPACES["darts"]
    split = split_of(changes.get("split", "first"))
    chosen = settings(**{name: own for name, own in changes.items() if name != "split"})
    with Runtime(device).initialization_device, ShapeKernels():
        supernet = Supernet(
            space,
            mask_of(space),
            SupernetSettings(
                cells=2,
                channels=4,
                partial_channels=2,
                edge_normalization=True,
                channel_split=split,
            ),
            in_channels=1,
            classes=3,
            auxiliary=auxiliary_operations(chosen),
            recompute=chosen.recompute,
        )
        mixer = Mixer(supernet.to(device), chosen, torch.Generator().manual_seed(0))
        return Learner(supernet, mixer, chosen, Runtime(device))


def batch(device):
    return torch.zeros(16, 1, 8, 8, device=device), torch.zeros(16, dtype=torch.int64).to(device)


@contextlib.contextmanager
def watched_by_torch():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


DEVICES = [
    pytest.param(META, no_wait, id="meta"),
    pytest.param(
        torch.device("cuda"),
        watched_by_torch,
        id="cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
every_device = pytest.mark.parametrize(("device", "watch"), DEVICES)


@every_device
@pytest.mark.parametrize(
    ("kind", "searching"), [*((kind, True) for kind in KINDS), ("first", False)]
)
def test_no_step_of_a_search_waits(kind, searching, device, watch):
    found = learner(KINDS[kind], device)
    with ShapeKernels():
        make_state(found.weight_optimizer, found.architecture_optimizer)
    training_batch, other = batch(device), batch(device)
    with watch():
        found.step(training_batch, other if searching else None, epoch=1)


@every_device
def test_no_step_of_a_training_waits(device, watch, small_dataset):
    space = SPACES["darts"]
    node = (("sep_conv_3x3", 0), ("max_pool_3x3", 1))
    genotype = Genotype(space, dict.fromkeys(space.cell_types, (node,) * 4))
    chosen = EvaluateSettings(cells=3, channels=4, epochs=3, batch_size=8, drop_path=0.3)
    dataset = small_dataset.outline() if device == META else small_dataset
    own = training._Training(genotype, dataset, chosen, StageContext(Runtime(device), seed=0))
    make_state(own.optimizer)
    own.epoch = 1
    batches = training_batches(
        small_dataset, small_dataset.train, 8, chosen.augment, own.order, device
    )
    with watch():
        own._step(*next(batches), own._drop_path())


@every_device
@pytest.mark.parametrize("name", ["naswot", "synflow"])
def test_the_passes_of_scores_wait_for_no_more_than_the_scores(name, device, watch):
    supernet = learner({}, device).supernet.requires_grad_(requires_grad=False)
    mixing = scoring.uniform_mixing(supernet)
    for weights in mixing.operations.values():
        weights.requires_grad_()
    rankings = [Ranking.of({"name": name}, SPACES["darts"])]
    given = ProxyInputs(*batch(device), 0)
    with watch():
        values(supernet, mixing, rankings, given, twice=True)


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: x[[0, 1]],
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x + torch.ones(3, 3).to(META),
        lambda x: x.nonzero(),
        lambda x: float(x[0, 0]),
        lambda x: x.copy_(torch.ones(3, 3)),
    ],
)
def test_the_watch_sees_what_waits(waiting):
    with pytest.raises(WaitError), no_wait():
        waiting(torch.zeros(3, 3, device=META))


def test_the_watch_lets_pass_what_goes_on_by_itself():
    with no_wait():
        x = torch.zeros(3, 3, device=META)
        assert (x + sent(torch.ones(3, 3), META)).sum().is_meta
