"""A local server that speaks S3, on loopback."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.ports import free_port

SECRET = "objects-of-a-secret"
KEYS = {
    "AWS_ACCESS_KEY_ID": "keeper",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def serve() -> Iterator[dict[str, str]]:
    """Start a server; yields the environment variables of its clients."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process)
            yield {**KEYS, "MLFLOW_S3_ENDPOINT_URL": url}
        finally:
            process.terminate()


def make_bucket(environment: dict[str, str], name: str) -> str:
    """A new bucket's address."""
    url = f"{environment['MLFLOW_S3_ENDPOINT_URL']}/{name}"
    httpx.put(url, trust_env=False).raise_for_status()
    return f"s3://{name}"


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            httpx.get(f"{url}/moto-api/", trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"no S3 server at {url} (exit code {process.poll()})")
