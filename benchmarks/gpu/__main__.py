"""Everything that zostudy costs on one GPU, in parts, in five minutes at most.

    python -m benchmarks.gpu --json [--part steps --part memory …] [--device cuda|cpu] [--quick]
        [--peer PATH] [--minutes 5]

Parts, all of them unless some are named:
    steps     time and peak of search steps in fp32, tf32 and bf16, beside the per-edge formulation
              and, with --peer, the published step of a checkout of quark0/darts
    evaluate  a training step of the stand-alone network: 20 cells, C = 36, batch 128
    memory    measured peak of each case beside the predicted one
    resume    phases that were cut off and resumed against undisturbed ones, bit for bit
    profile   kernels and launches of a step, and the ten that take longest
    graph     nothing yet: the engine has no CUDA graphs, and the document says so

A part runs in a process of its own. Its error, crash or lack of time becomes an entry of the
document, figures that came before are kept, and the next part goes on; the exit status is then 1.
Every figure is printed as it comes (to stderr with --json). --quick is a tiny form of everything,
which says only that it runs.

Needs, beside Python 3.11 or later on Linux and torch 2.11 or later: numpy, pydantic and
jaxtyping (with pydantic-core, annotated-types, typing-inspection, typing-extensions and
wadler-lindig, which they need), and of this repository the folders zostudy, benchmarks and
tests/reference. Not MLflow, Optuna, Typer or any other package.
"""

import argparse
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zostudy
from benchmarks.document import Row, machine
from benchmarks.gpu import kernels, peer, predictions, resuming, steps, training
from benchmarks.gpu.isolated import results
from benchmarks.gpu.setting import FULL, QUICK, Setting


def _no_graphs(setting: Setting) -> Iterator[Row]:
    del setting
    yield from ()


#: What gives a part's rows, and its share of the time.
PARTS: dict[str, tuple[Callable[[Setting], Iterator[Row]], float]] = {
    "steps": (steps.rows, 150),
    "evaluate": (training.rows, 30),
    "memory": (predictions.rows, 60),
    "resume": (resuming.rows, 30),
    "profile": (kernels.rows, 40),
    "graph": (_no_graphs, 0),
}

#: What is to be said of a part.
_NOTES = {"graph": "nothing was measured: the engine has no CUDA graphs yet"}

#: Seconds to find the device; the first touch of CUDA may take long.
_FIND = 60.0


def main() -> int:
    """Run the parts, print the document, and say whether all went well."""
    arguments = _arguments()
    end = time.monotonic() + 60 * arguments.minutes
    setting = Setting(arguments.device, QUICK if arguments.quick else FULL, arguments.peer)
    lines = sys.stderr if arguments.json else sys.stdout
    failures: list[str] = []
    found = list(results(partial(_machine, setting), _FIND, failures.append))
    if failures:
        print(failures[0], file=sys.stderr)
        return 2
    chosen = [name for name in PARTS if name in (arguments.part or PARTS)]
    parts, rows = [], []
    for place, name in enumerate(chosen):
        shares = [PARTS[later][1] for later in chosen[place:]]
        left = max(end - time.monotonic(), 0)
        limit = left * shares[0] / sum(shares) if sum(shares) else max(left, 1)
        entry: dict[str, Any] = {"part": name, "error": None, "note": _NOTES.get(name, "")}
        started = time.monotonic()
        failed = partial(entry.__setitem__, "error")
        for row in results(partial(PARTS[name][0], setting), limit, failed):
            rows.append({"part": name} | asdict(row) | {"ratio": row.ratio})
            print(f"{name}: {_line(row)}", file=lines, flush=True)
        entry["seconds"] = time.monotonic() - started
        ending = entry["error"] or entry["note"] or f"done in {entry['seconds']:.0f} s"
        print(f"{name}: {ending}", file=lines, flush=True)
        parts.append(entry)
    if arguments.json:
        versions = {
            "python": platform.python_version(),
            "zostudy": zostudy.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        }
        document = {"machine": found[0], "versions": versions, "quick": arguments.quick}
        print(json.dumps(document | {"parts": parts, "rows": rows}, indent=2))
    return int(any(part["error"] for part in parts))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="may be repeated")
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:N or cpu")
    parser.add_argument("--quick", action="store_true", help="a tiny form of everything")
    parser.add_argument("--peer", type=Path, help="a checkout of quark0/darts, with its cnn/")
    parser.add_argument("--minutes", type=float, default=5.0, help="the most it may take (5)")
    arguments = parser.parse_args()
    if not arguments.minutes > 0:
        parser.error(f"--minutes: {arguments.minutes:g} is not allowed; allowed: above 0")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", arguments.device):
        parser.error(f"--device: {arguments.device!r} is not allowed; allowed: cpu, cuda, cuda:N")
    missing = arguments.peer and [
        name for name in peer.FILES if not (arguments.peer / "cnn" / name).is_file()
    ]
    if missing:
        parser.error(f"--peer: {arguments.peer} has no cnn/{missing[0]}; needs quark0/darts")
    return arguments


def _machine(setting: Setting) -> Iterator[dict[str, Any]]:
    runtime = setting.runtime()
    found: dict[str, Any] = machine() | {"device": str(runtime.device)}
    if runtime.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(runtime.device)
        found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    yield found


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f" ({row.ratio:.3f} of {row.reference:.4g})"
    return f"{row.case} {row.metric}: {row.value:.4g}{ratio}"


if __name__ == "__main__":
    sys.exit(main())
