"""Channels that attention chooses: EPC-DARTS."""

import pytest
import torch
from torch import nn

from tests.methods import SPACES, batch, learner, mask_of, settings, split_of
from tests.networks.test_supernet import assert_alike, random_mask, supernet_of
from tests.reference.pairing import pairs, reference_of
from zostudy.config.loading import from_document
from zostudy.config.settings import SupernetSettings
from zostudy.errors import ConfigError
from zostudy.networks.channel_splits import attended
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

CASES = [
    # space, cells, channels, k, edge normalization, side, kept share
    ("darts", 3, 8, 4, True, 16, 1.0),
    ("darts", 4, 8, 2, False, 9, 0.5),
    ("darts", 2, 4, 4, True, 11, 0.3),
    ("nasbench201", 1, 8, 4, True, 16, 1.0),
    ("nasbench201", 2, 4, 2, False, 9, 0.5),
]
LEVELS = ("none", "partial", "full")


def attentive(**size):
    return SupernetSettings(**size, channel_split=split_of("attention"))


@pytest.fixture
def dtype(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def with_recomputation():
    """Every case with every level of it and both precisions; `pytest` alone runs some."""
    for number, case in enumerate(CASES):
        for level, recompute in enumerate(LEVELS):
            for dtype in (torch.float32, torch.float64):
                left = () if number % 3 == level else (pytest.mark.slow,)
                yield pytest.param(case, recompute, dtype, marks=left)


@pytest.mark.parametrize(
    ("case", "recompute", "dtype"), list(with_recomputation()), indirect=["dtype"], ids=str
)
def test_logits_and_every_gradient_are_those_of_the_formula(case, recompute, dtype):
    name, cells, channels, k, normalization, side, keep = case
    size = attentive(
        cells=cells, channels=channels, partial_channels=k, edge_normalization=normalization
    )
    space = SPACES[name]
    mask = OperationMask.full(space) if keep == 1.0 else random_mask(1, keep, space)
    ours = supernet_of(mask, size, recompute=recompute)
    with torch.no_grad():
        for kernel in (own for name, own in ours.named_parameters() if ".splits." in name):
            kernel *= 30  # attention far apart, so that rounding does not choose
    theirs = reference_of(ours, size, 3, 5)
    assert {id(mine) for mine, _, _ in pairs(ours, theirs)} == {id(p) for p in ours.parameters()}
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert_alike(ours, theirs, images, 1e-9 if dtype == torch.float64 else 1e-3)


class Given(nn.Module):
    """Attention that is told."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, images):
        return self.weights.expand(len(images), -1)


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        ((0.5, 0.5, 0.5, 0.5), [0, 1]),
        ((0.1, 0.5, 0.5, 0.5), [1, 2]),
        ((0.9, 0.1, 0.2, 0.8), [0, 3]),
    ],
)
def test_of_equal_channels_the_earlier_is_chosen_and_all_keep_their_places(weights, chosen):
    images = torch.arange(4.0)[None, :, None, None].expand(2, 4, 2, 2)
    split = attended(images, Given(*weights), 2, stride=1)
    assert split.places.tolist() == chosen
    assert split.active[0, :, 0, 0].tolist() == [c * torch.tensor(weights)[c] for c in chosen]
    left = [0.0 if c in chosen else weight for c, weight in enumerate(weights)]
    assert split.passing[0, :, 0, 0].tolist() == pytest.approx(left)


def test_the_choice_goes_by_the_mean_over_the_batch():
    class Own(nn.Module):
        def forward(self, images):
            del images
            return torch.tensor([[0.9, 0.4, 0.1], [0.1, 0.4, 0.6]])

    split = attended(torch.ones(2, 3, 4, 4), Own(), 1, stride=2)
    assert split.places.tolist() == [0]
    assert split.rest.shape == (2, 3, 2, 2)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("recompute", LEVELS)
@pytest.mark.parametrize("relaxation", ["softmax", "gdas"])
@pytest.mark.parametrize("share", ["full", "one"])
def test_a_step_trains_every_attention(space, recompute, relaxation, share):
    chosen = settings(recompute=recompute, relaxation=relaxation, drop_path=0.3)
    found = learner(
        mask_of(SPACES[space], share),
        chosen,
        cells=2,
        channels=8,
        k=4,
        normalize=True,
        split="attention",
    )
    before = {
        name: own.clone() for name, own in found.supernet.named_parameters() if ".splits." in name
    }
    figures = found.step(batch(1), batch(2), epoch=1)
    assert all(torch.isfinite(figure).all() for figure in figures)
    after = dict(found.supernet.named_parameters())
    assert len(before) == 2 * (5 if space == "darts" else 9)
    assert all(not torch.equal(own, after[name]) for name, own in before.items())


@pytest.mark.parametrize(
    ("supernet", "message"),
    [
        ({"partial_channels": 1}, r"supernet\.channel_split\.name: 'attention' chooses the chann"),
        ({"channel_split": {"kernel": 2}}, r"supernet\.channel_split\.kernel: 2 is not allowed"),
        ({"channel_split": {"name": "eca"}}, r"unknown channel split 'eca'"),
    ],
)
def test_what_cannot_be_split_is_refused(supernet, message):
    document = {"study": "epc", "technique": "epc-darts", "supernet": supernet}
    with pytest.raises(ConfigError, match=message):
        from_document(document)


def test_a_search_that_ends_with_pruning_needs_partial_channels_as_well():
    supernet = {"partial_channels": 1, "channel_split": {"name": "attention"}}
    document = {"study": "epc", "technique": "etenas", "supernet": supernet}
    with pytest.raises(ConfigError, match=r"and with supernet\.partial_channels 1 they act"):
        from_document(document)


def test_an_extension_splits_channels(tmp_path, monkeypatch):
    (tmp_path / "louder.py").write_text(
        "from torch import nn\n"
        "from zostudy.registry import channel_split\n"
        "class Loud(nn.Module):\n"
        "    def forward(self, images):\n"
        "        return images.abs().mean(dim=(2, 3))\n"
        "@channel_split('louder')\n"
        "def louder(channels):\n"
        "    return Loud()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    space = search_space("nasbench201", ("louder",))
    size = SupernetSettings(
        cells=1, channels=4, partial_channels=2, channel_split={"name": "louder", "options": {}}
    )
    supernet = supernet_of(OperationMask.full(space), size)
    supernet(torch.randn(2, 3, 8, 8)).sum().backward()
    assert {type(own).__name__ for cell in supernet.cells for own in cell.splits.values()} == {
        "Loud"
    }
