"""Run by the Python of another environment, which has litert-torch and nothing of crosstrain.

    python -I litert_script.py versions
    python -I litert_script.py FOLDER

In FOLDER it finds program.pt2, records.npy and plan.json, and leaves answers.npy and found.json;
the TFLite file goes where the plan says.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("torch", "litert-torch", "ai-edge-litert")
TURNS = 7


def versions() -> dict[str, str]:
    """Versions of what converts."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


def convert(work: Path, file: str) -> None:
    """Write the program as a TFLite file."""
    import litert_torch
    import torch

    program = torch.export.load(work / "program.pt2")
    example = tuple(program.example_inputs[0])
    litert_torch.convert(program.module(), example).export(file)


def asking(file: str, threads: int) -> Callable[[Any], Any]:
    """What answers for one record (1, ...)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=threads)
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def answer(record: Any) -> Any:
        interpreter.set_tensor(given["index"], record)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return answer


def seconds(answer: Callable[[Any], Any], images: Any, batch: int) -> float:
    """Median time of so many records, one after the other."""
    took = []
    for _ in range(TURNS if batch > 1 else 20 * TURNS):
        began = time.perf_counter()
        for i in range(batch):
            answer(images[i % len(images)][None])
        took.append(time.perf_counter() - began)
    return median(took)


def main() -> None:
    """Convert, ask, time."""
    if sys.argv[1] == "versions":
        print(json.dumps(versions()))
        return
    import numpy as np

    work = Path(sys.argv[1])
    plan, images = json.loads((work / "plan.json").read_text()), np.load(work / "records.npy")
    convert(work, plan["file"])
    answer = asking(plan["file"], max(plan["threads"]))
    np.save(work / "answers.npy", np.concatenate([answer(image[None]) for image in images]))
    latencies = [
        {
            "batch": batch,
            "threads": threads,
            "milliseconds": round(1000 * seconds(asking(plan["file"], threads), images, batch), 3),
        }
        for threads in plan["threads"]
        for batch in plan["batches"]
    ]
    (work / "found.json").write_text(json.dumps({"latencies": latencies, "versions": versions()}))


if __name__ == "__main__":
    main()
