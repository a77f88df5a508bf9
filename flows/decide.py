"""From a registered version to a decision: judge, ask a person if one is wanted, settle, tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.runtime.actor import who
from flows.runtime.approve import consent
from flows.runtime.notify import tell
from tasks.registry.judge import judge
from tasks.registry.promote import Outcome, settle
from tasks.runtime.artifacts import Dataset
from tasks.runtime.step import log
from transfer.core.errors import ChampionChangedError
from transfer.settings.project import Settings

ATTEMPTS = 3


def decide(
    name: str,
    version: int,
    evaluated: Path,
    target: Dataset,
    record: Mapping[str, Any],
    settings: Settings,
    forced_reason: str | None = None,
) -> Outcome:
    """Judge a version against the champion of today, and promote or refuse it.

    When another version becomes champion between judging and promoting, it is judged again.

    Raises:
        ChampionChangedError: that happened three times.
    """
    for attempt in range(1, ATTEMPTS + 1):
        judged = judge(
            name, version, evaluated, target, record, settings.promote, settings.evaluate
        )
        said = consent(judged, settings.promote)
        try:
            outcome: Outcome = settle(judged, who(), said, forced_reason)
            break
        except ChampionChangedError as error:
            if attempt == ATTEMPTS:
                raise
            log.warning("%s; judging again", error)
    if not judged.unchanged:
        told = {"model": name, "version": version, "reasons": outcome.reasons}
        tell("promoted" if outcome.promoted else "refused", target.name, told, settings.notify)
    return outcome
