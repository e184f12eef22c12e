import gc
import json
import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.patience import PATIENCE
from zostudy.errors import TrialError
from zostudy.study.store.records import Store

KEY = "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "own")


def files(store: Store) -> list[str]:
    return sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*") if p.is_file())


def test_nothing_is_there_at_first_and_asking_writes_nothing(store):
    assert store.record("prune", KEY) is None
    assert store.checkpoint("prune", KEY).load() is None
    assert not store.folder.exists()


def test_a_record_is_read_as_it_was_saved(store):
    values = {"level": 0.1 + 0.2, "rounds": [1, 2], "name": "ξ"}
    tensors = {"α": torch.randn(3, 4), "mask": torch.tensor([True, False])}
    store.save("prune", KEY, values, tensors)
    record = store.record("prune", KEY)
    assert record is not None
    assert record.values == values
    assert {name: t.tolist() for name, t in record.tensors().items()} == {
        name: t.tolist() for name, t in tensors.items()
    }
    assert files(store) == [
        f"cache/prune/{KEY}/record.json",
        f"cache/prune/{KEY}/tensors.safetensors",
    ]


def test_tensors_that_share_memory_or_are_transposed_are_saved(store):
    whole = torch.arange(6.0).reshape(2, 3)
    store.save("search", KEY, {}, {"a": whole, "b": whole.T, "row": whole[0]})
    assert store.record("search", KEY).tensors()["b"].tolist() == whole.T.tolist()


def test_a_record_without_tensors_has_none(store):
    store.save("prune", KEY, {"a": 1})
    assert store.record("prune", KEY).tensors() == {}


def test_a_record_that_is_there_stays(store):
    store.save("prune", KEY, {"writer": "first"})
    store.save("prune", KEY, {"writer": "second"})
    assert store.record("prune", KEY).values == {"writer": "first"}
    assert files(store) == [f"cache/prune/{KEY}/record.json"]


@pytest.mark.parametrize("name", ["record.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_record_is_absent_with_a_warning_and_can_be_saved_again(
    store, name, damage, caplog
):
    store.save("search", KEY, {"a": 1}, {"w": torch.ones(100)})
    path = store.folder / "cache" / "search" / KEY / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-20])
    with caplog.at_level(logging.WARNING):
        assert store.record("search", KEY) is None
    assert ("damaged" in caplog.text) == (name != "record.json" or damage == "cut")
    store.save("search", KEY, {"a": 2}, {"w": torch.zeros(2)})
    assert store.record("search", KEY).values == {"a": 2}
    assert store.record("search", KEY).tensors()["w"].tolist() == [0.0, 0.0]


def test_a_value_that_is_no_number_is_not_saved(store):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.save("search", KEY, {"loss": float("nan")})
    assert store.record("search", KEY) is None
    assert files(store) == []


def test_a_checkpoint_is_read_as_it_was_saved_replaced_and_cleared(store):
    checkpoint = store.checkpoint("search", KEY)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    checkpoint.save({"epoch": 1})
    checkpoint.save({"epoch": 2, "w": torch.ones(3), "optimizer": optimizer.state_dict()})
    state = checkpoint.load()
    assert state["epoch"] == 2
    assert state["w"].tolist() == [1.0, 1.0, 1.0]
    assert state["optimizer"] == optimizer.state_dict()
    assert files(store) == [f"checkpoints/search/{KEY}.pt"]
    checkpoint.clear()
    checkpoint.clear()
    assert checkpoint.load() is None


@pytest.mark.parametrize("damaged", [b"", b"no checkpoint at all", None])
def test_a_damaged_checkpoint_is_absent_with_a_warning(store, damaged, caplog):
    checkpoint = store.checkpoint("search", KEY)
    checkpoint.save({"w": torch.ones(1000)})
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: len(content) // 2] if damaged is None else damaged)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load() is None
    assert "damaged" in caplog.text


def test_a_checkpoint_that_holds_code_is_not_run(store, tmp_path, caplog):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    checkpoint = store.checkpoint("search", KEY)
    checkpoint.save({"x": Harm()})
    assert checkpoint.load() is None
    assert not (tmp_path / "harmed").exists()
    assert "damaged" in caplog.text


