"""Move a model's aliases: whole or not at all, one process at a time.

A move is written to the journal as the state it leads to. Every step of it sets a state and
changes none, so a killed move is carried through by doing all of it again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tasks import ledger, track
from transfer.errors import CrosstrainError


@contextmanager
def alone(doing: str) -> Iterator["track.Client"]:
    """Be the one process that moves aliases, after carrying through what another began.

    Raises:
        CrosstrainError: the registry refuses a step.
    """
    with track.lock("promotion"):
        store = track.client()
        with track.refusals(doing):
            if (plan := ledger.interrupted()) is not None:
                run_of(store, plan["event"]["name"], plan["event"]["version"])
                _carry_out(store, plan)
            yield store


def recover() -> None:
    """Carry through a move that a killed process began, if there is one."""
    if ledger.interrupted() is not None:
        with alone("carry through an interrupted promotion"):
            pass


def move(
    store: "track.Client",
    event: Mapping[str, Any],
    aliases: Sequence[tuple[str, int | None]],
    tags: Mapping[str, str],
    blessing: Mapping[str, Any] | None,
) -> None:
    """Set aliases in the order given, tag the version, keep its record, and tell the ledger.

    Args:
        store: what `alone` gave.
        event: a line of the ledger, with id, event, name, version and run_id.
        aliases: each with its version; None leaves an alias as it is.
        tags: of the version.
        blessing: kept as an artifact of the version's run; None keeps nothing.
    """
    plan = {"event": event, "aliases": aliases, "tags": tags, "blessing": blessing}
    ledger.begin(plan)
    _carry_out(store, plan)


def _carry_out(store: "track.Client", plan: Mapping[str, Any]) -> None:
    event = plan["event"]
    name, version = event["name"], event["version"]
    for key, value in plan["tags"].items():
        store.set_model_version_tag(name, str(version), key, value)
    if plan["blessing"] is not None:
        file = f"blessing/version-{version}-{event['event']}.json"
        store.log_text(event["run_id"], json.dumps(plan["blessing"], indent=1), file)
    for alias, target in plan["aliases"]:
        if target is not None:
            store.set_registered_model_alias(name, alias, str(target))
    ledger.append(event)
    ledger.finish()


def aliases_of(store: "track.Client", name: str) -> dict[str, int]:
    """Every alias of a model, to its version; empty when there is no such model."""
    found = store.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for alias, version in found[0].aliases.items()} if found else {}


def run_of(store: "track.Client", name: str, version: int) -> str:
    """Id of the run that a version belongs to.

    Raises:
        CrosstrainError: there is no such version, or no such run.
    """
    found = store.search_model_versions(f"name = '{name}' and version_number = {version}")
    if not found:
        raise CrosstrainError(
            f"{name} has no version {version}; register it first, and if "
            f"{ledger.JOURNAL} names it, delete that file"
        )
    run: str = store.get_run(found[0].run_id).info.run_id
    return run
