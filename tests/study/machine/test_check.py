import os
import subprocess
import sys

import pytest

from tests.study.machine import faulty
from zostudy.config.settings import RuntimeSettings
from zostudy.errors import InputError
from zostudy.study.machine.cases import Case
from zostudy.study.machine.check import check
from zostudy.study.machine.process import Setting, ask
from zostudy.study.workers import trial_process

#: Each starts a process that imports torch, and most have a crash or a fault tried again.
pytestmark = pytest.mark.slow

LONG = 300.0  # seconds: no test is to fail because the machine is slow


def case(operation, **changes) -> Case:
    shape = {
        "entering": 8,
        "leaving": 8,
        "height": 6,
        "width": 6,
        "batch": 3,
        "stride": 2,
        "space": "darts",
    }
    return Case("supernet", operation, operation=operation, **(shape | changes))


def setting(**runtime) -> Setting:
    settings = RuntimeSettings(**{"device": "cpu", "threads": 1, **runtime})
    return Setting(settings, (faulty.__name__,))


def verdict(*cases, limit=LONG, **runtime):
    return check(trial_process.start_server(), cases, setting(**runtime), limit)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_right_is_found_right(precision):
    right = [case("right"), case("right", partial=4, rows=3), case("sep_conv_3x3", partial=4)]
    assert verdict(*right, precision=precision).findings == []


def test_a_kernel_that_is_off_by_one_percent_is_named_with_its_shape_and_by_how_much():
    (finding,) = verdict(case("right"), case("lies")).findings
    assert finding.kind == "wrong"
    assert finding.case == case("lies")
    assert str(finding).startswith(
        "operation lies of the supernet (8 channels, 6×6 pixels, stride 2, batch 3): the gradient"
    )
    assert "is off by 1 % of its norm from float64, of which rounding explains" in str(finding)
    assert "nothing that can be set helps (ONEDNN_MAX_CPU_ISA=AVX2, ONEDNN_MAX_CPU" in str(finding)


def test_what_helps_is_found_by_trying_it():
    (finding,) = verdict(case("fails_with_avx")).findings
    assert finding.advice == "set ONEDNN_MAX_CPU_ISA=AVX, with which it is right here"


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ("aborts", "its process crashed (SIGABRT: Aborted)"),
        ("killed", "its process ended with exit code 7 and without a result"),
    ],
)
def test_a_crash_is_a_finding_and_the_other_operations_are_still_compared(operation, message):
    found = verdict(case("right"), case(operation), case("lies")).findings
    kinds = {finding.case: finding.kind for finding in found}
    assert kinds == {case(operation): "crash", case("lies"): "wrong"}
    assert any(message in finding.what for finding in found)


def test_an_operation_that_hangs_is_named_when_its_time_is_over():
    report = ask(trial_process.start_server(), [case("right"), case("hangs")], setting(), 20.0)
    assert report.trouble is not None
    assert (report.trouble.kind, report.trouble.what, report.trouble.at) == (
        "hang",
        "did not end in 20 s",
        1,
    )


def test_an_operation_without_memory_is_named():
    (finding,) = verdict(case("hungry")).findings
    assert finding.kind == "memory"
    assert finding.what == "out of memory (MemoryError: 216 numbers are too many)"


def test_what_float64_cannot_compute_is_said_and_is_no_finding():
    found = verdict(case("needs_float32"))
    assert found.findings == []
    assert found.unchecked == {case("needs_float32"): "float32 alone"}


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match=r"runtime\.device: 'cuda:99' is not there"):
        verdict(case("right"), device="cuda:99")


PROBE = """
import torch
from torch.nn import functional
torch.set_num_threads({threads})
torch.manual_seed(0)
images = torch.randn(8, 4, 8, 8).contiguous(memory_format=torch.channels_last)
kernel = torch.randn(4, 4, 1, 1, requires_grad=True)
exact = kernel.detach().double().requires_grad_()
for _ in range(20):
    functional.conv2d(images, kernel, stride=2).square().sum().backward()
functional.conv2d(images.double(), exact, stride=2).square().sum().backward()
assert (kernel.grad / 20 - exact.grad).norm() < 1e-3 * exact.grad.norm()
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_the_convolution_that_some_processors_compute_wrongly_is_named(threads, monkeypatch):
    if "ONEDNN_MAX_CPU_ISA" not in os.environ:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    probe = [sys.executable, "-c", PROBE.format(threads=threads)]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        pytest.skip("this processor and this version of torch compute it correctly")
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # which reads the environment anew
    there = case("direct", entering=4, leaving=4, height=8, width=8, batch=8)
    # One thread shows it always, two threads in about one run of five.
    found = check(context, [case("right"), there], setting(threads=threads), LONG, 10).findings
    assert [finding.case for finding in found] == [there]
    assert found[0].kind in ("wrong", "crash")
    assert "set ONEDNN_MAX_CPU_ISA=" in found[0].advice