@pytest.mark.parametrize("key", ["../../etc", "ABCDEF0123", "", "0123/4567", "01234567\n"])
def test_a_key_that_is_no_digest_is_refused(store, key):
    with pytest.raises(ValueError, match="no hexadecimal digest"):
        store.record("prune", key)


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden"])
def test_a_name_that_is_no_plain_name_is_refused(store, name):
    with pytest.raises(ValueError, match="no plain name"):
        store.checkpoint(name, KEY)


def test_a_full_disk_fails_the_trial_and_leaves_what_was_there(store):
    """A limit on the size of files stands for the full disk."""
    checkpoint = store.checkpoint("search", KEY)
    checkpoint.save({"epoch": 1})
    large = torch.ones(100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(TrialError, match=rf"{KEY}\.pt: cannot be written \(File too large\)"):
            checkpoint.save({"epoch": 2, "w": large})
        with pytest.raises(TrialError, match=r"cache/search/\w+: cannot be written"):
            store.save("search", KEY, {}, {"w": large})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    gc.collect()  # an error here would be reported by whatever test comes to run then
    assert checkpoint.load() == {"epoch": 1}
    assert store.record("search", KEY) is None
    assert files(store) == [f"checkpoints/search/{KEY}.pt"]


def test_values_are_plain_json(store):
    store.save("evaluate", KEY, {"test_accuracy": 95.5})
    path = store.folder / "cache" / "evaluate" / KEY / "record.json"
    content = json.loads(path.read_text())
    assert (content["values"], content["tensors"]) == ({"test_accuracy": 95.5}, "")


def test_a_changed_value_or_byte_is_damage(store, caplog):
    store.save("search", KEY, {"epochs": 12})
    path = store.folder / "cache" / "search" / KEY / "record.json"
    path.write_text(path.read_text().replace("12", "13"))
    assert store.record("search", KEY) is None
    checkpoint = store.checkpoint("search", KEY)
    checkpoint.save({"w": torch.zeros(1000)})
    content = bytearray(checkpoint.path.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() is None
    assert caplog.text.count("damaged") == 2


def test_a_record_and_a_checkpoint_say_where_they_came_from(store):
    origin = {"study": "s", "trial": "trial-3", "mlflow_run_id": "r"}
    store.save("search", KEY, {"a": 1}, origin=origin)
    assert store.record("search", KEY).origin == origin
    checkpoint = store.checkpoint("search", KEY, origin)
    assert checkpoint.source() == {}
    checkpoint.save({"epoch": 1})
    assert store.checkpoint("search", KEY).source() == origin


WORKER = """
import sys, time
from pathlib import Path
from zostudy.study.store.records import Store
store, key, name = Store(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
last = int(sys.argv[4])
waited = []
with store.computing("search", key, waited.append):
    record = store.record("search", key)
    if record is None:
        checkpoint = store.checkpoint("search", key)
        done = (checkpoint.load() or {"done": 0})["done"]
        for step in range(done, 6):
            time.sleep(0.1)
            checkpoint.save({"done": step + 1})
            print(f"{name} computed {step}", flush=True)
            if step == last:
                time.sleep(1e6)  # until it is killed
        store.save("search", key, {"by": name})
        record = store.record("search", key)
print(f"{name} has {record.values['by']}, {'waited' if waited else 'went on'}", flush=True)
"""


def worker(store: Store, name: str, last: int = -1) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, store.folder, KEY, name, str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_processes_that_need_the_same_phase_one_computes_it_and_the_others_wait(store):
    workers = {name: worker(store, name) for name in "abc"}
    output = {name: process.communicate(timeout=PATIENCE)[0] for name, process in workers.items()}
    assert sum(text.count("computed") for text in output.values()) == 6
    (first,) = [name for name, text in output.items() if "computed" in text]
    for name, text in output.items():
        assert f"{name} has {first}" in text
    assert not [path for path in files(store) if path.startswith("locks")]


def test_a_process_that_waits_goes_on_from_the_checkpoint_of_one_that_was_killed(store):
    first = worker(store, "first", last=1)
    assert first.stdout.readline() == "first computed 0\n"
    second = worker(store, "second")
    assert first.stdout.readline() == "first computed 1\n"
    first.kill()
    output, _ = second.communicate(timeout=PATIENCE)
    done = [int(line.split()[-1]) for line in output.splitlines() if "computed" in line]
    assert done[-1] == 5
    assert done[0] >= 2
    first.communicate()
