"""A bundle behind HTTP: a page to drop a picture on, and an endpoint that answers with JSON.

``GET /`` is the page. ``POST /predict`` takes a picture file as the body of the request and gives
what the network makes of it. What cannot be answered is JSON too: ``{"error": reason}`` with a
status of 400 and up.
"""

import contextlib
import json
import socket
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from zostudy.data.preprocess import PictureError
from zostudy.study.bundle import reading
from zostudy.study.bundle.predict import Classifier
from zostudy.study.listening import Listener

#: Most bytes of a picture file that is sent.
MOST_BYTES = 32 * 2**20

#: Most bytes of a body that are read although it is refused, so that its sender reads the answer.
_MOST_DISCARDED = 32 * MOST_BYTES

#: Seconds that a client may be silent within a request.
_SILENCE = 60

_PAGE, _ENDPOINT = "/", "/predict"
_METHODS = {_PAGE: ("GET", "HEAD"), _ENDPOINT: ("POST",)}


class Service:
    """The network of a bundle, asked by one request at a time.

    Args:
        bundle: The folder.
        program: File of the program to run; empty for ONNX where it can be run, else torch's.

    Attributes:
        program: File of the program that is run.

    Raises:
        ConfigError: The folder is no bundle or not as it was written, or the program is not in it
            or cannot be run.
    """

    def __init__(self, bundle: Path, program: str = "") -> None:
        self.program = reading.programs(bundle, program)[0]
        self._classifier = Classifier(bundle, self.program)
        # Decoders are kept quiet process-wide, and one call of a program may use every thread.
        self._one_at_a_time = threading.Lock()
        made = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        environment = Environment(
            loader=PackageLoader("zostudy.study.bundle", "templates"), autoescape=True
        )
        self.page = environment.get_template("serve.html").render(
            origin=made["provenance"],
            labels=self._classifier.labels,
            shape=reading.shape(bundle),
            program=self.program,
            most_bytes=MOST_BYTES,
        )

    def answer(self, content: bytes) -> dict[str, Any]:
        """The classes of a picture file with their probabilities, the most probable one first.

        Raises:
            PictureError: It is no picture.
        """
        with tempfile.TemporaryDirectory() as folder, self._one_at_a_time:
            path = Path(folder) / "picture"
            path.write_bytes(content)
            chances = self._classifier.probabilities(self._classifier.read(path)[None])[0]
        order = np.argsort(-chances, kind="stable")
        rows = [
            {"label": self._classifier.labels[index], "probability": float(chances[index])}
            for index in order
        ]
        return {"program": self.program, **rows[0], "probabilities": rows}


class Server(Listener):
    """Serves one bundle.

    Args:
        service: What answers.
        host: Name or address to listen on.
        port: Port to listen on; 0 for any that is free.

    Raises:
        ConfigError: The port is taken, or the host is none of this machine.
    """

    def __init__(self, service: Service, host: str, port: int) -> None:
        self.service = service
        super().__init__(host, port, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "zostudy", ""
    timeout = _SILENCE
    server: Server

    def _page_or_refusal(self) -> None:
        if self._refused():
            return
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.service.page.encode())

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _page_or_refusal  # noqa: N815

    def do_POST(self) -> None:
        if self._refused():
            return
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:  # the client has gone
            self.close_connection = True
            return
        try:
            found = self.server.service.answer(content)
        except PictureError as error:
            self.send_error(HTTPStatus.UNPROCESSABLE_ENTITY, f"no picture: {error}")
            return
        self._send_json(HTTPStatus.OK, found)

    def handle_expect_100(self) -> bool:
        """Ask for the body, unless it would be refused."""
        return not self._refused() and super().handle_expect_100()

    def _refused(self) -> bool:
        """Whether the request was answered, because it is not one that is served."""
        path = self.path.partition("?")[0]
        allowed = _METHODS.get(path)
        if allowed is None:
            self._refuse(
                HTTPStatus.NOT_FOUND, f"{path} is not served; allowed: {_PAGE}, {_ENDPOINT}"
            )
        elif self.command not in allowed:
            text = f"{self.command} {path} is not served; allowed: {', '.join(allowed)}"
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, text)
        elif path == _ENDPOINT:
            return self._body_refused()
        else:
            return False
        return True

    def _body_refused(self) -> bool:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
        elif int(length) > MOST_BYTES:
            text = f"the file has {int(length):,} bytes; allowed: at most {MOST_BYTES:,}"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        elif self.headers.get_content_maintype() == "multipart":
            text = "a form was sent; allowed: the picture file itself as the body of the request"
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        else:
            return False
        return True

    def _refuse(self, code: HTTPStatus, text: str) -> None:
        """Answer with an error, after what the client still sends, and close the connection."""
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        left = int(length) if length.isascii() and length.isdecimal() else 0
        if "Expect" not in self.headers and left <= _MOST_DISCARDED:
            while left and (part := self.rfile.read(min(left, 2**16))):
                left -= len(part)
        self.send_error(code, text)
        self._linger()

    def _linger(self) -> None:
        """Take what is still sent, up to a limit: else the client may lose the answer."""
        self.wfile.flush()
        left = _MOST_DISCARDED
        with contextlib.suppress(OSError):  # it has gone, or says nothing more
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            while left > 0 and (part := self.connection.recv(2**16)):
                left -= len(part)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error as JSON; what http.server itself refuses too."""
        del explain
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command!r} is not served"
            self.close_connection = True
        self._send_json(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def _send_json(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        content = json.dumps(document, ensure_ascii=False).encode()
        self._send(status, "application/json; charset=utf-8", content)

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = _METHODS.get(self.path.partition("?")[0], ())
            self.send_header("Allow", ", ".join(allowed))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing: the client has the answer."""
