"""A proxy before a server that misbehaves on demand."""

import contextlib
import http.client
import http.server
import threading

from tests.patience import PATIENCE


class Proxy:
    """Passes requests on, or not.

    ``mode`` is ``pass``; ``error`` (HTTP 500); ``drop`` (no answer, nothing done); or ``lose``
    (the request is done, its answer is lost, and then every other).
    """

    def __init__(self, target):
        self.mode = "pass"
        self.requests = 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self):
                proxy.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.mode == "drop":
                    self.close_connection = True
                    return
                if proxy.mode == "error":
                    self.send_error(500)
                    return
                answer, content = proxy.passed_on(target, self, body)
                if proxy.mode == "lose" and proxy.requests % 2:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type") or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815  # http.server's names

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def passed_on(self, target, request, body):
        connection = http.client.HTTPConnection("127.0.0.1", target, timeout=PATIENCE)
        with contextlib.closing(connection):
            headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
