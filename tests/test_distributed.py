"""The files in docs/distributed: whether they say what the programs in them take."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from sqlalchemy.engine import make_url

from zostudy import cli
from zostudy.config.loading import from_document

FOLDER = Path(__file__).parent.parent / "docs" / "distributed"


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def parsed(arguments: list[str]) -> dict:
    """What zostudy's command line reads in arguments; it refuses what it does not know."""
    program = typer.main.get_command(cli.app)
    command = program.commands[arguments[0]]
    return command.make_context(arguments[0], arguments[1:]).params


def test_workers_are_started_as_the_command_line_takes_it(compose):
    program, *arguments = compose["services"]["worker"]["command"]
    found = parsed(arguments)
    assert program == "zostudy"
    assert (found["study"].name, found["device"]) == ("study.yaml", "auto")
    from_document({"study": "s", "storage": {"optuna": found["storage"]}})
    assert found["tracking_uri"] == "http://mlflow:5000"


@pytest.mark.filterwarnings("ignore:.*AnyType")  # where MLflow is imported
def test_mlflow_is_started_as_it_takes_it(compose):
    from mlflow.cli import server

    program, name, *arguments = compose["services"]["mlflow"]["command"]
    assert (program, name) == ("mlflow", "server")
    found = server.make_context("server", arguments).params
    assert found["port"] == 5000
    assert found["allowed_hosts"].split(",")[0] == "mlflow:5000"  # as workers call it


def test_optuna_and_mlflow_have_a_database_each_that_is_made(compose):
    services = compose["services"]
    optuna = make_url(parsed(services["worker"]["command"][1:])["storage"])
    (uri,) = (a for a in services["mlflow"]["command"] if a.startswith("--backend-store-uri="))
    mlflow = make_url(uri.partition("=")[2])
    settings = services["postgres"]["environment"]
    assert settings["POSTGRES_DB"] == optuna.database
    assert f"CREATE DATABASE {mlflow.database};" in (FOLDER / "databases.sql").read_text()
    for url in (optuna, mlflow):
        assert (url.host, url.username, url.password) == (
            "postgres",
            settings["POSTGRES_USER"],
            None,
        )


def test_nothing_is_open_to_the_world_and_no_password_is_written_down(compose):
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["secrets"] == ["postgres_password"]
        assert not any("PASSWORD" in name for name in service.get("environment", {}) if
                       name != "POSTGRES_PASSWORD_FILE")  # fmt: skip
    assert "postgres_password" in (FOLDER.parent.parent / ".gitignore").read_text()


def test_every_file_and_volume_that_is_named_is_there(compose):
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            made_by_user = source == "./study.yaml"
            assert source in compose["volumes"] or (FOLDER / source).exists() or made_by_user
    build = compose["services"]["mlflow"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).exists()
    text = (FOLDER / "Dockerfile").read_text()
    root = FOLDER.parent.parent
    for line in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        assert all((root / name).exists() for name in line.split())


def test_a_worker_waits_until_the_servers_are_there(compose):
    for name, needed in (("mlflow", {"postgres"}), ("worker", {"postgres", "mlflow"})):
        waits = compose["services"][name]["depends_on"]
        assert {n for n, c in waits.items() if c == {"condition": "service_healthy"}} == needed
        assert all("healthcheck" in compose["services"][n] for n in needed)


def test_the_password_reaches_the_program_from_the_secret_only():
    script = (FOLDER / "with-password").read_text()
    done = subprocess.run(
        ["sh", "-c", script, "with-password", "sh", "-c", "echo ${PGPASSWORD:-none}"],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout == "none\n"


def test_the_commands_of_the_text_are_those_of_the_command_line():
    text = (FOLDER.parent / "DISTRIBUTED.md").read_text()
    lines = re.findall(r"^(?:    )?zostudy (.+)$", text, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        parsed(shlex.split(line))
