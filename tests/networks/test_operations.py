"""The contract of every registered operation, and what single operations promise beyond it."""

import pytest
import torch
from torch import nn

from zostudy.networks.operations import (
    FactorizedReduction,
    Pool,
    ReLUConvBN,
    build,
    pool,
    shifted,
)
from zostudy.registry import components, find
from zostudy.runtime import seeded

NAMES = sorted(components("operation"))
every_operation = pytest.mark.parametrize("name", NAMES)
strides = pytest.mark.parametrize("stride", [1, 2])
affinity = pytest.mark.parametrize("affine", [False, True], ids=["supernet", "standalone"])


def operation(name, *, channels=4, stride=1, affine=True, seed=0):
    torch.manual_seed(seed)
    return build(find("operation", name, ""), channels, stride, affine=affine)


def pictures(*shape, seed=0):
    return torch.randn(shape, generator=seeded("cpu", seed))


@every_operation
@strides
@affinity
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 5), (1, 1), (2, 2)])
def test_output_is_finite_and_its_side_is_divided_by_the_stride_and_rounded_up(
    name, stride, affine, channels, size
):
    module = operation(name, channels=channels, stride=stride, affine=affine)
    images = pictures(3, channels, *size)
    output = module(images)
    expected = tuple(-(-side // stride) for side in size)
    assert output.shape == (3, channels, *expected)
    assert output.dtype == images.dtype
    assert output.isfinite().all()


@every_operation
@strides
@affinity
def test_every_parameter_gets_a_gradient(name, stride, affine):
    module = operation(name, stride=stride, affine=affine)
    weights = pictures(2, 4, -(-9 // stride), -(-8 // stride), seed=1)
    output = module(pictures(2, 4, 9, 8).requires_grad_())
    if output.requires_grad:  # all but zero
        (output * weights).sum().backward()
    silent = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@every_operation
@strides
@affinity
def test_same_seed_gives_the_same_bits(name, stride, affine):
    first, again = (operation(name, stride=stride, affine=affine) for _ in range(2))
    assert torch.equal(first(pictures(2, 4, 8, 8)), again(pictures(2, 4, 8, 8)))


@every_operation
@strides
@affinity
def test_input_stays_as_it_was(name, stride, affine):
    images = pictures(2, 4, 8, 8)
    before = images.clone()
    operation(name, stride=stride, affine=affine)(images)
    assert torch.equal(images, before)


@every_operation
@strides
def test_normalization_learns_and_remembers_only_in_the_standalone_network(name, stride):
    for affine in (False, True):
        for module in operation(name, stride=stride, affine=affine).modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.affine == module.track_running_stats == affine


@every_operation
@strides
def test_in_the_supernet_eval_mode_changes_nothing(name, stride):
    module = operation(name, stride=stride, affine=False)
    images = pictures(3, 4, 8, 8)
    assert torch.equal(module.train()(images), module.eval()(images))


@strides
def test_none_is_zero(stride):
    assert not operation("none", stride=stride)(pictures(2, 4, 7, 8)).any()


def test_skip_is_the_identity_without_stride():
    images = pictures(2, 4, 7, 8)
    assert operation("skip_connect")(images) is images


@strides
@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_average_pool_does_not_count_the_padding(stride, size):
    ones = torch.ones(1, 2, *size)
    torch.testing.assert_close(
        operation("avg_pool_3x3", stride=stride)(ones), ones[:, :, ::stride, ::stride]
    )


@pytest.mark.parametrize("kind", ["max", "avg"])
@strides
def test_pool_is_that_of_the_neighbours_inside_the_picture(kind, stride):
    images = pictures(2, 3, 5, 6) - 5  # below zero, so that counted padding would show
    pooled = pool(kind, images, stride)
    for row in range(pooled.shape[2]):
        for column in range(pooled.shape[3]):
            y, x = row * stride, column * stride
            window = images[:, :, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(2)
            expected = window.amax(2) if kind == "max" else window.mean(2)
            torch.testing.assert_close(pooled[:, :, row, column], expected)


def test_pool_is_normalized_in_the_supernet_only():
    images = pictures(8, 3, 6, 6) * 3 + 1
    supernet = Pool("avg", 3, 1, normalizes=True)(images)
    torch.testing.assert_close(supernet.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        supernet.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0
    )
    assert torch.equal(Pool("avg", 3, 1, normalizes=False)(images), pool("avg", images, 1))


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (7, 5)])
def test_factorized_reduction_reads_every_second_pixel_and_those_one_further(size):
    """Its halves see pixels (2y, 2x) and (2y + 1, 2x + 1); beyond an odd border there is zero."""
    module = FactorizedReduction(1, 2, affine=True)
    for convolution in (module.first, module.second):
        nn.init.ones_(convolution.weight)
    module.norm = nn.Identity()
    images = torch.arange(1.0, 1 + size[0] * size[1]).view(1, 1, *size)
    first, second = module(images)[0]
    assert torch.equal(first, images[0, 0, ::2, ::2])
    expected = torch.zeros_like(first)
    later = images[0, 0, 1::2, 1::2]
    expected[: later.shape[0], : later.shape[1]] = later
    assert torch.equal(second, expected)


@pytest.mark.parametrize("out_channels", [1, 2, 3, 5])
def test_factorized_reduction_gives_any_number_of_channels(out_channels):
    module = FactorizedReduction(3, out_channels, affine=True)
    assert module(pictures(2, 3, 8, 9)).shape == (2, out_channels, 4, 5)


def test_factorized_reduction_drops_what_is_negative():
    module = FactorizedReduction(2, 2, affine=True)
    module.norm = nn.Identity()
    assert not module(-pictures(2, 2, 6, 6).abs()).any()


def test_shifted_drops_the_first_row_and_column_and_evens_out_odd_sides():
    images = pictures(1, 1, 5, 6)
    moved = shifted(images)
    assert moved.shape == (1, 1, 5, 5)
    assert torch.equal(moved[:, :, :4], images[:, :, 1:, 1:])
    assert not moved[:, :, 4].any()


def test_inputs_are_brought_to_the_channels_of_the_cell():
    module = ReLUConvBN(3, 5, affine=True)
    module.norm = nn.Identity()
    images = pictures(2, 3, 4, 4)
    expected = torch.einsum("oc,bchw->bohw", module.convolution.weight[:, :, 0, 0], images.relu())
    torch.testing.assert_close(module(images), expected)


@pytest.mark.parametrize(
    ("name", "reach"),
    [("sep_conv_3x3", 2), ("sep_conv_5x5", 4), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4)],
)
def test_convolutions_see_as_far_as_their_kernels_reach(name, reach):
    module = operation(name, channels=2).eval()
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.5)  # so that no ReLU hides a pixel
    images = pictures(1, 2, 13, 13).abs().requires_grad_()
    module(images)[0, :, 6, 6].sum().backward()
    rows, columns = images.grad[0].abs().amax(0).nonzero().T
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (6 - reach, 6 + reach)
    if name.startswith("dil"):
        assert not (rows % 2).any()  # every second row only
