"""The history of champions in files: an append-only ledger and the journal of a promotion.

Both are JSON under mlruns/. The ledger has one line for each event id. The journal exists from
before the first step of a promotion until after its last step, so that an interrupted promotion
can be completed. Callers hold the promotion lock.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from tasks.runtime import paths
from transfer.core.atomic_files import fsync, write_atomic
from transfer.core.errors import CrosstrainError

LEDGER = paths.MLRUNS / "ledger.jsonl"
JOURNAL = paths.MLRUNS / "promotion.journal.json"
place = str(JOURNAL)


def read(name: str | None = None) -> list[dict[str, Any]]:
    """Every event, or those of one model, oldest first.

    An incomplete last line, as a power cut may leave it, is ignored.

    Raises:
        CrosstrainError: a complete line is not JSON.
    """
    if not LEDGER.is_file():
        return []
    events = []
    for number, line in enumerate(_complete_lines(LEDGER.read_bytes()), start=1):
        try:
            events.append(json.loads(line))
        except ValueError as error:
            raise CrosstrainError(
                f"line {number} of {LEDGER} is not JSON ({error}); restore it from a copy"
            ) from error
    return [event for event in events if name is None or event["name"] == name]


def append(event: Mapping[str, Any]) -> bool:
    """Add an event and return True; return False if an event with its ``id`` is in the ledger.

    Raises:
        CrosstrainError: the ledger cannot be read.
    """
    if any(earlier["id"] == event["id"] for earlier in read()):
        return False
    LEDGER.parent.mkdir(exist_ok=True)
    line = json.dumps(event, ensure_ascii=False, sort_keys=True) + "\n"
    with LEDGER.open("ab+") as file:
        file.seek(0)
        file.truncate(sum(len(complete) + 1 for complete in _complete_lines(file.read())))
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    fsync(LEDGER.parent)
    return True


def begin(plan: Mapping[str, Any]) -> None:
    """Write the journal completely to disk, before the first step of a plan."""
    write_atomic(JOURNAL, json.dumps(plan).encode())


def interrupted() -> dict[str, Any] | None:
    """The plan that was begun and not finished, if there is one."""
    try:
        plan: dict[str, Any] = json.loads(JOURNAL.read_text())
    except FileNotFoundError:
        return None
    return plan


def finish(plan: Mapping[str, Any]) -> None:
    """Remove the journal, after the last step of its plan; there is only one journal."""
    JOURNAL.unlink()
    fsync(JOURNAL.parent)


def _complete_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]
