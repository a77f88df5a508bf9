"""The journal of an ingest: what it is about to change, from before the first change to after the
last, so that one that was interrupted can be carried through or taken back.

It lies in ``data/.ingest.partial``, beside the files that wait to be moved; DVC and fingerprints
leave that folder out.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer.core.atomic_files import fsync, write_atomic

FOLDER, LOCK = ".ingest.partial", ".ingest.lock.partial"


def work(root: Path) -> Path:
    """The folder in which an ingest into a data folder works."""
    return root / FOLDER


def begin(root: Path, plan: Mapping[str, Any]) -> None:
    """Write the journal, in full and on disk."""
    write_atomic(work(root) / "journal.json", json.dumps(plan).encode())


def interrupted(root: Path) -> dict[str, Any] | None:
    """The plan that was begun and is not finished, if there is one."""
    try:
        plan: dict[str, Any] = json.loads((work(root) / "journal.json").read_text())
    except FileNotFoundError:
        return None
    return plan


def finish(root: Path) -> None:
    """Remove the journal, after the last change, and then what else lies beside it."""
    (work(root) / "journal.json").unlink(missing_ok=True)
    if work(root).exists():
        fsync(work(root))
        shutil.rmtree(work(root))


def advice(root: Path, dataset: str) -> str:
    """What to do about an ingest that was begun."""
    return (
        f"an ingest into {root / dataset} is under way or was interrupted; wait for it, carry it "
        "through with `crosstrain ingest --resume`, or take it back with `crosstrain ingest "
        "--take-back`"
    )
