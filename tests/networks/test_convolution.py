"""Convolutions of every geometry, against float64; tolerances: tests/arithmetic."""

import ast
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.arithmetic import expected, threads
from tests.convolutions import old_formulation, old_formulation_environment
from zostudy.networks.convolution import Conv2d, Convolution, corrected
from zostudy.networks.operations import build
from zostudy.registry import find
from zostudy.runtime import seeded

ROOT = Path(__file__).parent.parent.parent
LAYOUTS = ("channels last", "channels first", "part of the channels", "shifted")


def drawn(seed):
    """A geometry, a shape, and how the picture lies in memory."""
    draws = random.Random(seed)
    channels, kernel = 1 + seed % 32, draws.choice([1, 1, 3, 5])
    rows = draws.choice([1, 1, 2, channels])
    dilation = draws.choice([1, 2]) if kernel > 1 else 1
    geometry = Convolution(draws.choice([1, 2]), dilation * (kernel // 2), dilation, rows)
    inside = channels if rows == channels else channels * rows
    out = rows * draws.randint(1, 8)
    shape = draws.choice([1, 2, 5, 8]), inside, draws.randint(8, 33), draws.randint(8, 33)
    return geometry, shape, (out, inside // rows, kernel, kernel), draws.choice(LAYOUTS)


def laid_out(images, layout):
    """The same numbers."""
    if layout == "channels first":
        return images
    if layout == "part of the channels":
        return torch.cat([images, images], 1).contiguous(memory_format=torch.channels_last)[
            :, : images.shape[1]
        ]
    if layout == "shifted":
        framed = functional.pad(images, (1, 0, 1, 0))
        return framed.contiguous(memory_format=torch.channels_last)[:, :, 1:, 1:]
    return images.contiguous(memory_format=torch.channels_last)


def reference(geometry, images, kernel, direction):
    """Value and gradients in float64, by torch."""

    def run():
        leaves = [tensor.double().requires_grad_() for tensor in (images, kernel)]
        stride, padding, dilation, groups = geometry
        value = torch.conv2d(*leaves, None, stride, padding, dilation, groups)
        found = torch.autograd.grad(value, leaves, direction.double())
        return {"value": value.detach()}, dict(zip(("images", "kernel"), found, strict=True))

    return run


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("dtype", "number", "seeds"),
    [
        (torch.float32, 1, range(32)),  # 1 to 32 channels
        (torch.float32, 2, range(1, 64, 8)),
        (torch.bfloat16, 1, range(0, 32, 3)),
        (torch.bfloat16, 2, range(3, 64, 16)),
    ],
)
def test_a_convolution_and_its_gradients_are_those_of_float64_but_for_rounding(
    dtype, number, seeds
):
    for seed in seeds:
        geometry, shape, kernel_shape, layout = drawn(seed)
        images = torch.randn(shape, generator=seeded("cpu", seed, "images")).to(dtype)
        kernel = torch.randn(kernel_shape, generator=seeded("cpu", seed, "kernel")).to(dtype)
        images = laid_out(images, layout).requires_grad_()
        kernel.requires_grad_()
        with threads(number):
            value = geometry(images, kernel)
        direction = torch.randn(value.shape, generator=seeded("cpu", seed)).to(dtype)
        run = reference(geometry, images.detach(), kernel.detach(), direction)
        truth = expected(run, dtype)
        with threads(number):
            by_torch = torch.autograd.grad(value, (images, kernel), direction)
            by_hand = geometry.backward(direction, images.detach(), kernel.detach(), (True, True))
        for found in (by_torch, by_hand):
            named = dict(zip(("images", "kernel"), found, strict=True))
            truth.assert_close({"value": value}, named)
        assert geometry.backward(direction, images, kernel, (False, False)) == (None, None)


@pytest.mark.parametrize("padding", [0, 1, (1, 0), "valid"])
@pytest.mark.parametrize("stride", [1, 2, (1, 2), (3, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_a_layer_is_that_of_torch(kernel, stride, padding, mode):
    options = {"stride": stride, "padding": padding, "padding_mode": mode, "dtype": torch.float64}
    theirs = nn.Conv2d(4, 6, kernel, groups=2, **options)
    ours = Conv2d(4, 6, kernel, groups=2, **options)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 4, 9, 10, dtype=torch.float64)
    for given in (images, images[0]):  # a batch, and a picture alone
        found = []
        for layer in (theirs, ours):
            leaf = given.clone().requires_grad_()
            value = layer(leaf)
            inputs = [leaf, *layer.parameters()]
            found.append([value, *torch.autograd.grad(value.square().sum(), inputs)])
        for expected_, mine in zip(*found, strict=True):
            torch.testing.assert_close(mine, expected_, rtol=1e-12, atol=1e-12)


def test_layers_of_a_user_s_operation_become_ours_and_keep_their_parameters(tmp_path, monkeypatch):
    (tmp_path / "strided_operations.py").write_text(
        "from torch import nn\n"
        "from zostudy.registry import operation\n"
        '@operation("strided_1x1")\n'
        "def strided_1x1(channels, stride, affine):\n"
        "    inner = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, stride))\n"
        "    return nn.Sequential(inner, nn.BatchNorm2d(channels, affine=affine))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = find("operation", "strided_1x1", "", ("strided_operations",))
    module = build(found, 3, 2, affine=True)
    assert type(module[0][1]) is Conv2d
    assert {name for name, _ in module.named_parameters()} == {
        "0.1.weight", "0.1.bias", "1.weight", "1.bias",
    }  # fmt: skip
    own = type("Own", (nn.Conv2d,), {})(2, 2, 1)
    assert type(corrected(own)) is not Conv2d  # what a class of its own does is its own matter


def test_only_the_module_of_convolutions_calls_torchs():
    """Of modules and functions that convolve; names of classes in checks of types are none."""
    found = []
    for path in sorted((ROOT / "zostudy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if "conv" in name.rpartition(".")[2].lower() and name.startswith(
                ("nn.", "functional.", "torch.", "aten.")
            ):
                found.append((path.relative_to(ROOT).as_posix(), name))
    assert {path for path, _ in found} == {"zostudy/networks/convolution.py"}
    assert {name for _, name in found} >= {
        "functional.conv2d",
        "torch.ops.aten.convolution_backward",
    }


#: Seconds after which a process that takes a few of them hangs, on however slow a machine.
HANGS = 240

FAULT = """
import sys, torch
from torch.nn import functional
from zostudy.networks.convolution import Conv2d, Convolution
threads = int(sys.argv[1])
torch.set_num_threads(threads)
images = torch.randn(16, 3, 30, 30, generator=torch.Generator().manual_seed(0))
images = images.contiguous(memory_format=torch.channels_last)
worst = 0.0
for out in (1, 2, 3, 4, 8, 16) * 20:
    for given in (images, images.double()):
        kernel = torch.ones(out, 3, 1, 1, dtype=given.dtype, requires_grad=True)
        value = Convolution(2)(given, kernel)
        ramp = torch.linspace(-1, 1, value.numel(), dtype=given.dtype).reshape(value.shape)
        down = ramp.contiguous(memory_format=torch.channels_last)
        found = torch.autograd.grad(value, kernel, down)[0].double()
        if given is images:
            single = found
    worst = max(worst, float((single - found).norm() / found.norm()))
print(worst)
"""


def fault(threads, environment, seconds=HANGS):
    """How a process ends that computes the shape in question, and how far off it is.

    A damaged heap may also make it go round in circles for ever: the exit code is then that of the
    signal that ends it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", FAULT, str(threads)],
            env=os.environ | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, float("nan"), "hangs"
    return done.returncode, float(done.stdout or "nan"), done.stderr


@pytest.mark.slow
@pytest.mark.arithmetic
def test_the_old_formulation_lies_or_ends_its_process_where_the_best_instructions_are_avx2(
    tmp_path,
):
    """Else what is built around it would be for nothing, and the tests of it tested nothing."""
    limited = old_formulation_environment(tmp_path)
    ends = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL)
    found = []
    for count in (2, 1):  # with one, a damaged heap may also go round in circles
        code, worst, errors = fault(count, limited, HANGS / 4)
        if code in ends or (code == 0 and worst > 0.01):
            return
        found.append((code, worst, errors))
    raise AssertionError(found)


@pytest.mark.slow
@pytest.mark.arithmetic
@pytest.mark.parametrize("threads", [1, 2])
def test_ours_does_not(threads):
    code, worst, errors = fault(threads, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert code == 0, errors
    assert worst < 1e-5


def test_the_old_formulation_is_put_back_for_a_while():
    images, kernel = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 1, 1)
    layer = Conv2d(1, 1, 1, stride=2)
    assert not Convolution(2)._skips_pixels(torch.zeros(1, 1, 3, 3))
    with old_formulation():
        assert not Convolution(2)._skips_pixels(kernel)
        assert Conv2d._conv_forward is nn.Conv2d._conv_forward
        torch.testing.assert_close(layer(images), nn.Conv2d.forward(layer, images))
    assert Convolution(2)._skips_pixels(kernel)
    assert Conv2d._conv_forward is not nn.Conv2d._conv_forward
