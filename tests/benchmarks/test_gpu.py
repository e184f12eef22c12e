import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.gpu import resuming
from benchmarks.gpu.isolated import results
from benchmarks.gpu.kernels import Kernels

ROOT = Path(__file__).parents[2]

#: All that zostudy needs and this benchmark does not.
NOT_NEEDED = [
    "jinja2",
    "matplotlib",
    "mlflow",
    "optuna",
    "PIL",
    "yaml",
    "rich",
    "safetensors",
    "sklearn",
    "scipy",
    "sqlalchemy",
    "torchvision",
    "typer",
]

#: Runs it once for each command line of a list in JSON, of which the last has the exit code.
BLOCKED = """
import json, runpy, sys
sys.modules.update(dict.fromkeys({names!r}))
for arguments in json.loads(sys.argv.pop()):
    sys.argv[:] = ["gpu", *arguments]
    try:
        runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
        print("\\nexit code", code, file=sys.stderr)
sys.exit(code)
"""


def run(*command_lines):
    code = BLOCKED.format(names=NOT_NEEDED)
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(command_lines)],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_every_part_runs_with_torch_and_the_engine_alone(tmp_path):
    cnn = tmp_path / "cnn"
    cnn.mkdir()
    (cnn / "model_search.py").write_text(
        "import torch\n"
        "class Network(torch.nn.Linear):\n"
        "    def __init__(self, channels, classes, layers, criterion):\n"
        "        super().__init__(3, classes)\n"
        "        self.criterion = criterion\n"
        "        self.alpha = torch.zeros(classes).cuda().requires_grad_()\n"
        "    def forward(self, images):\n"
        "        return super().forward(images.mean((2, 3))) + self.alpha\n"
        "    def arch_parameters(self):\n"
        "        return [self.__dict__.get('alpha', self.alpha)]\n"
    )
    (cnn / "architect.py").write_text(
        "import torch\n"
        "class Architect:\n"
        "    def __init__(self, model, args):\n"
        "        self.model = model\n"
        "        self.optimizer = torch.optim.Adam(model.arch_parameters(), 1e-3)\n"
        "    def step(self, images, labels, others, other_labels, rate, sgd, unrolled):\n"
        "        self.optimizer.zero_grad()\n"
        "        self.model.criterion(self.model(others), other_labels).backward()\n"
        "        self.optimizer.step()\n"
    )
    own = ["--peer", str(tmp_path), "--minutes", "60"]
    ended = run(["--device", "cpu", "--quick", "--json", *own])
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    errors = {part["part"]: part["error"] for part in document["parts"]}
    names = ("steps", "evaluate", "memory", "resume", "profile", "graph")
    assert errors == dict.fromkeys(names)
    assert "no CUDA graphs" in document["parts"][-1]["note"]
    found = {(r["part"], r["case"], r["metric"]): r for r in document["rows"]}
    assert found["steps", "darts fp32", "step_ms_beside_published"]["reference"] > 0
    assert found["steps", "zero-one-shot-rnd fp32", "step_ms"]["ratio"] > 0
    assert found["evaluate", "evaluate fp32", "step_ms"]["value"] > 0
    assert found["memory", "evaluate fp32", "peak_mb"]["ratio"] == pytest.approx(1, rel=0.05)
    for phase in ("search", "evaluate"):
        for metric in ("repeated_equal", "resumed_equal"):
            assert found["resume", phase, metric]["value"] == 1
    kernels = [r for r in document["rows"] if r["metric"].startswith("kernel_ms ")]
    assert len(kernels) == 10


REFUSED = [
    (["--part", "speed"], "invalid choice: 'speed'"),
    (["--minutes", "0"], "--minutes: 0 is not allowed; allowed: above 0"),
    (["--peer", "/nowhere"], "--peer: /nowhere has no cnn/model_search.py"),
    (["--device", "cuda:99"], "runtime.device: 'cuda:99' is not there"),
    (["--device", "tpu"], "--device: 'tpu' is not allowed; allowed: cpu, cuda, cuda:N"),
]


@pytest.fixture(scope="module")
def refused():
    """What each of them says; one process runs them all, as torch takes long to import."""
    ended = run(*(["--device", "cpu", *arguments] for arguments, _ in REFUSED))
    assert ended.returncode == 2
    return ended.stderr.split("\nexit code 2\n")


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(a) for a, _ in REFUSED])
def test_bad_arguments_are_refused(number, refused):
    assert len(refused) == len(REFUSED) + 1  # each has the exit code 2
    assert REFUSED[number][1] in refused[number]


def failing():
    yield 1
    raise ValueError("no good\nat all")


def dying():
    yield 1
    os._exit(3)


def endless():
    yield 1
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "seconds", "said"),
    [
        (failing, 600, "ValueError: no good"),
        (dying, 600, "its process ended by itself, exit code 3"),
        (endless, 5, "out of time after 5 s; what came until then is kept"),
    ],
)
def test_what_came_before_a_failure_is_kept(work, seconds, said):
    failures = []
    assert list(results(work, seconds, failures.append)) == [1]
    assert failures == [said]


def event(name, device, microseconds, *, annotation=False):
    return SimpleNamespace(
        name=name,
        device_type=device,
        self_cpu_time_total=microseconds,
        time_range=SimpleNamespace(elapsed_us=lambda: microseconds),
        is_user_annotation=annotation,
    )


def test_copies_and_marks_are_no_kernels():
    events = [
        event("aten::mul", DeviceType.CPU, 50),
        event("cudaLaunchKernel", DeviceType.CPU, 5),
        event("cudaGraphLaunch", DeviceType.CPU, 5),
        event("gemm", DeviceType.CUDA, 2000),
        event("gemm", DeviceType.CUDA, 1000),
        event("Memcpy HtoD (Pinned -> Device)", DeviceType.CUDA, 7),
        event("Optimizer.step#SGD.step", DeviceType.CUDA, 900),
        event("step", DeviceType.CUDA, 900, annotation=True),
    ]
    found = Kernels.among(events, torch.device("cuda"))
    assert (found.launches, found.calls, found.milliseconds) == (2, {"gemm": 2}, {"gemm": 3})


def test_one_other_bit_is_seen():
    state = {"seconds": 1.0, "weights": [torch.zeros(3)], "epoch": 2}
    assert resuming.same(state, state | {"seconds": 2.0, "weights": [torch.zeros(3)]})
    assert not resuming.same(state, state | {"weights": [torch.tensor([0.0, -0.0, 0.0])]})
    assert not resuming.same(state, state | {"epoch": 3})
