"""TFLite files, made by the package litert-torch in an environment of its own.

It cannot be installed beside crosstrain: its converter wants an older typing-extensions than
pydantic does. The two exchange torch's own exported program, which the same version
of torch reads on both sides. Shapes: N items, K classes.
"""

import json
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError, SettingsError
from transfer.deployment.export.inference_graph import Whole
from transfer.deployment.export.latency import BATCHES, Latency

SCRIPT = Path(__file__).with_name("litert_script.py")
REQUIREMENTS = "requirements-tflite.txt"
CONTRACT, LABELS = "contract.json", "labels.txt"


@dataclass(frozen=True)
class Written:
    """A TFLite file's answers for the test items, and its latencies."""

    answers: NDArray[np.float32]
    """(N, K)"""
    latencies: tuple[Latency, ...]
    versions: dict[str, str]


def write(
    python: Path,
    whole: Whole,
    file: Path,
    metadata: Mapping[str, str],
    records: NDArray[Any],
    threads: Sequence[int],
) -> Written:
    """Write a network for one item at a time, and predict records with the file.

    The classes (``labels.txt``) and the contract (``contract.json``) are in the file as its
    associated files: it is a ZIP archive too.

    Args:
        python: of the environment that has litert-torch.
        whole: the network.
        file: the file to write.
        metadata: entries of the contract.
        records: (N, ...), as stored, to predict.
        threads: numbers of threads to time it with.

    Raises:
        SettingsError: there is no such Python, or it lacks the package.
        CrosstrainError: the conversion failed; the message has the last lines of its output.
    """
    check(python)
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        program = torch.export.export(whole, (torch.from_numpy(records[:1]),))
        program = program.run_decompositions({})  # in-place operations become plain ones
        torch.export.save(program, work / "program.pt2")
        np.save(work / "records.npy", records)
        plan = {"threads": list(threads), "batches": list(BATCHES), "file": str(file)}
        (work / "plan.json").write_text(json.dumps(plan))
        done = _run(python, str(work))
        if done.returncode:
            last = done.stderr.strip().splitlines()[-8:]
            raise CrosstrainError("litert-torch could not convert the model:\n" + "\n".join(last))
        results = json.loads((work / "found.json").read_text())
        answers = np.load(work / "answers.npy")
    attach(file, metadata)
    return Written(
        answers, tuple(Latency(**entry) for entry in results["latencies"]), results["versions"]
    )


def check(python: Path) -> None:
    """Make sure that a Python can convert.

    Raises:
        SettingsError: it is not there, or lacks the package, or has another torch.
    """
    fault = f"there is no {python}"
    if python.is_file():
        done = _run(python, "versions")
        if not done.returncode and json.loads(done.stdout)["torch"] == _plain(torch.__version__):
            return
        fault = f"{python} reports: {(done.stderr.strip() or done.stdout).splitlines()[-1]}"
    raise SettingsError(
        f"TFLite files are made by litert-torch 0.10 beside torch {_plain(torch.__version__)}, in "
        f"an environment of its own, and {fault}. litert-torch cannot be installed beside "
        "crosstrain: its xdsl 0.28.0 wants typing-extensions below 4.13, and pydantic 2.14 a newer "
        f"one. Make that environment: python -m venv .venv-tflite && .venv-tflite/bin/pip install "
        f"-r {REQUIREMENTS}; or name its Python with --set export.tflite_python=PATH"
    )


def attach(file: Path, metadata: Mapping[str, str]) -> None:
    """Put the contract and the classes into a file, where readers of TFLite look for them."""
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in (
            (CONTRACT, json.dumps(dict(metadata), indent=1, ensure_ascii=False)),
            (LABELS, "\n".join(json.loads(metadata["class_names"])) + "\n"),
        ):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)


def _run(python: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [
        str(python),
        "-I",
        str(SCRIPT),
        *arguments,
    ]  # isolated from this folder
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _plain(version: str) -> str:
    return str(version).partition("+")[0]
