"""Studies whose trials do not all come to an end, and input of which no study is made."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import environment
from tests.patience import PATIENCE
from tests.study.trial.tiny import TINY, results, run, runs_of, write, zostudy


@pytest.mark.slow
def test_what_is_above_a_constraint_is_not_run_or_not_evaluated(tmp_path):
    sweep = {"parameters": {"prune.xi": [0.3, 1.0]}, "seeds": [1]}
    path = write(tmp_path, sweep=sweep)
    plan = json.loads(zostudy(tmp_path, "plan", path, "--json").out)["configurations"]
    small, large = (c["phases"]["search"]["peak_bytes"] for c in plan)
    limits = {"search_peak_bytes": {"at_most": (small + large) // 2}, "macs": {"at_most": 1000}}
    write(tmp_path, sweep=sweep | {"constraints": limits})
    done = run(tmp_path)
    assert "prune.xi=1.0: is not run; sweep.constraints: search_peak_bytes is " in done.err
    searched, unsearched = results(tmp_path)["trials"]
    assert (searched["state"], unsearched["state"]) == ("excluded", "excluded")
    assert re.search(r"sweep\.constraints: macs is [\d,]+, above 1,000", searched["reason"])
    assert searched["metrics"]["search_peak_bytes"] > 0
    assert unsearched["metrics"] == {"search_peak_bytes": large}
    assert "excluded" in done.out
    runs = runs_of(tmp_path)
    assert sorted(run.info.run_name for run in runs) == ["prune", "search", "xi=0.3 · seed 1"]
    (trial,) = [run for run in runs if run.info.run_name == "xi=0.3 · seed 1"]
    assert trial.data.tags["zostudy.state"] == "excluded"
    assert "complete; nothing to run" in run(tmp_path).err


@pytest.mark.slow
def test_a_poor_trial_is_stopped_in_its_evaluation_and_its_run_says_so(tmp_path):
    sweep = {
        "parameters": {"evaluate.weights.learning_rate": [0.1, 0.05, 1e-9]},
        "early_stopping": {"name": "median", "startup_trials": 2},
    }
    write(tmp_path, sweep=sweep)
    done = run(tmp_path)
    *good, poor = results(tmp_path)["trials"]
    assert [trial["state"] for trial in good] == ["complete", "complete"]
    assert poor["state"] == "stopped"
    assert re.search(r"early_stopping \(median\): validation accuracy .* of 3 ep", poor["reason"])
    assert poor["metrics"]["search_peak_bytes"] > 0
    assert "stopped" in done.out
    runs = runs_of(tmp_path, "tags.`zostudy.state` = 'stopped'")
    assert [run.info.run_name for run in runs] == ["learning_rate=1e-09 · seed 0"]
    assert runs[0].info.status == "FINISHED"
    assert runs[0].data.tags["zostudy.reason"] == poor["reason"]
    assert "complete; nothing to run" in run(tmp_path).err


@pytest.mark.slow
def test_a_trial_that_fails_leaves_the_others_alone_and_shows_in_the_exit_code(tmp_path):
    sweep = {"parameters": {"search.weights.weight_decay": [1000, 0]}}  # 1000: weights explode
    search = TINY["search"] | {"weights": {"learning_rate": 1}}
    write(tmp_path, sweep=sweep, search=search)
    done = run(tmp_path, code=1)
    states = {
        trial["params"]["search.weights.weight_decay"]: trial
        for trial in results(tmp_path)["trials"]
    }
    assert states[0]["state"] == "complete"
    assert states[1000]["state"] == "failed"
    assert "the loss is" in states[1000]["reason"]
    assert "NumericalError" not in done.out or "the loss is" in done.out
    failed = runs_of(tmp_path, "attributes.status = 'FAILED'")
    assert any("the loss is" in run.data.tags["zostudy.reason"] for run in failed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"search_space": "dart", "cells": {}}', "did you mean 'darts'"),
        ("Genotype(normal=[('skip', 0)])", "genotype.normal: 1"),
        ("{", "line 1"),
    ],
)
def test_a_genotype_file_that_does_not_fit_is_one_line_and_leaves_nothing(tmp_path, text, message):
    (tmp_path / "genotype.json").write_text(text)
    write(tmp_path)
    done = zostudy(tmp_path, "evaluate", "study.yaml", "genotype.json", code=2)
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"name": "image_folder", "root": "nowhere"}}, "nowhere"),
        ({"prune": {"source": "file", "path": "mask.json"}}, "prune.path: 'mask.json'"),
        ({"prune": {"source": "zero_shot", "images": 5000}}, "prune.images: 5000"),
        ({"prune": {"source": "random", "xi": 1.5}}, "prune.xi: 1.5"),
        ({"runtime": {"device": "cuda:63"}}, "runtime.device"),
    ],
)
def test_bad_input_is_one_line_before_any_compute_and_leaves_nothing(tmp_path, changes, message):
    write(tmp_path, **changes)
    done = run(tmp_path, code=2)
    lines = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.err
    assert [path.name for path in Path(tmp_path).iterdir()] == ["study.yaml"]


OUT_OF_MEMORY = """
import json, resource, sys
from zostudy.config.loading import load
from zostudy.study.delivery import background
from zostudy.study.sweep import standings, worker
from zostudy.study.trial.trial import Trials
from pathlib import Path

