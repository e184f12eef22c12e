"""Bundles in the model registry of a real MLflow store."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from benchmarks.servers import free_port
from tests.bundles import bundle_of, noise, probabilities
from zostudy.errors import ConfigError, TrialError
from zostudy.study.bundle import mlflow_loader
from zostudy.study.bundle.export import export
from zostudy.study.bundle.formats import formats
from zostudy.study.bundle.registering import register
from zostudy.study.delivery.mlflow_store import MlflowStore, StoreAwayError
from zostudy.study.delivery.registry import ALIAS, Registry


class Kept:
    """A store with a run, and the bundle of that run's trial."""

    def __init__(self, folder, uri):
        self.uri = uri
        self.store = MlflowStore(uri, "ablation")
        self.client = self.store.client
        self.run = self.client.create_run(self.store.experiment_id).info.run_id
        origin = {"study": "ablation", "trial": 3, "seed": 1, "data": "ab" * 32}
        provenance = origin | {"mlflow_run_id": self.run}
        self.bundle = dataclasses.replace(bundle_of(), provenance=provenance)
        self.folder = folder / "né w 50%"
        export(self.bundle, self.folder, formats("pt2,onnx"))

    def registry(self, name):
        return Registry(self.uri, "ablation", name, self.run)

    def register(self, name):
        return register(self.folder, self.registry(name))

    def champion(self, name):
        return self.client.get_model_version_by_alias(name, ALIAS)

    def state(self):
        """All that a registration makes: models, versions, aliases, logged models, files."""
        models = self.client.search_registered_models()
        versions = self.client.search_model_versions()
        logged = self.client.search_logged_models([self.store.experiment_id])
        place = Path(self.client.get_experiment(self.store.experiment_id).artifact_location)
        return (
            {model.name: dict(model.aliases) for model in models},
            {(version.name, version.version): version.source for version in versions},
            {model.model_id for model in logged},
            {path for path in place.rglob("*") if path.is_file()},
        )


#: A network that is trained and exported comes before the first of them.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registering")
    return Kept(folder, f"sqlite:///{folder}/mlflow.db")


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_a_version_names_where_it_came_from_and_has_signature_and_example(kept):
    assert kept.register("lineage") == "1"
    version = kept.champion("lineage")
    report = json.loads((kept.folder / "report.json").read_text())
    assert version.run_id == kept.run
    assert version.tags == {
        "zostudy.study": "ablation",
        "zostudy.trial": "3",
        "zostudy.seed": "1",
        "zostudy.data": "ab" * 32,
        "zostudy.mlflow_run_id": kept.run,
        "zostudy.test_accuracy": str(report["accuracy"]),
        "zostudy.program": "model.onnx",
    }
    assert "Trial 3 of the study ablation" in version.description
    described = kept.client.get_registered_model("lineage").description
    assert "3×9×12 pictures" in described
    assert described.endswith("cat, dog, α\\|β γ")
    model = Model.load(version.source)
    assert model.run_id == kept.run
    (given,) = model.signature.inputs.inputs
    assert (given.type, given.shape) == (np.uint8, (-1, 3, 9, 12))
    assert model.signature.outputs.input_names() == list(kept.bundle.classes)
    example = np.asarray(model.load_input_example(version.source))
    assert (example.dtype, example.shape) == (np.uint8, (1, 3, 9, 12))


def test_nothing_is_pickled_and_nothing_but_the_runtime_is_required(kept):
    kept.register("plain")
    folder = Path(kept.champion("plain").source)
    for path in files(folder):
        assert path.suffix not in (".pkl", ".pickle", ".joblib")
        assert path.read_bytes()[:1] != b"\x80", path  # how a pickle begins
        if path.suffix in (".yaml", ".txt") or path.name == "MLmodel":
            assert "pickle" not in path.read_text()
    required = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in required] == [
        "mlflow",
        "onnxruntime",
        "numpy",
        "pillow",
    ]


