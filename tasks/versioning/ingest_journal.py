"""The journal of an ingest: its planned changes, to complete or undo an interrupted ingest.

It exists from before the first change until after the last, in the folder
``data/.ingest.partial``, beside the files that are to be moved. DVC and fingerprints ignore that
folder.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer.core.atomic_files import fsync, write_atomic

FOLDER, LOCK = ".ingest.partial", ".ingest.lock.partial"


def work(root: Path) -> Path:
    """The working folder of an ingest into a data folder."""
    return root / FOLDER


def begin(root: Path, plan: Mapping[str, Any]) -> None:
    """Write the journal completely to disk."""
    write_atomic(work(root) / "journal.json", json.dumps(plan).encode())


def interrupted(root: Path) -> dict[str, Any] | None:
    """The plan that was begun and is not finished, if there is one."""
    try:
        plan: dict[str, Any] = json.loads((work(root) / "journal.json").read_text())
    except FileNotFoundError:
        return None
    return plan


def finish(root: Path) -> None:
    """Remove the journal, after the last change, and then the other files of the ingest."""
    (work(root) / "journal.json").unlink(missing_ok=True)
    if work(root).exists():
        fsync(work(root))
        shutil.rmtree(work(root))


def advice(root: Path, dataset: str) -> str:
    """A message with what to do about an unfinished ingest."""
    return (
        f"an ingest into {root / dataset} is in progress or was interrupted; wait for it, complete "
        "it with `crosstrain ingest --resume`, or undo it with `crosstrain ingest --take-back`"
    )
