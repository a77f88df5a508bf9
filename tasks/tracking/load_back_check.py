"""Check a registered version as a stranger would: in a fresh process, without this project."""

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
class Answers:
    """What a version answered in a fresh process: probabilities (N, K), None where not asked."""

    files: NDArray[np.float32] | None
    arrays: NDArray[np.float32] | None
    fault: str = ""
    """What went wrong when its first item was sent to MLflow's server; '' nothing."""
    milliseconds: float = 0.0
    """Median time of such a request."""


def expect() -> None:
    """Start the fresh process that the next `load_back` asks, so that it imports meanwhile.

    It has nothing of this project, and ends with this process if it is never asked.
    """
    if not _waiting:
        _waiting.append(_start())


def load_back(
    name: str,
    version: int,
    files: Sequence[Path] | None = None,
    arrays: NDArray[Any] | None = None,
    timeout: float = 300.0,
) -> Answers:
    """Ask a version in a fresh process, which has only MLflow and what the version carries.

    Args:
        name: registered name.
        version: its number.
        files: decoded by the version itself.
        arrays: items (N, ...) as its modality reads them. Where there are neither files nor arrays,
            the version is asked about one item without content.
        timeout: seconds after which the process is ended.

    Raises:
        ModelFileError: the version does not load, or does not answer.
    """
    with TemporaryDirectory() as scratch, places.fetched(name, version) as model:
        asked, answered = Path(scratch, "asked.npy"), Path(scratch, "answered.npz")
        card = load_card(model / MODEL, Card)
        modality = lookup.of(card.spec)
        if files is None and arrays is None:
            arrays = modality.blank(card.spec)
        if arrays is not None:
            np.save(asked, arrays, allow_pickle=False)
        question = {
            "model": str(model),
            "files": None if files is None else [str(path) for path in files],
            "arrays": None if arrays is None else str(asked),
            "request": json.dumps(_request(modality, files, arrays)),
            "answer": str(answered),
        }
        _ask(f"version {version} of {name}", question, timeout)
        with np.load(answered, allow_pickle=False) as answer:
            fault, milliseconds = str(answer["fault"]), float(answer["milliseconds"])
            return Answers(answer.get("files"), answer.get("arrays"), fault, milliseconds)


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


def _expected() -> "subprocess.Popen[str] | None":
    """The process that waits, unless it died meanwhile, which says nothing of a version."""
    process = _waiting.pop() if _waiting else None
    return None if process is None or process.poll() is not None else process


def _ask(what: str, question: Mapping[str, Any], timeout: float) -> None:
    with _expected() or _start() as process:
        try:
            _, errors = process.communicate(json.dumps(question), timeout)
        except BaseException as error:
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ModelFileError(f"{what} gave no answer in {timeout:.0f} s") from error
            raise
    if process.returncode:
        told = (errors.strip() or f"exit code {process.returncode}").splitlines()[-1]
        raise ModelFileError(f"{what} does not load and answer in a fresh process: {told}")
