"""A Prefect server for the runs of one process, if PREFECT_API_URL is not set.

Prefect's own temporary server survives a killed run, and Ctrl-C in a terminal ends it before the
run can report its end. This server ignores signals of the terminal, and stops when the process
that started it has ended in any way.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from tasks.runtime import gc_tuning
from tasks.runtime.redaction import hide
from transfer.core.errors import CrosstrainError, SettingsError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds
SHUTDOWN_DELAY = 2.0  # seconds in which the server stores the last states of the run


@dataclass(frozen=True)
class _OwnServer:
    """A server that this process has started; its standard input closes when this process ends."""

    url: str
    child: "subprocess.Popen[bytes]"
    errors: IO[bytes]


def begin() -> None:
    """Start a server in the background, if PREFECT_API_URL is not set."""
    if not os.environ.get("PREFECT_API_URL"):
        _own_server()


def address() -> str:
    """Address of the API: PREFECT_API_URL, or that of a server that ends with this process.

    Raises:
        CrosstrainError: no server answers at PREFECT_API_URL, or none can be started.
        SettingsError: the server at PREFECT_API_URL requires another user and password.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if url is None:
        return _url_when_ready(_own_server())
    with get_client(sync_client=True) as client:
        if (fault := client.api_healthcheck()) is not None:
            raise CrosstrainError(
                f"no Prefect server answers at PREFECT_API_URL={hide(url)} ({fault}); start it, "
                "for example with `crosstrain ui`, or unset PREFECT_API_URL"
            )
        _check_password(client, hide(url))
    return str(url)


def _check_password(client: "SyncPrefectClient", shown_url: str) -> None:
    """Check the password: the health check needs none, so another request is sent."""
    import httpx

    try:
        client.hello()
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        if code not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise CrosstrainError(f"the Prefect server at {shown_url} answers {code}") from error
        raise SettingsError(
            f"the Prefect server at {shown_url} refused the user and password (it answers {code}); "
            "set PREFECT_API_AUTH_STRING=user:password"
        ) from error


@cache
def _own_server() -> _OwnServer:
    """Start the server, once in a process."""
    errors = TemporaryFile()  # noqa: SIM115  open as long as the server may write to it
    with socket.create_server((HOST, 0)) as listening:
        # Only the child keeps the socket open: a connection waits for its answer, and fails at once
        # when the child has ended.
        inherited = {k: v for k, v in os.environ.items() if k != "PREFECT_SERVER_API_AUTH_STRING"}
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.runtime.local_prefect", str(listening.fileno())],
            env=inherited | {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        return _OwnServer(f"http://{HOST}:{listening.getsockname()[1]}/api", child, errors)


def _url_when_ready(own: _OwnServer) -> str:
    import httpx
    from prefect.settings import PREFECT_HOME

    try:
        httpx.get(f"{own.url}/health", timeout=START_TIMEOUT, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        own.child.kill()
        own.child.wait()
        own.errors.seek(0)
        lines = own.errors.read().decode(errors="replace").splitlines()
        error_line = next((line for line in reversed(lines) if "Error" in line), str(error))
        raise CrosstrainError(
            f"Prefect's server did not start ({error_line}); if its database is damaged, delete "
            f"{PREFECT_HOME.value()}, which contains only the history of runs"
        ) from error
    return own.url


def main() -> None:
    """Serve Prefect's API on an inherited socket until standard input closes.

    Only one server starts at a time: two that migrate a new database together damage it.
    """
    gc_tuning.raise_threshold()
    import uvicorn
    from filelock import FileLock
    from prefect.settings import PREFECT_HOME

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            PREFECT_HOME.value().mkdir(parents=True, exist_ok=True)
            with FileLock(PREFECT_HOME.value() / ".start.lock"):
                await super().startup(sockets)
            gc_tuning.restore_threshold()

    config = uvicorn.Config(
        "prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on"
    )
    server = Server(config)

    def stop_with_parent() -> None:
        sys.stdin.read()
        time.sleep(SHUTDOWN_DELAY)
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
