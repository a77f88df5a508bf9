"""Costs on this machine: of trainings, from stored results, and of the rest of the last runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tasks.runtime import paths
from tasks.store import content_store
from transfer.core.atomic_files import write_atomic
from transfer.modalities.interface import InputSpec
from transfer.settings.project import Settings

LATEST = 3
"""Number of results of a kind, and of runs, that are used: the latest, because a machine's load
changes; more than one, so that a single slow training does not set the expectation."""

Kind = tuple[str, str]
"""A method, and the name of its backbone."""


def arm_steps(settings: Settings, spec: InputSpec) -> dict[Kind, float]:
    """Seconds of one step, in all folds together, of each kind of arm of this target."""
    own = settings.backbone.backbone_spec.model_dump(mode="json")
    seconds: dict[Kind, list[float]] = {}
    for card, taken in _stored("adapt"):
        (member,) = card["members"]
        backbone_spec = member["backbone_spec"]
        alike = card["target"] == settings.target.label and card["spec"] == spec.model_dump()
        if alike and (backbone_spec["name"] != own["name"] or backbone_spec == own):
            kind = (member["arm"].partition("/")[0], backbone_spec["name"])
            seconds.setdefault(kind, []).append(taken / member["steps"])
    return {kind: median(steps[:LATEST]) for kind, steps in seconds.items()}


def pretraining_step(name: str, settings: Settings) -> float | None:
    """Seconds of one step of a pretraining; None where none of this name and backbone is stored."""
    own = settings.backbone.backbone_spec.model_dump(mode="json")
    steps = [
        taken / card["steps"]
        for card, taken in _stored("pretrain")
        if card["backbone_spec"] == own and card["source"] == name
    ]
    return median(steps[:LATEST]) if steps else None


def _stored(step: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Card and seconds of every stored result of a step, the latest first."""
    records = (paths.BUILD / step).glob(f"*/{content_store.RECORD}")
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            card = json.loads((record.parent / "card.json").read_text())
            yield card, float(json.loads(record.read_text())["seconds"])
        except (OSError, ValueError, LookupError):  # a damaged result is computed again when needed
            continue


@dataclass(frozen=True)
class Overhead:
    """Seconds of a run after its trainings: choose, evaluate, draw, track, judge, report."""

    base: float
    """However many arms there are."""
    per_arm: float
    """More for each arm."""

    def seconds(self, arms: int) -> float:
        """With ``arms`` arms."""
        return self.base + self.per_arm * arms

    def times(self, factor: float) -> "Overhead":
        """``factor`` times as long."""
        return Overhead(factor * self.base, factor * self.per_arm)


def overheads(promote: bool) -> list[Overhead]:
    """Of the last runs that computed something."""
    return [Overhead(*row) for row in _rows().get(_name(promote), [])]


def note(overhead: Overhead, promote: bool) -> None:
    """Store the overhead of a run; the latest are kept."""
    _note(_name(promote), overhead.base, overhead.per_arm)


def starts() -> list[float]:
    """Seconds until the last runs with a budget could train, also of those that were refused."""
    return [seconds for seconds, _ in _rows().get("started", [])]


def note_start(seconds: float) -> None:
    """Store how long a run took until it could train; the latest are kept."""
    _note("started", seconds, 0.0)


def _note(name: str, seconds: float, per_arm: float) -> None:
    rows = _rows()
    latest = [*rows.get(name, []), [round(seconds, 2), round(per_arm, 3)]][-LATEST:]
    write_atomic(_file(), json.dumps({**rows, name: latest}, indent=1).encode())


def _file() -> Path:
    return paths.BUILD / "run_overheads.json"


def _name(promote: bool) -> str:
    return "promoted" if promote else "reported"


def _rows() -> dict[str, list[list[float]]]:
    try:
        rows: dict[str, list[list[float]]] = json.loads(_file().read_text())
        return {name: [[float(b), float(e)] for b, e in pairs] for name, pairs in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
