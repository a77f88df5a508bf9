"""What steps cost on this machine: what stored results took, and how the last runs ended."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tasks.runtime import paths
from tasks.store import content_store
from transfer.arms.budget_policy import Cost
from transfer.core.atomic_files import write_atomic
from transfer.modalities.interface import InputSpec
from transfer.settings.project import Settings

TRIAL = (4, 16)
"""Steps of the two short trainings that tell what one step costs."""
LATEST = 9
"""Stored results that are asked, the latest ones."""

Kind = tuple[str, str]
"""A method, and the backbone it works on."""


def of_arms(settings: Settings, spec: InputSpec) -> dict[Kind, Cost]:
    """By method and backbone, what a step of an arm of this target took: of all its folds."""
    own = settings.backbone.body.model_dump(mode="json")
    found: dict[Kind, list[float]] = {}
    for card, seconds in _stored("adapt"):
        (member,) = card["members"]
        body, steps = member["body"], member["steps"]
        alike = card["target"] == settings.target.label and card["spec"] == spec.model_dump()
        if alike and steps > TRIAL[-1] and (body["name"] != own["name"] or body == own):
            kind = (member["arm"].partition("/")[0], body["name"])
            found.setdefault(kind, []).append(seconds / steps)
    return {kind: Cost(0.0, median(steps[:LATEST])) for kind, steps in found.items()}


def of_bodies(settings: Settings) -> dict[str, Cost]:
    """By source, what a step of its pretraining took."""
    own, found = settings.backbone.body.model_dump(mode="json"), dict[str, list[float]]()
    for card, seconds in _stored("pretrain"):
        if card["body"] == own and card["steps"] > TRIAL[-1]:
            found.setdefault(card["source"], []).append(seconds / card["steps"])
    return {name: Cost(0.0, median(steps[:LATEST])) for name, steps in found.items()}


def _stored(step: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Card and seconds of every stored result of a step, the latest first."""
    records = (paths.BUILD / step).glob(f"*/{content_store.RECORD}")
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            card = json.loads((record.parent / "card.json").read_text())
            yield card, float(json.loads(record.read_text())["seconds"])
        except (OSError, ValueError, LookupError):  # a damaged result is made anew when needed
            continue


@dataclass(frozen=True)
class Ending:
    """What a run does once its arms are trained: choose, evaluate, draw, track, judge, report."""

    base: float
    """Seconds, however many arms there are."""
    each: float
    """More seconds for each arm."""

    def at(self, arms: int) -> float:
        """Seconds with so many arms."""
        return self.base + self.each * arms


def endings(promote: bool) -> list[Ending]:
    """How the last runs that computed something ended."""
    return [Ending(*told) for told in _told().get(_name(promote), [])]


def note(ending: Ending, promote: bool) -> None:
    """Remember how a run ended; the last three are kept."""
    told = _told()
    rows = [*told.get(_name(promote), []), [round(ending.base, 2), round(ending.each, 3)]]
    text = json.dumps({**told, _name(promote): rows[-3:]}, indent=1)
    write_atomic(_file(), text.encode())


def _file() -> Path:
    return paths.BUILD / "pace.json"


def _name(promote: bool) -> str:
    return "promoted" if promote else "reported"


def _told() -> dict[str, list[list[float]]]:
    try:
        told: dict[str, list[list[float]]] = json.loads(_file().read_text())
        return {name: [[float(b), float(e)] for b, e in rows] for name, rows in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
