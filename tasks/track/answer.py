"""Ask a registered model in a process of its own; `tasks.track.load_back` starts it.

Run by its path and without the project on the module path: what answers is what the version
carries. The standard input is a JSON object with model, files, arrays and answer.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def main() -> None:
    """Load the model, ask it, and write its probabilities."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    question = json.load(sys.stdin)
    model = mlflow.pyfunc.load_model(question["model"], suppress_warnings=True)
    answers: dict[str, Any] = {}
    if question["files"] is not None:
        answers["files"] = probabilities(model.predict([Path(f) for f in question["files"]]))
    if question["arrays"] is not None:
        answers["arrays"] = probabilities(model.predict(np.load(question["arrays"])))
    np.savez(question["answer"], **answers)


def probabilities(answers: list[dict[str, Any]]) -> NDArray[np.float32]:
    """The columns (N, K) that the answers hold, in the model's order of classes."""
    return np.array([list(one["probabilities"].values()) for one in answers], np.float32)


if __name__ == "__main__":
    main()
    os._exit(0)  # taking torch and MLflow down in order costs 0.8 s