def test_the_next_version_takes_the_alias_and_keeps_a_description_of_one_s_own(kept):
    assert kept.register("two") == "1"
    kept.client.update_registered_model("two", "My own words")
    assert kept.register("two") == "2"
    assert int(kept.champion("two").version) == 2
    assert kept.client.get_registered_model("two").description == "My own words"
    assert len(kept.client.search_model_versions("name = 'two'")) == 2


def test_the_model_gives_the_network_s_probabilities_by_label_and_needs_no_zostudy(kept):
    kept.register("alone")
    folder = Path(kept.champion("alone").source)
    np.save(kept.folder.parent / "noise.npy", noise(3).numpy())
    program = f"""
import json, sys
sys.path = [{str(folder / "code")!r}] + [p for p in sys.path if p != {str(Path.cwd())!r}]
import numpy, mlflow_loader
model = mlflow_loader._load_pyfunc({str(folder / "data" / "bundle")!r})
found = model.predict(numpy.load({str(kept.folder.parent / "noise.npy")!r}))
assert not {{"zostudy", "mlflow", "torch", "pandas", "preprocess"}} & set(sys.modules)
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [list(row) for row in found] == [list(kept.bundle.classes)] * 3
    wanted = probabilities(kept.bundle, noise(3)).numpy()
    np.testing.assert_allclose([list(row.values()) for row in found], wanted, atol=1e-5)


def test_the_loader_leaves_other_modules_alone_and_notices_a_changed_byte(
    kept, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "predict", json)
    mlflow_loader._load_pyfunc(str(kept.folder))
    assert sys.modules["predict"] is json
    assert "preprocess" not in sys.modules
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in files(kept.folder):
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "labels.json").write_text('["dog", "cat", "cow"]')
    with pytest.raises(RuntimeError, match=r"not as it was written: labels\.json"):
        mlflow_loader._load_pyfunc(str(copy))


@pytest.mark.parametrize("lost", [False, True], ids=["not done", "done and not answered"])
@pytest.mark.parametrize(
    ("step", "there"),
    [
        ("log_model_artifacts", False),
        ("finalize_logged_model", True),
        ("create_registered_model", False),
        ("create_model_version", False),
        ("create_model_version", True),
        ("set_registered_model_alias", False),
        ("set_registered_model_alias", True),
    ],
)
def test_a_registration_that_fails_leaves_nothing(kept, monkeypatch, step, there, lost):
    name = f"fails-{step}-{lost}-{there}"
    if there:
        kept.register(name)
    before, registry = kept.state(), kept.registry(name)
    real, calls = getattr(registry._client, step), []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:
            return real(*arguments, **options)
        if lost:
            real(*arguments, **options)
        raise MlflowException("the disk is full")

    monkeypatch.setattr(registry._client, step, failing)
    with pytest.raises(TrialError, match=f"does not take the model '{name}' .*disk is full"):
        register(kept.folder, registry)
    assert calls
    assert kept.state() == before


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a@b", "..", "-x", "é", "a\nb", "x" * 201])
def test_what_cannot_be_a_name_is_refused(kept, name):
    with pytest.raises(
        ConfigError, match=r"^--register: .* is no name of a model; allowed: "
    ) as no:
        kept.registry(name)
    assert "\n" not in str(no.value)


def test_a_store_without_the_run_or_away_is_told(kept, tmp_path):
    with pytest.raises(ConfigError, match="does not hold the trial's run 'gone'"):
        Registry(kept.uri, "ablation", "m", "gone")
    with pytest.raises(ConfigError, match="does not hold the trial's run"):
        Registry(f"sqlite:///{tmp_path}/new.db", "ablation", "m", kept.run)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreAwayError, match="cannot be reached"):
        Registry(f"http://127.0.0.1:{free_port()}", "ablation", "m", kept.run)


def test_a_server_takes_a_bundle(server, tmp_path):
    kept = Kept(tmp_path, f"http://127.0.0.1:{server[0]}")
    assert [kept.register("served"), kept.register("served")] == ["1", "2"]
    version = kept.champion("served")
    assert version.run_id == kept.run
    place = kept.client.get_model_version_download_uri("served", version.version)
    assert place.startswith("mlflow-artifacts:/")
