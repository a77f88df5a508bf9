"""Moves a model's aliases: all of them or none, one process at a time.

The journal holds the state after the move. Every step of a move sets an absolute state, so a move
that was killed is completed by running all its steps again.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tasks.registry import file_ledger
from tasks.registry.tag_ledger import Tags
from tasks.tracking import address, connection, locks, sqlite_reader
from transfer.core.errors import CrosstrainError

if TYPE_CHECKING:
    from tasks.tracking.connection import MlflowClient

PATIENCE = 30.0
"""Seconds that another machine has to finish its move where no lock shows if it still runs."""


class Ledger(Protocol):
    """The store of events and of the journal: `tasks.registry.file_ledger`, or
    `tasks.registry.tag_ledger.Tags`."""

    place: str
    """The place of the journal, for messages."""

    def read(self, name: str) -> list[dict[str, Any]]: ...

    def append(self, event: Mapping[str, Any]) -> bool: ...

    def begin(self, plan: Mapping[str, Any]) -> None: ...

    def interrupted(self) -> dict[str, Any] | None: ...

    def finish(self, plan: Mapping[str, Any]) -> None: ...


def ledger() -> Ledger:
    """The ledger: files beside the project's own store, tags in a store that machines may share."""
    return file_ledger if address.is_own() else Tags(connection.client())


@contextmanager
def exclusive(doing: str) -> Iterator["MlflowClient"]:
    """Hold the promotion lock, after completing the move of a process that was killed.

    Raises:
        CrosstrainError: the registry refuses a step.
    """
    with connection.translated_errors(doing), locks.lock("promotion"):
        store = connection.client()
        if (plan := _abandoned_plan(ledger())) is not None:
            run_of(store, plan["event"]["name"], plan["event"]["version"])
            _complete(store, plan)
        yield store


def recover() -> None:
    """Complete a move that a killed process began, if there is one.

    Where no lock shows whether the process still runs, this is left to the next move.

    Raises:
        CrosstrainError: the registry refuses a step.
    """
    doing = "complete an interrupted promotion"
    if not locks.is_everywhere():
        return
    with connection.translated_errors(doing):
        plan = ledger().interrupted()
    if plan is not None:
        with exclusive(doing):
            pass


def history(name: str) -> list[dict[str, Any]]:
    """The events of a model, oldest first, after completing the move of a killed process.

    Raises:
        CrosstrainError: an event cannot be read.
    """
    recover()
    with connection.translated_errors(f"read the history of {name}"):
        return ledger().read(name)


def _abandoned_plan(events: Ledger) -> dict[str, Any] | None:
    """The plan of a move that no process is running any more."""
    plan = events.interrupted()
    end = time.monotonic() + PATIENCE
    while plan is not None and not locks.is_everywhere() and time.monotonic() < end:
        time.sleep(0.5)
        current = events.interrupted()
        if current is None or current["event"]["id"] != plan["event"]["id"]:
            plan, end = current, time.monotonic() + PATIENCE
    return plan


def move(
    store: "MlflowClient",
    event: Mapping[str, Any],
    aliases: Sequence[tuple[str, int | None]],
    tags: Mapping[str, str],
    blessing: Mapping[str, Any] | None,
) -> None:
    """Set aliases in the given order, tag the version, keep its record, and add it to the ledger.

    Args:
        store: the client that `exclusive` yields.
        event: a line of the ledger, with id, event, name, version and run_id.
        aliases: each with its version; None leaves an alias as it is.
        tags: of the version.
        blessing: kept as an artifact of the version's run; None keeps nothing.
    """
    plan = {"event": event, "aliases": aliases, "tags": tags, "blessing": blessing}
    ledger().begin(plan)
    _complete(store, plan)


def _complete(store: "MlflowClient", plan: Mapping[str, Any]) -> None:
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
    events = ledger()
    events.append(event)
    events.finish(plan)


def aliases_of(store: "MlflowClient", name: str) -> dict[str, int]:
    """Every alias of a model, to its version; empty when there is no such model."""
    models = store.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for alias, version in models[0].aliases.items()} if models else {}


def consistent_aliases(name: str) -> dict[str, int]:
    """Every alias of a model, with its version, never in the middle of a move.

    Only in the middle of a move is one version both the champion and the previous one.
    """
    stored = sqlite_reader.aliases(name)
    aliases = aliases_of(connection.client(), name) if stored is None else stored
    champion = aliases.get("champion")
    if champion is None or aliases.get("previous") != champion or not locks.is_everywhere():
        return aliases
    with exclusive(f"read the aliases of {name}") as store:
        return aliases_of(store, name)


def run_of(store: "MlflowClient", name: str, version: int) -> str:
    """Id of the run that a version belongs to.

    Raises:
        CrosstrainError: there is no such version, or no such run.
    """
    versions = store.search_model_versions(f"name = '{name}' and version_number = {version}")
    if not versions:
        raise CrosstrainError(
            f"{name} has no version {version}; register it first, and if "
            f"{ledger().place} names it, delete that"
        )
    run: str = store.get_run(versions[0].run_id).info.run_id
    return run
