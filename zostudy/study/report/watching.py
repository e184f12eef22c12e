"""The report of a study on 127.0.0.1, which follows the study while it runs.

The study is looked at again and again; when its results or the trials that run have changed, the
report is made anew, in memory. The page asks for ``/state``, a digest of both, and loads itself
again when that is another one than its own. Looking takes at most a fifth of a processor, however
many trials there are: the pause after a look is four times what it took of one.
"""

import json
import mimetypes
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from zostudy.config.loading import StudyFile, digest
from zostudy.errors import ZostudyError
from zostudy.study.listening import Listener
from zostudy.study.report import page
from zostudy.study.report.practical_table import PracticalTable
from zostudy.study.report.results import Document, document
from zostudy.study.report.trial_pictures import trial_pictures
from zostudy.study.sweep.standings import running

#: Seconds between two looks, at least; and how often the seconds of processor that one took.
_PAUSE, _TIMES = 2.0, 4.0

#: What the first page of a report is called.
_FIRST = "index.html"


@dataclass
class Watch:
    """A study that is followed.

    Attributes:
        file: The study.
        practical: What its differences are in practice, from its results, if that is asked for.
        state: Digest of what the report shows; empty before the first look.
        contents: The report by the names of its files.
    """

    file: StudyFile
    practical: Callable[[Document], PracticalTable | None] = lambda _document: None
    state: str = ""
    contents: Mapping[str, bytes] = field(default_factory=dict)

    def look(self) -> bool:
        """Make the report anew if the study has changed; whether it has.

        Raises:
            ZostudyError: The study cannot be read.
        """
        found, numbers = document(self.file), sorted(running(self.file))
        state = digest([json.loads(json.dumps(found, default=str)), numbers])
        if state == self.state:
            return False
        live = page.Live(state, tuple(numbers))
        seen = trial_pictures(self.file, found)
        self.contents = page.contents(self.file, found, seen, self.practical(found), live)
        self.state = state  # last: whoever asks for it then finds the report that belongs to it
        return True

    def follow(self, say: Callable[[str], None]) -> None:
        """Look again and again, until this is interrupted.

        Args:
            say: Is told once when the study cannot be read, and when it can be again.
        """
        trouble, took = "", 0.0
        while True:
            time.sleep(max(_PAUSE, _TIMES * took))
            began = time.process_time()
            try:
                self.look()
                now = ""
            except ZostudyError as error:
                now = f"the page stays as it was: {error}"
            if now != trouble:
                say(now or "the study can be read again")
            trouble, took = now, time.process_time() - began


class Server(Listener):
    """Serves a study that is followed, on 127.0.0.1 alone.

    Args:
        watch: The study.
        port: Port to listen on; 0 for any that is free.

    Raises:
        ConfigError: The port is taken.
    """

    daemon_threads = True

    def __init__(self, watch: Watch, port: int) -> None:
        self.watch = watch
        super().__init__("127.0.0.1", port, _Handler)

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers requests for the page, what lies beside it, and the state."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "zostudy", ""
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        watch = self.server.watch
        name = self.path.partition("?")[0].removeprefix("/") or _FIRST
        if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            # a page from elsewhere whose name was made to mean this machine
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "only 127.0.0.1 is served")
        elif name == "state":
            self._send("text/plain", watch.state.encode())
        elif name in watch.contents:
            kind = mimetypes.guess_type(name)[0] or "text/plain"
            text = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
            self._send(text, watch.contents[name])
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "is not part of the report")

    do_HEAD = do_GET  # noqa: N815  # as http.server has it

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # as http.server has it
        """Say nothing of requests."""
