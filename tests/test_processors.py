"""The arithmetic on other processors: child processes limited to fewer instructions.

What oneDNN and torch compute with is chosen when they are loaded, so every limit needs a process of
its own. One that crashes has failed, as one whose test has.
"""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import here
from tests.convolutions import old_formulation_environment

#: Seconds that a process of these tests may take on a slow and loaded machine; then it hangs.
HANGS = 1200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * HANGS)]

ROOT = Path(__file__).parent.parent

#: Limits by the name of what a processor has; torch's own kernels know no SSE4.1.
LIMITS = {
    "SSE41": ("DEFAULT", {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}),
    "AVX2": ("AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}),
    "AVX512": ("AVX512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}),
}

#: What torch calls the sets of instructions, the smallest first.
_ORDER = ("DEFAULT", "AVX2", "AVX512")

TESTS = (
    "tests/networks/test_convolution.py",
    "tests/networks/test_float32.py",
    "tests/pruning/test_float32.py",
    "tests/search/test_float32.py",
)


@functools.cache
def best():
    """What torch calls the largest set of instructions that this machine's processor has."""
    unlimited = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
    asked = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    return subprocess.run(
        [sys.executable, "-c", asked], env=unlimited, capture_output=True, text=True, check=True
    ).stdout.strip()


def there(needed):
    """Whether this machine's processor has a set of instructions."""
    return best() in _ORDER and _ORDER.index(best()) >= _ORDER.index(needed)


def limited(command, limits, folder, seconds=HANGS):
    """A command of this Python in a process of its own, for so many seconds at most."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@pytest.fixture(params=LIMITS)
def limits(request):
    needed, variables = LIMITS[request.param]
    if not there(needed):
        pytest.skip(f"this processor has no {request.param}")
    return variables


def test_the_arithmetic_is_right_with_these_instructions(limits):
    command = ["-m", "pytest", "-q", "--timeout=0", "-m", "arithmetic and not slow", *TESTS]
    done = limited(command, limits, ROOT)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_the_arithmetic_fails_with_the_old_formulation(tmp_path):
    """The tests above would find the fault: of convolutions, of operations, of networks."""
    needed, _ = LIMITS["AVX2"]
    if not there(needed):
        pytest.skip("this processor has no AVX2")
    old = old_formulation_environment(tmp_path)
    early = "ignore::pytest.PytestAssertRewriteWarning"  # our modules are loaded before pytest
    options = ["-xq", "--timeout=0", "-W", early, "-m", "arithmetic and not slow"]
    for chosen in (TESTS[0], TESTS[1]):
        try:
            done = limited(["-m", "pytest", *options, chosen], old, ROOT, HANGS / 8)
        except subprocess.TimeoutExpired:
            continue  # a damaged heap may also make a process go round in circles
        said = done.stdout + done.stderr
        if done.returncode in (-signal.SIGABRT, -signal.SIGSEGV):
            continue
        assert done.returncode == 1, f"exit code {done.returncode}\n{said}"
        assert "1 failed" in done.stdout, said
        assert "off by" in done.stdout, said


SMALL = (
    "search.epochs=2",
    "search.warmup_epochs=1",
    "evaluate.epochs=1",
    "prune.repeats=2",
    "sweep.parameters={prune.xi: [0.5], prune.source: [zero_shot, random]}",
)


def demo(folder, limits):
    """Accuracies of two short trials of the demo, by name."""
    study = ["zostudy", "run", str(ROOT / "studies" / "ablation.yaml")]
    settings = [word for setting in SMALL for word in ("--set", setting)]
    variables = limits | {"PYTHONPATH": str(ROOT)}
    done = limited(["-m", *study, *settings], variables, folder)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(here(folder, "results", study[2], *settings, "--json").out)


def test_the_demo_completes_with_avx2_alone(tmp_path):
    needed, variables = LIMITS["AVX2"]
    if not there(needed):
        pytest.skip("this processor has no AVX2")
    found = demo(tmp_path, variables)
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
