"""Prefect's server for runs of one process, where no other is named.

Prefect's own temporary server outlives a killed run, and Ctrl-C in a terminal ends it before the
run could tell it so. This one ignores the terminal, and stops when the process that started it
has ended, however it ended.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from tempfile import TemporaryFile

from transfer.errors import CrosstrainError

HOST = "127.0.0.1"
START = 120.0  # seconds
LAST_WORDS = 2.0  # seconds in which the server writes what the run told it at its end


def address() -> str:
    """Address of the API: of the server in PREFECT_API_URL, or of one that lives as long as this
    process.

    Raises:
        CrosstrainError: no server answers at PREFECT_API_URL, or none can be started.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    named = PREFECT_API_URL.value()
    if named is None:
        return _own()
    with get_client(sync_client=True) as client:
        if (fault := client.api_healthcheck()) is not None:
            raise CrosstrainError(
                f"no Prefect server answers at PREFECT_API_URL={named} ({fault}); start it, for "
                "example with `crosstrain ui`, or unset PREFECT_API_URL"
            )
    return str(named)


@cache
def _own() -> str:
    """Start a server, once in a process."""
    import httpx

    with socket.create_server((HOST, 0)) as listening, TemporaryFile() as errors:
        url = f"http://{HOST}:{listening.getsockname()[1]}/api"
        environment = os.environ | {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(listening.fileno())],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        _ALIVE.append(child)
        listening.close()  # the child's copy remains: a connection fails as soon as it has ended
        try:
            httpx.get(f"{url}/health", timeout=START, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            child.kill()
            child.wait()
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip() or str(error)
            raise CrosstrainError(f"Prefect's server did not start:\n{told[-2000:]}") from error
    return url


_ALIVE: list["subprocess.Popen[bytes]"] = []  # whose standard input ends with this process


def main() -> None:
    """Serve Prefect's API on an inherited socket until the standard input ends."""
    import uvicorn

    config = uvicorn.Config(
        "prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on"
    )
    server = uvicorn.Server(config)

    def stop_with_parent() -> None:
        sys.stdin.read()
        time.sleep(LAST_WORDS)
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
