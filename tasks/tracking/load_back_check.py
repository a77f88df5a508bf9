"""Loads a registered version in a separate process that does not have this project."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.tracking import files as places
from tasks.tracking.files import MODEL
from transfer.core.errors import ModelFileError
from transfer.modalities import lookup
from transfer.modalities.interface import Modality
from transfer.models.checkpoint import load_card
from transfer.models.predictor import Card

SCRIPT = Path(__file__).with_name("predict_worker.py")
_waiting: "list[subprocess.Popen[str]]" = []


@dataclass(frozen=True)
class Predictions:
    """Predictions of a version in a separate process: probabilities (N, K), or None."""

    files: NDArray[np.float32] | None
    """Of the files; None if no files were given."""
    arrays: NDArray[np.float32] | None
    """Of the arrays; None if no arrays were given."""
    fault: str = ""
    """The error when the first item was sent to MLflow's server; '' without an error."""
    milliseconds: float = 0.0
    """Median time of a request to MLflow's server."""


def start_ahead() -> None:
    """Start the process that the next `load_back` uses, so that its imports run in parallel.

    It has no code of this project, and ends with this process if it is never used.
    """
    if not _waiting:
        _waiting.append(_start())


def load_back(
    name: str,
    version: int,
    files: Sequence[Path] | None = None,
    arrays: NDArray[Any] | None = None,
    timeout: float = 300.0,
) -> Predictions:
    """Let a version predict in a separate process, which has only MLflow and the version's files.

    Args:
        name: registered name.
        version: its number.
        files: decoded by the version itself.
        arrays: items (N, ...) as its modality reads them. Where there are neither files nor arrays,
            the version is asked about one item without content.
        timeout: seconds after which the process is ended.

    Raises:
        ModelFileError: the version does not load, or does not predict.
    """
    with TemporaryDirectory() as scratch, places.fetched(name, version) as model:
        inputs, outputs = Path(scratch, "inputs.npy"), Path(scratch, "outputs.npz")
        card = load_card(model / MODEL, Card)
        modality = lookup.of(card.spec)
        if files is None and arrays is None:
            arrays = modality.blank(card.spec)
        if arrays is not None:
            np.save(inputs, arrays, allow_pickle=False)
        request = {
            "model": str(model),
            "files": None if files is None else [str(path) for path in files],
            "arrays": None if arrays is None else str(inputs),
            "request": json.dumps(_request(modality, files, arrays)),
            "output": str(outputs),
        }
        _predict(f"version {version} of {name}", request, timeout)
        with np.load(outputs, allow_pickle=False) as stored:
            fault, milliseconds = str(stored["fault"]), float(stored["milliseconds"])
            return Predictions(stored.get("files"), stored.get("arrays"), fault, milliseconds)


def _request(
    modality: Modality, files: Sequence[Path] | None, arrays: NDArray[Any] | None
) -> dict[str, Any]:
    """A request of MLflow's server about the first item."""
    if files is None:
        assert arrays is not None
        return {"inputs": arrays[:1].tolist()}
    sent = modality.sent(files[0].read_bytes())
    return {"dataframe_split": {"columns": [modality.column], "data": [[sent]]}}


def _start() -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-P", str(SCRIPT)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def _started_ahead() -> "subprocess.Popen[str] | None":
    """The process that was started ahead; None if there is none, or it has ended."""
    process = _waiting.pop() if _waiting else None
    return None if process is None or process.poll() is not None else process


def _predict(version_name: str, request: Mapping[str, Any], timeout: float) -> None:
    with _started_ahead() or _start() as process:
        try:
            _, errors = process.communicate(json.dumps(request), timeout)
        except BaseException as error:
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ModelFileError(
                    f"{version_name} gave no predictions in {timeout:.0f} s"
                ) from error
            raise
    if process.returncode:
        last_line = (errors.strip() or f"exit code {process.returncode}").splitlines()[-1]
        raise ModelFileError(
            f"{version_name} does not load and predict in a separate process: {last_line}"
        )
