"""Decides about a registered version: judge, ask a person if required, promote or refuse."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.runtime.actor import who
from flows.runtime.approve import consent
from flows.runtime.notify import emit_and_notify
from tasks.registry.judge import judge
from tasks.registry.promote import Outcome, promote_or_refuse
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
    """Judge a version against the current champion, and promote or refuse it.

    If another version becomes champion between judging and promoting, it is judged again.

    Raises:
        ChampionChangedError: the champion changed during each of three attempts.
    """
    for attempt in range(1, ATTEMPTS + 1):
        judgement = judge(
            name, version, evaluated, target, record, settings.promote, settings.evaluate
        )
        approval = consent(judgement, settings.promote)
        try:
            outcome: Outcome = promote_or_refuse(judgement, who(), approval, forced_reason)
            break
        except ChampionChangedError as error:
            if attempt == ATTEMPTS:
                raise
            log.warning("%s; judging again", error)
    if not judgement.unchanged:
        payload = {"model": name, "version": version, "reasons": outcome.reasons}
        emit_and_notify(
            "promoted" if outcome.promoted else "refused", target.name, payload, settings.notify
        )
    return outcome
