import pytest
from sqlalchemy.exc import OperationalError

from tests.study.sweep.engine import XI, Engine
from zostudy.errors import ConfigError, ZostudyError
from zostudy.study.report import results
from zostudy.study.sweep import queue


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("optuna.db", r"storage\.optuna: 'optuna\.db' is not allowed: needs a database URL"),
        (
            "nosuch://u@host/db",
            r"storage\.optuna: 'nosuch://u@host/db' is not allowed: needs a dat",
        ),
        (
            "sqlite:////dev/null/optuna.db",
            r"cannot be opened \(it cannot be opened or made; look at",
        ),
    ],
)
def test_a_storage_that_cannot_be_opened_is_an_error(make, url, message):
    with pytest.raises(ConfigError, match=message):
        Engine().run(make(XI, trial={"storage": {"optuna": url}}))


def test_a_storage_that_breaks_ends_the_run_with_its_reason(make, folder):
    def break_storage(*_):
        (folder / "new" / "optuna.db").write_bytes(b"no database" * 1000)

    with pytest.raises(
        ZostudyError,
        match=r"storage\.optuna: sqlite:.*(it is no SQLite file|the file is damaged); ",
    ):
        Engine(break_storage).run(make(XI))


def test_a_storage_that_is_away_for_a_while_is_waited_for(make, monkeypatch):
    file, asked = make(XI), []
    claim = queue.Queue.claim

    def sometimes(self, unit):
        asked.append(unit)
        if len(asked) in (2, 3):
            raise OperationalError("select", {}, OSError("server closed the connection"))
        return claim(self, unit)

    monkeypatch.setattr(queue.Queue, "claim", sometimes)
    assert Engine().run(file).executed == 4
    assert len(asked) == 6


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")
def test_a_study_in_postgresql_stops_and_goes_on_as_in_sqlite(make, postgresql):
    def wrong(point, _):
        return KeyboardInterrupt() if point.values["prune.xi"] == 0.5 else None

    file = make(XI, trial={"study": "elsewhere", "storage": {"optuna": postgresql}})
    with pytest.raises(KeyboardInterrupt):
        Engine(wrong).run(file)
    Engine().run(file)
    document = results.document(file)
    assert [trial["state"] for trial in document["trials"]] == ["complete"] * 4
    plain = make(XI)
    Engine().run(plain)
    assert results.document(plain)["points"] == document["points"]
