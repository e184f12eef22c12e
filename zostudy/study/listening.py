"""A small web server of a command, on one port of this machine."""

import socket
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from zostudy.errors import ConfigError


class Listener(ThreadingHTTPServer):
    """Listens on a port, and has a handler answer.

    Args:
        host: Name or address to listen on.
        port: Port to listen on; 0 for any that is free.
        handler: Answers requests.

    Raises:
        ConfigError: The port is taken, or the host is none of this machine.
    """

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), handler)
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"--port: {port} is not free on {host} ({error})") from error

    def server_bind(self) -> None:
        """Listen, without asking for the name of the host, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if self.address_family == socket.AF_INET6 else str(host)
        return f"http://{name}:{port}"
