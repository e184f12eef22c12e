"""MLflow's page of a store, on this machine only."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

from zostudy.errors import ConfigError
from zostudy.redaction import without_password
from zostudy.study.delivery.mlflow_store import is_server
from zostudy.study.tracking.runs import resolved_uri


def run_ui(uri: str, port: int) -> int:
    """Serve MLflow's page of a store on 127.0.0.1 until Ctrl-C.

    Args:
        uri: As in a study file's ``tracking.uri``.
        port: Port to listen on.

    Returns:
        Exit code: 0 after Ctrl-C, else the server's own.

    Raises:
        ConfigError: The URI is a server already, or the port is taken.
    """
    uri = resolved_uri(uri)
    if is_server(uri):
        raise ConfigError(
            f"tracking.uri: {without_password(uri)!r} is a server already; open it in a browser"
        )
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port: {port} is not free on 127.0.0.1 ({error})") from error
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not an argument: other users can list those
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # A session of its own, so that the server and its workers can be ended together.
    server = subprocess.Popen(
        [*command, "--workers", "1"], env=environment, stdout=sys.stderr, start_new_session=True
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
