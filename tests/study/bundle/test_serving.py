"""A served bundle, asked by real HTTP requests, and its page in a real browser."""

import contextlib
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.bundles import bundle_of, noise, probabilities
from tests.patience import PATIENCE
from zostudy.study.bundle import serving
from zostudy.study.bundle.export import export
from zostudy.study.bundle.formats import formats
from zostudy.study.bundle.serving import Server, Service

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def bundle():
    return bundle_of()


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("served") / "bundle"
    export(bundle, output, formats("pt2,onnx"))
    return output


@pytest.fixture(scope="module", params=["model.onnx", "model.pt2"])
def program(request):
    return request.param


@contextlib.contextmanager
def running(server):
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def served(folder, program):
    with running(Server(Service(folder, program), "127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def ask(served):
    """Sends a request: status, headers and body."""

    def asked(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(*served.server_address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    return asked


def png(pixels):
    written = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(written, "png")
    return written.getvalue()


def test_a_picture_gets_the_labels_and_probabilities_of_the_network(ask, bundle, program):
    for pixels in noise(3):
        status, headers, body = ask("POST", "/predict", png(pixels))
        assert (status, headers.get_content_type()) == (200, "application/json")
        found = json.loads(body)
        wanted = probabilities(bundle, pixels[None])[0].numpy()
        order = np.argsort(-wanted)
        labels = [row["label"] for row in found["probabilities"]]
        assert labels == [bundle.classes[index] for index in order]
        given = [row["probability"] for row in found["probabilities"]]
        np.testing.assert_allclose(given, wanted[order], atol=1e-5)
        assert (found["label"], found["probability"]) == (labels[0], given[0])
        assert found["program"] == program


def test_requests_at_the_same_time_get_their_own_answers(ask, bundle):
    pictures = noise(12, seed=1)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda pixels: ask("POST", "/predict", png(pixels))[2], pictures))
    wanted = probabilities(bundle, pictures).max(1).values.numpy()
    given = [json.loads(body)["probability"] for body in found]
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_one_connection_serves_several_requests(served):
    connection = http.client.HTTPConnection(*served.server_address, timeout=PATIENCE)
    with contextlib.closing(connection):
        for body, status in ((b"no picture", 422), (png(noise(1)[0]), 200), (b"", 422)):
            connection.request("POST", "/predict", body)
            answer = connection.getresponse()
            assert (answer.status, answer.will_close) == (status, False)
            answer.read()


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("POST", "/predict", b"no picture", {}, 422, "no picture: it is damaged, or in none of"),
        ("POST", "/predict", b"", {}, 422, "no picture: it is empty"),
        ("POST", "/predict", b"--x--", FORM, 415, "a form was sent; allowed: the picture file it"),
        ("POST", "/predict", iter([b"a"]), {}, 411, "the request has no Content-Length"),
        ("GET", "/predict", None, {}, 405, "GET /predict is not served; allowed: POST"),
        ("PUT", "/predict", b"a", {}, 405, "PUT /predict is not served; allowed: POST"),
        ("BREW", "/predict", None, {}, 405, "'BREW' is not served"),
        ("POST", "/", b"a", {}, 405, "POST / is not served; allowed: GET, HEAD"),
        ("GET", "/../labels.json", None, {}, 404, "/../labels.json is not served; allowed: /, "),
    ],
)
def test_what_cannot_be_answered_is_json_too(ask, method, path, body, headers, status, message):
    found, answered, content = ask(method, path, body, headers)
    assert (found, answered.get_content_type()) == (status, "application/json")
    assert json.loads(content)["error"].startswith(message)
    assert ("Allow" in answered) == (status == 405)


def test_a_file_that_is_too_large_is_refused_with_and_without_being_asked_for(ask, served):
    status, _, content = ask("POST", "/predict", bytes(serving.MOST_BYTES + 1))
    text = "the file has 33,554,433 bytes; allowed: at most 33,554,432"
    assert (status, json.loads(content)) == (413, {"error": text})
    with socket.create_connection(served.server_address[:2], PATIENCE) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        # Python words the reason anew in 3.13.
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")


def test_the_page_needs_nothing_from_elsewhere(ask):
    status, headers, content = ask("GET", "/")
    page = content.decode()
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert "ablation, trial 3" in page
    assert "://" not in page
    assert ask("HEAD", "/")[2] == b""


@pytest.fixture(scope="module")
def page(served):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        expect.set_options(timeout=1000 * PATIENCE)
        problems = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(served.url)
        yield page
        browser.close()
    refused = "Failed to load resource: the server responded with a status of 422"
    assert [text for text in problems if not text.startswith(refused)] == []


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_shows_the_classes_of_a_dropped_picture(page, bundle, tmp_path, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    pixels = noise(1, seed=width)[0]
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "picture.png").write_bytes(png(pixels))

    page.locator("input").set_input_files(tmp_path / "text.jpg")
    expect(page.get_by_text("no picture: it is damaged, or in none of")).to_be_visible()
    expect(page.locator("img")).to_be_hidden()
    expect(page.locator("li")).to_have_count(0)

    transfer = page.evaluate_handle(
        "bytes => { const held = new DataTransfer();"
        " held.items.add(new File([Uint8Array.from(bytes)], 'picture.png')); return held; }",
        list(png(pixels)),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("li")).to_have_count(3)
    wanted = probabilities(bundle, pixels[None])[0]
    best = " ".join(bundle.classes[int(wanted.argmax())].split())
    expect(page.locator("li").first).to_contain_text(best)
    expect(page.locator("li").first).to_contain_text(f"{100 * wanted.max():.1f} %")
    expect(page.locator("img")).to_be_visible()
    expect(page.get_by_text("no picture")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert dark == (scheme == "dark")


def started(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "zostudy", "serve", str(folder), *map(str, arguments)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(folder, sent):
    with started(folder, "--port", 0) as process:
        said = process.stderr.readline()
        port = int(said.partition("127.0.0.1:")[2].split()[0])
        assert said == f"{folder}: open http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("POST", "/predict", png(noise(1)[0]))
        assert json.load(connection.getresponse())["program"] == "model.onnx"
        process.send_signal(sent)  # while the connection is open
        out, err = process.communicate(timeout=PATIENCE)
        connection.close()
    assert (process.returncode, out, err) == (0, "", "")
