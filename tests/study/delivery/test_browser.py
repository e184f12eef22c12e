"""MLflow's own page, in a real browser, on runs that the store wrote."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.patience import PATIENCE
from tests.tracked import Tracked
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space
from zostudy.study.pictures.drawing import genotype_figure

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def store(folder):
    """Two finished trials, in the folder's default store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracked = Tracked(folder / ".zostudy", "default", "ablation")
        space = search_space("darts")
        node = (("sep_conv_3x3", 0), ("skip_connect", 1))
        genotype = Genotype(space, dict.fromkeys(space.cell_types, (node,) * space.nodes))
        for number, (level, accuracy) in enumerate([(0.25, 91.75), (0.5, 93.5)]):
            params = {"prune.level": level, "technique": "zero-one-shot"}
            with tracked.trial(f"trial-{number}", f"key{number}", params) as run:
                run.metrics({"validation_accuracy": accuracy})
                run.figure(genotype_figure(genotype), "genotype.png")
                with run.child("search", f"search{number}", {}, {}) as child:
                    child.metrics({"loss": 0.5}, step=1)
        tracked.store.present("Which mask?", ["prune.level"], ["validation_accuracy"])
        yield tracked.store


@pytest.fixture(scope="module")
def server(folder, store):
    """A plain `mlflow ui` in that folder."""
    del store  # it has made the store
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = (folder / "ui.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"],
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(int(10 * PATIENCE)):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)
        log.close()


@pytest.fixture(scope="module")
def page(server):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        expect.set_options(timeout=1000 * PATIENCE)
        page.goto(server)  # the page's scripts are loaded once for all tests
        yield page
        browser.close()


def test_the_table_shows_the_trials_with_their_params_and_metrics(page, store, server):
    page.goto(store.page(server))
    for text in ("trial-0", "trial-1", "0.25", "0.5", "91.75", "93.5", "Which mask?"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    for column in ("prune.level", "validation_accuracy"):
        expect(page.get_by_role("columnheader", name=column).first).to_be_visible()
    expect(page.get_by_text("search", exact=True)).to_have_count(0)  # children are folded away


def test_the_trials_can_be_compared_side_by_side(page, store, server):
    runs = ",".join(f'"{store.newest(key).info.run_id}"' for key in ("key0", "key1"))
    page.goto(f'{server}/#/compare-runs?runs=[{runs}]&experiments=["{store.experiment_id}"]')
    for text in ("trial-0", "trial-1", "zero-one-shot", "91.75", "93.5"):
        expect(page.get_by_text(text, exact=True).first).to_be_attached()


def test_the_artifacts_show_the_genotype_s_picture(page, store, server):
    experiment, run = store.experiment_id, store.newest("key1").info.run_id
    page.goto(f"{server}/#/experiments/{experiment}/runs/{run}/artifacts")
    page.get_by_text("genotype.png", exact=True).click()
    picture = page.locator("img[alt='genotype.png']").first
    expect(picture).to_have_attribute("src", re.compile("^blob:"))
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
