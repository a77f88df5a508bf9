"""Ask a registered model in a process of its own; `tasks.track.load_back` starts it.

Run by its path and without the project on the module path: what answers is what the version
carries. The standard input is a JSON object with model, files, arrays and answer.
"""

import json
import logging
import os
import sys

import numpy as np


def main() -> None:
    """Load the model, ask it, and write its probabilities."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    question = json.load(sys.stdin)
    model = mlflow.pyfunc.load_model(question["model"], suppress_warnings=True)
    answers = {}
    if question["files"] is not None:
        answers["files"] = model.predict(question["files"]).to_numpy()
    if question["arrays"] is not None:
        answers["arrays"] = model.predict(np.load(question["arrays"])).to_numpy()
    np.savez(question["answer"], **answers)


if __name__ == "__main__":
    main()
    os._exit(0)  # taking torch and MLflow down in order costs 0.8 s