file = load(Path("study.yaml"))
trials = Trials(file, lambda progress: None)

def execute(point, seed, number):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    if point.config.supernet.channels == 192:  # its first tensor alone is larger
        limit = pages * resource.getpagesize() + 2**31
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return trials(point, seed, number)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

trials.check(list(standings.standing(file).points))
print(worker.run(file, execute, lambda notice: None).failures)
background.for_study(file.config).once()
"""


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_fails_alone_and_says_what_it_asked_for(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(64):
        path = tmp_path / "pictures" / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (256, 256), dtype=np.uint8)).save(path)
    write(
        tmp_path,
        dataset={"name": "image_folder", "root": "pictures"},
        runtime={"threads": 1, "memory_budget": "1TiB"},
        supernet={"cells": 1},
        search={"epochs": 1, "warmup_epochs": 0, "batch_size": 16},
        evaluate={
            "cells": 1,
            "channels": 2,
            "epochs": 1,
            "batch_size": 16,
            "auxiliary_weight": 0.0,
        },
        sweep={"parameters": {"supernet.channels": [192, 2]}},
    )
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY],
        cwd=tmp_path, env=environment(),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = {t["params"]["supernet.channels"]: t for t in results(tmp_path)["trials"]}
    assert states[2]["state"] == "complete"
    assert states[192]["state"] == "failed"
    assert re.search(
        r"search: out of memory: [\d.]+ GiB more were asked for; the prediction of the phase is ",
        states[192]["reason"],
    )
    runs = runs_of(tmp_path, "tags.`zostudy.out_of_memory` = 'True'")
    assert [run.info.run_name for run in runs] == ["search"]
    assert runs[0].data.metrics["out_of_memory_asked_bytes"] > 2**30
    assert runs[0].data.metrics["predicted_bytes"] > 2**32


@pytest.mark.slow
def test_a_mask_that_turns_out_too_large_fails_its_trial_before_the_search(tmp_path):
    write(
        tmp_path,
        prune={"source": "zero_shot", "xi": 0.95, "images": 8, "batch_size": 4},
        search={"epochs": 2, "warmup_epochs": 1, "batch_size": 512},
        evaluate={"cells": 1, "channels": 2, "epochs": 1, "auxiliary_weight": 0.0},
        runtime={"threads": 1, "device": "cpu", "memory_budget": "8MiB"},
    )
    done = run(tmp_path, code=1)
    assert "may be above the memory budget of 8.0 MB" in done.err
    (trial,) = results(tmp_path)["trials"]
    assert "more than runtime.memory_budget allows (8.0 MB)" in trial["reason"]
    assert not list((tmp_path / ".zostudy" / "cache").glob("search/*"))
