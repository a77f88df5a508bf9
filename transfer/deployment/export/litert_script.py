"""Run by the Python of another environment, which has litert-torch but not crosstrain.

    python -I litert_script.py versions
    python -I litert_script.py FOLDER

It reads program.pt2, records.npy and plan.json in FOLDER, and writes answers.npy and found.json
there; the plan names the TFLite file to write.
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
    """Versions of the packages that convert."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


def convert(work: Path, file: str) -> None:
    """Write the program as a TFLite file."""
    import litert_torch
    import torch

    program = torch.export.load(work / "program.pt2")
    example = tuple(program.example_inputs[0])
    litert_torch.convert(program.module(), example).export(file)


def asking(file: str, threads: int) -> Callable[[Any], Any]:
    """A function from one record (1, ...) to its answer."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=threads)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def answer(record: Any) -> Any:
        interpreter.set_tensor(source["index"], record)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return answer


def seconds(answer: Callable[[Any], Any], records: Any, batch: int) -> float:
    """Median time of ``batch`` records, one after the other."""
    took = []
    for _ in range(TURNS if batch > 1 else 20 * TURNS):
        began = time.perf_counter()
        for i in range(batch):
            answer(records[i % len(records)][None])
        took.append(time.perf_counter() - began)
    return median(took)


def main() -> None:
    """Convert the program, predict with the file, and time it."""
    if sys.argv[1] == "versions":
        print(json.dumps(versions()))
        return
    import numpy as np

    work = Path(sys.argv[1])
    plan, records = json.loads((work / "plan.json").read_text()), np.load(work / "records.npy")
    convert(work, plan["file"])
    answer = asking(plan["file"], max(plan["threads"]))
    np.save(work / "answers.npy", np.concatenate([answer(record[None]) for record in records]))
    latencies = [
        {
            "batch": batch,
            "threads": threads,
            "milliseconds": round(1000 * seconds(asking(plan["file"], threads), records, batch), 3),
        }
        for threads in plan["threads"]
        for batch in plan["batches"]
    ]
    (work / "found.json").write_text(json.dumps({"latencies": latencies, "versions": versions()}))


if __name__ == "__main__":
    main()
