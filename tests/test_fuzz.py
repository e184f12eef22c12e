"""Input that is wrong in any way is a clear error, or does no harm."""

import functools
import shutil
from pathlib import Path

import pytest
import torch

from tests import mutations
from tests.commands import here
from tests.tables import SPACE, made_up, settings, write
from zostudy.config.loading import StudyFile, from_document
from zostudy.errors import ConfigError, InputError, ZostudyError
from zostudy.evaluation.table import read
from zostudy.study.delivery.mlflow_store import MlflowStore
from zostudy.study.points import Point, TrialOutcome
from zostudy.study.report import results
from zostudy.study.store.records import Store
from zostudy.study.sweep import worker

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))


@pytest.fixture
def command(tmp_path):
    """Runs a command in an empty folder: exit code, stdout, stderr."""
    return functools.partial(here, tmp_path)


def assert_clear(code: int, err: str) -> None:
    """Success, or lines that say what is wrong; none of them without end."""
    assert code in (0, 1, 2), err
    if code:
        lines = err.splitlines()
        assert lines
        assert all(line.startswith(("error: ", "warning: ")) for line in lines), err
        assert lines[-1].startswith("error: ")
        assert max(map(len, lines)) < 2000
        assert len(lines) < 100
    assert "Traceback" not in err


def test_a_spoilt_study_file_is_valid_or_a_clear_error_and_leaves_nothing(command, tmp_path):
    codes = []
    for seed in mutations.seeds(200):
        source = STUDIES[seed % len(STUDIES)]
        path = tmp_path / "study.yaml"
        path.write_bytes(mutations.study_file(source.read_text(), seed))
        code, _, err = command("validate", path)
        assert_clear(code, err)
        codes.append(code)
        assert list(tmp_path.iterdir()) == [path]
    assert codes.count(2) > len(codes) / 2


INTERNALS = (
    "Input should", "function-after", "validation error", "type=", "tag:yaml.org", "<class",
    "pydantic", "expected <", "literal[",
)  # fmt: skip


def test_odd_yaml_is_valid_or_a_clear_error_without_internals_of_libraries(command, tmp_path):
    codes = []
    for seed in mutations.seeds(60):
        path = tmp_path / "study.yaml"
        path.write_bytes(mutations.yaml_scalars(STUDIES[seed % len(STUDIES)].read_text(), seed))
        code, _, err = command("validate", path)
        assert_clear(code, err)
        assert not [word for word in INTERNALS if word in err], err
        codes.append(code)
    assert set(codes) == {0, 2}


def test_a_spoilt_table_is_read_or_one_clear_line(tmp_path):
    errors = []
    content = write(tmp_path / "t.csv", made_up()).read_text()
    whole = read(settings(tmp_path / "t.csv"), SPACE)
    for seed in mutations.seeds(60):
        path = tmp_path / f"{seed}.csv"
        path.write_bytes(mutations.table(content, seed))
        try:
            assert read(settings(path), SPACE).rows.keys() == whole.rows.keys()
        except InputError as error:
            errors.append(str(error).replace(str(path), "PATH"))
    assert len(errors) > 20
    assert all("PATH" in error and len(error.splitlines()) == 1 for error in errors)
    assert max(map(len, errors)) < 1000


# -- damaged files ---------------------------------------------------------------------------------

KEY = "0123456789abcdef" * 4
VALUES = {"accuracy": 0.1 + 0.2, "rounds": list(range(30)), "name": "ξ"}


def damaged(path: Path, seed: int) -> None:
    path.write_bytes(mutations.damaged(path.read_bytes(), seed))


@pytest.mark.parametrize("name", ["record.json", "tensors.safetensors"])
def test_a_damaged_record_is_absent_or_what_was_saved(tmp_path, name, caplog):
    weights = torch.randn(40, 40)
    for seed in mutations.seeds(25):
        store = Store(tmp_path / str(seed))
        store.save("search", KEY, VALUES, {"w": weights})
        damaged(store.folder / "cache" / "search" / KEY / name, seed)
        record = store.record("search", KEY)
        if record is not None:
            assert record.values == VALUES
            assert torch.equal(record.tensors()["w"], weights)
        store.save("search", KEY, VALUES, {"w": weights})
        assert store.record("search", KEY).values == VALUES
    assert "damaged" in caplog.text


def test_a_damaged_checkpoint_is_absent_or_what_was_saved(tmp_path, caplog):
    weights = torch.randn(40, 40)
    for seed in mutations.seeds(25):
        checkpoint = Store(tmp_path / str(seed)).checkpoint("search", KEY, {"study": "s"})
        checkpoint.save({"epoch": 3, "w": weights})
        damaged(checkpoint.path, seed)
        assert checkpoint.source() in ({}, {"study": "s"})
        state = checkpoint.load()
        if state is not None:
            assert state["epoch"] == 3
            assert torch.equal(state["w"], weights)
    assert "damaged" in caplog.text


def engine(point: Point, seed: int, number: int) -> TrialOutcome:
    """Trials that take no time."""
    accuracy = 90.0 + point.values["prune.xi"] + seed
    return TrialOutcome({"validation_accuracy": accuracy}, {"of": seed}, f"run-{number}")


def study(folder: Path) -> StudyFile:
    return from_document(
        {
            "study": "s",
            "prune": {"source": "random"},
            "sweep": {"parameters": {"prune.xi": [0.25, 0.5, 0.75]}, "seeds": [0, 1]},
            "storage": {"optuna": f"sqlite:///{folder}/optuna.db", "folder": str(folder / "own")},
        }
    )


@pytest.fixture
def complete(tmp_path_factory) -> Path:
    """The storage of a study that is complete but for one trial."""
    folder = tmp_path_factory.mktemp("complete")

    def stopping(point: Point, seed: int, number: int) -> TrialOutcome:
        if number == 5:
            raise KeyboardInterrupt
        return engine(point, seed, number)

    with pytest.raises(KeyboardInterrupt):
        worker.run(study(folder), stopping, lambda _: None)
    return folder / "optuna.db"


def accuracies(file: StudyFile) -> dict:
    found = results.document(file)
    return {
        (trial["params"]["prune.xi"], trial["seed"]): trial["metrics"]["validation_accuracy"]
        for trial in found["trials"]
    }


def test_a_damaged_storage_is_a_clear_error_or_loses_no_trial(complete, tmp_path):
    worker.run(study(tmp_path), engine, lambda _: None)
    expected = accuracies(study(tmp_path))
    errors = []
    for seed in mutations.seeds(25):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shutil.copy(complete, folder / "optuna.db")
        damaged(folder / "optuna.db", seed)
        try:
            worker.run(study(folder), engine, lambda _: None)
            assert accuracies(study(folder)) == expected, seed
        except ZostudyError as error:
            errors.append(str(error))
    assert errors
    assert all("storage.optuna: " in error for error in errors)
    assert all(len(error.splitlines()) == 1 for error in errors)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    """A new MLflow store."""
    path = tmp_path_factory.mktemp("tracked") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}", "s")
    return path


def test_a_damaged_mlflow_store_is_a_clear_error_or_goes_on(tracked, tmp_path):
    errors = []
    for seed in mutations.seeds(12):
        path = tmp_path / f"{seed}.db"
        shutil.copy(tracked, path)
        damaged(path, seed)
        try:
            MlflowStore(f"sqlite:///{path}", "s")
        except ConfigError as error:
            errors.append(str(error))
    assert errors
    assert all(error.startswith("tracking.uri: ") for error in errors)
    assert all(len(error.splitlines()) == 1 for error in errors)
