"""Ask a registered model in a process of its own; `tasks.tracking.load_back` starts it.

Run by its path and without the project on the module path: what answers is what the version
carries. The standard input is a JSON object with model, files, arrays, request and answer; what
takes seconds to import is imported before it is read. Where it ends empty, nothing is wanted any
more.
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
    """Load the model, ask it, and write its probabilities."""
    gc.disable()  # of what is imported nothing is garbage
    import mlflow
    import torch  # noqa: F401  every version computes with it
    from mlflow.pyfunc import scoring_server  # noqa: F401

    gc.enable()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    if not (told := sys.stdin.read()):
        return
    question = json.loads(told)
    model = mlflow.pyfunc.load_model(question["model"], suppress_warnings=True)
    answers: dict[str, Any] = {}
    if question["files"] is not None:
        answers["files"] = probabilities(model.predict([Path(f) for f in question["files"]]))
    if question["arrays"] is not None:
        answers["arrays"] = probabilities(model.predict(np.load(question["arrays"])))
    answers["fault"], answers["milliseconds"] = asyncio.run(_serve(model, question["request"]))
    np.savez(question["answer"], **answers)


def probabilities(answers: list[dict[str, Any]]) -> NDArray[np.float32]:
    """The columns (N, K) that the answers hold, in the model's order of classes."""
    return np.array([list(one["probabilities"].values()) for one in answers], np.float32)


async def _serve(model: Any, request: str) -> tuple[str, float]:
    """Ask MLflow's server, without a socket: what went wrong, and the median time in ms."""
    import httpx
    from mlflow.pyfunc import scoring_server

    transport = httpx.ASGITransport(scoring_server.init(model))
    seconds = []
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
        for _ in range(1 + REQUESTS):
            began = time.perf_counter()
            told = await client.post(
                "/invocations", content=request, headers={"Content-Type": "application/json"}
            )
            seconds.append(time.perf_counter() - began)
            if told.status_code != 200 or len(told.json()["predictions"]) != 1:
                return f"answered {told.status_code}: {told.text[:200]}", 0.0
    return "", 1000 * statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
    os._exit(0)  # taking torch and MLflow down in order costs 0.8 s
