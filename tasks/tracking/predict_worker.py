"""Predicts with a registered model in a separate process; see `tasks.tracking.load_back_check`.

It is run by its path, without the project on the module path: only the code in the version is
used. Standard input is a JSON object with model, files, arrays, request and output. Slow imports
are done before it is read. Empty input means that no prediction is needed.
"""

import asyncio
import gc
import json
import logging
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

REQUESTS = 20  # after a first one, which warms up


def main() -> None:
    """Load the model, let it predict, and write its probabilities."""
    gc.disable()  # imports create no garbage
    import mlflow
    import torch  # noqa: F401  every version uses it
    from mlflow.pyfunc import scoring_server  # noqa: F401

    gc.enable()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    if not (text := sys.stdin.read()):
        return
    job = json.loads(text)
    model = mlflow.pyfunc.load_model(job["model"], suppress_warnings=True)
    answers: dict[str, Any] = {}
    if job["files"] is not None:
        answers["files"] = probabilities(model.predict([Path(f) for f in job["files"]]))
    if job["arrays"] is not None:
        answers["arrays"] = probabilities(model.predict(np.load(job["arrays"])))
    answers["fault"], answers["milliseconds"] = asyncio.run(_serve(model, job["request"]))
    np.savez(job["output"], **answers)


def probabilities(answers: list[dict[str, Any]]) -> NDArray[np.float32]:
    """Probabilities (N, K) of the answers, in the model's order of classes."""
    return np.array([list(answer["probabilities"].values()) for answer in answers], np.float32)


async def _serve(model: Any, request: str) -> tuple[str, float]:
    """Send requests to MLflow's server, without a socket; the error and the median time in ms."""
    import httpx
    from mlflow.pyfunc import scoring_server

    transport = httpx.ASGITransport(scoring_server.init(model))
    seconds = []
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
        for _ in range(1 + REQUESTS):
            start = time.perf_counter()
            response = await client.post(
                "/invocations", content=request, headers={"Content-Type": "application/json"}
            )
            seconds.append(time.perf_counter() - start)
            if response.status_code != 200 or len(response.json()["predictions"]) != 1:
                return f"answered {response.status_code}: {response.text[:200]}", 0.0
    return "", 1000 * statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
    os._exit(0)  # taking torch and MLflow down in order costs 0.8 s
