import logging

import pytest

from zostudy.redaction import RedactingFormatter, redacted, without_password, without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:s/e@cr@host:1/db", "postgresql+psycopg://me:***@host:1/db"),
        (
            "postgresql://host/db?user=me&password=x&y=1",
            "postgresql://host/db?user=me&password=***&y=1",
        ),
        ("cannot open http://me:secret@host: no", "cannot open http://me:***@host: no"),
        ("'me:secret@host/x' is no URL", "'me:***@host/x' is no URL"),
        ("host=h password=secret user=me", "host=h password=*** user=me"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://127.0.0.1:5000/path", "http://127.0.0.1:5000/path"),
    ],
)
def test_passwords_are_not_shown(text, shown):
    assert without_password(text) == shown


def test_values_keep_their_shape():
    value = {"a": ["x://me:secret@h", 1, None], "b": {"c": True, "d": 0.5}}
    assert without_passwords(value) == {
        "a": ["x://me:***@h", 1, None],
        "b": {"c": True, "d": 0.5},
    }


@pytest.mark.parametrize(
    "name", ["MLFLOW_TRACKING_PASSWORD", "PGPASSWORD", "MLFLOW_TRACKING_TOKEN"]
)
def test_the_value_of_a_secret_variable_is_not_shown(monkeypatch, name):
    monkeypatch.setenv(name, "hunter2")
    assert redacted("login with hunter2 failed") == "login with *** failed"


def test_a_log_shows_no_password_not_even_in_a_traceback(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    try:
        raise OSError("at postgresql://me:secret@host with hunter2")
    except OSError as error:
        record = logging.LogRecord("a", 30, "b", 1, "of %s", ("x://a:secret@b",), None)
        record.exc_info = (OSError, error, error.__traceback__)
    text = RedactingFormatter().format(record)
    assert "Traceback" in text
    assert "x://a:***@b" in text
    assert "secret" not in text.replace('"at postgresql://me:secret@host with hunter2"', "")
    assert "hunter2" not in text
