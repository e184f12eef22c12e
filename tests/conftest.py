import os
import signal
import tempfile
from pathlib import Path

from zostudy import host

host.wait_briefly(os.environ)  # threads wait as the program's do, which torch reads when it loads

# What starts the tests in the background may have them ignore interrupts. Processes that a test starts
# and interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# isort: split
import pytest
import torch
from hypothesis import HealthCheck, settings

from benchmarks.servers import free_port, mlflow_server
from benchmarks.servers import postgresql as postgresql_server
from tests.stores import make_tables_once
from zostudy.config.settings import DatasetSettings
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures

# Properties hold on a slow machine too, however long an example takes there.
settings.register_profile("zostudy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zostudy")


torch.set_num_threads(1)  # also while a module's fixtures are made


@pytest.fixture(autouse=True)
def _threads():
    """Tests run on one thread: small tensors, and several tests at a time."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _tables_once():
    """Making MLflow's tables takes seconds: they are made once in a process, and then copied."""
    make_tables_once()


@pytest.fixture
def double():
    """Arithmetic in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pictures(count, side, channels, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    images = torch.randint(0, 256, (count, channels, side, side), generator=generator)
    images[torch.arange(count), :, labels % side] = 255  # something that can be learned
    return Pictures(images.to(torch.uint8), labels)


@pytest.fixture(scope="session")
def small_dataset():
    """Ninety random 8×8 pictures of three classes, each with a bright row of its own."""
    return Dataset(
        name="small",
        classes=("a", "b", "c"),
        train=pictures(90, 8, 1, 3, 0),
        validation=pictures(30, 8, 1, 3, 1),
        test=pictures(30, 8, 1, 3, 2),
        mean=(0.5,),
        std=(0.3,),
        seed=DatasetSettings().seed,
        splits={},
        digest="0" * 64,
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The port of a real MLflow server, and the folder where it keeps everything."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with mlflow_server(folder, port):
        yield port, folder


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a real PostgreSQL server.

    Its files are not in pytest's own folder: another session of pytest, when it starts, takes the
    right to enter that from the server's user.
    """
    with tempfile.TemporaryDirectory() as folder, postgresql_server(Path(folder)) as url:
        yield url
