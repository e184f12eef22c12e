"""The report that follows a study: a real command, a real study beside it, and a real browser."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import time

import pytest

from tests import browser
from tests.commands import environment, here, line
from tests.patience import PATIENCE
from tests.study.trial.test_splits import SMALL
from tests.study.trial.tiny import run, write
from zostudy.config.loading import load
from zostudy.errors import ConfigError
from zostudy.study.report import watching
from zostudy.study.report.watching import Server, Watch


@contextlib.contextmanager
def watched(folder, *arguments):
    """The process of the command, and the port on which it listens."""
    command = line("report", "study.yaml", "--watch", "--port", 0, *arguments)
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said = process.stderr.readline()
            yield process, int(re.search(r"open http://127\.0\.0\.1:(\d+);", said).group(1))
        finally:
            process.kill()


def asked(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


@pytest.mark.slow
def test_the_page_follows_a_study_that_is_run_beside_it(tmp_path):
    write(tmp_path, **SMALL)
    with watched(tmp_path, "--rope", 0.5) as (process, port):
        _, _, before = asked(port, "/state")
        status, kind, page = asked(port)
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert "no trial was run yet" in page
        assert before in page
        assert "Within ±0.5 points" in page
        run(tmp_path)
        until(lambda: "4 complete" in asked(port)[2])
        assert asked(port, "/state")[2] != before
        assert asked(port, "/points.csv")[2].startswith("prune.xi,n,")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


@pytest.fixture
def served(tmp_path):
    write(tmp_path)
    watch = Watch(load(tmp_path / "study.yaml"))
    watch.look()
    with Server(watch, 0) as server:
        yield watch, server.server_address[1]


def test_only_what_belongs_to_the_report_is_served_and_only_to_this_machine(served):
    _, port = served
    for path in ("/study.yaml", "/../study.yaml", "/nothing"):
        assert asked(port, path)[0] == 404
    assert asked(port, "/?again")[0] == 200
    assert asked(port, "/", "HEAD") == (200, "text/html; charset=utf-8", "")
    assert asked(port, "/", "POST")[0] == 501
    assert asked(port, "/", Host="evil.example:80")[0] == 421
    assert asked(port, "/", Host=f"localhost:{port}")[0] == 200


def test_a_look_at_a_study_that_has_not_changed_makes_nothing(served):
    watch, _ = served
    held = watch.contents
    assert not watch.look()
    assert watch.contents is held


def test_a_study_that_cannot_be_read_leaves_the_page_as_it_was_and_is_said_once(
    served, monkeypatch
):
    watch, port = served
    page, said, looks = asked(port)[2], [], []

    class EnoughError(Exception):
        pass

    def found(_file):
        looks.append(None)
        if len(looks) < 3:
            raise ConfigError("storage: is locked")
        if len(looks) > 4:
            raise EnoughError
        return {"trials": [], "points": [], "pareto": [], "best": None, "study": "tiny"}

    monkeypatch.setattr(watching, "document", found)
    monkeypatch.setattr(watching, "_PAUSE", 0.0)
    monkeypatch.setattr(watching, "_TIMES", 0.0)
    with pytest.raises(EnoughError):
        watch.follow(said.append)
    assert said == [
        "the page stays as it was: storage: is locked",
        "the study can be read again",
    ]
    assert asked(port)[2] == page


def test_what_has_no_effect_or_cannot_be_listened_on_is_refused(tmp_path):
    write(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = here(tmp_path, "report", "study.yaml", "--watch", "--port", port)
    assert done.code == 2
    assert done.err.startswith(f"error: --port: {port} is not free on 127.0.0.1")
    for option in (["--json"], ["--force"], ["--output", "x"]):
        done = here(tmp_path, "report", "study.yaml", "--watch", *option)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"error: {option[0]}: has no effect with --watch")
    assert here(tmp_path, "report", "--table", "x.csv", "--watch").code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.yaml"]


@pytest.mark.browser
@browser.needed
def test_a_browser_loads_the_page_again_by_itself_and_keeps_what_was_open(served, monkeypatch):
    from playwright.sync_api import expect, sync_playwright

    watch, port = served
    results = {
        "study": "tiny",
        "points": [{"params": {}, "n": 1, "metrics": {}}],
        "pareto": [],
        "best": None,
        "trials": [
            {
                "number": n,
                "state": "failed",
                "reason": "it was lost",
                "params": {},
                "seed": n,
                "metrics": {},
                "genotype": None,
                "mlflow_run_id": None,
            }
            for n in range(2)
        ],
    }
    half = results | {"trials": results["trials"][:1]}
    given = [half]
    monkeypatch.setattr(watching, "document", lambda _file: given[0])
    monkeypatch.setattr(watching, "running", lambda _file: {1})
    watch.look()
    said = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser._CHROMIUM, args=["--no-sandbox"]
        )
        page = chromium.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#live")).to_contain_text("Running now: trial 1.")
        expect(page.locator("details")).to_have_count(1)
        page.locator("details summary").click()
        given[0] = results
        watch.look()
        expect(page.locator("details")).to_have_count(2, timeout=PATIENCE * 1000)
        assert page.locator("details").nth(0).evaluate("one => one.open")
        assert not page.locator("details").nth(1).evaluate("one => one.open")
        chromium.close()
    assert said == []
