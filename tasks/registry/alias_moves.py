"""Move a model's aliases: whole or not at all, one process at a time.

A move is written to the journal as the state it leads to. Every step of it sets a state and
changes none, so a killed move is carried through by doing all of it again.
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
"""Seconds that another machine has to finish its move, where no lock tells if it still lives."""


class Book(Protocol):
    """Where events and the journal are kept: `tasks.registry.file_ledger`, or
    `tasks.registry.tag_ledger.Tags`."""

    place: str
    """Of the journal, for messages."""

    def read(self, name: str) -> list[dict[str, Any]]: ...

    def append(self, event: Mapping[str, Any]) -> bool: ...

    def begin(self, plan: Mapping[str, Any]) -> None: ...

    def interrupted(self) -> dict[str, Any] | None: ...

    def finish(self, plan: Mapping[str, Any]) -> None: ...


def book() -> Book:
    """Files beside our own store; tags in one that other machines may share."""
    return file_ledger if address.is_own() else Tags(connection.client())


@contextmanager
def alone(doing: str) -> Iterator["MlflowClient"]:
    """Be the one process that moves aliases, after carrying through what another began.

    Raises:
        CrosstrainError: the registry refuses a step.
    """
    with connection.refusals(doing), locks.lock("promotion"):
        store = connection.client()
        if (plan := _abandoned(book())) is not None:
            run_of(store, plan["event"]["name"], plan["event"]["version"])
            _carry_out(store, plan)
        yield store


def recover() -> None:
    """Carry through a move that a killed process began, if there is one.

    Where no lock tells whether the process still lives, that is left to the next move.

    Raises:
        CrosstrainError: the registry refuses a step.
    """
    doing = "carry through an interrupted promotion"
    if not locks.is_everywhere():
        return
    with connection.refusals(doing):
        begun = book().interrupted()
    if begun is not None:
        with alone(doing):
            pass


def history(name: str) -> list[dict[str, Any]]:
    """The events of one model, oldest first, after carrying through what a killed process began.

    Raises:
        CrosstrainError: an event cannot be read.
    """
    recover()
    with connection.refusals(f"read the history of {name}"):
        return book().read(name)


def _abandoned(kept: Book) -> dict[str, Any] | None:
    """A plan that nobody is carrying out any more."""
    plan = kept.interrupted()
    end = time.monotonic() + PATIENCE
    while plan is not None and not locks.is_everywhere() and time.monotonic() < end:
        time.sleep(0.5)
        now = kept.interrupted()
        if now is None or now["event"]["id"] != plan["event"]["id"]:
            plan, end = now, time.monotonic() + PATIENCE
    return plan


def move(
    store: "MlflowClient",
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
    book().begin(plan)
    _carry_out(store, plan)


def _carry_out(store: "MlflowClient", plan: Mapping[str, Any]) -> None:
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
    kept = book()
    kept.append(event)
    kept.finish(plan)


def aliases_of(store: "MlflowClient", name: str) -> dict[str, int]:
    """Every alias of a model, to its version; empty when there is no such model."""
    found = store.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for alias, version in found[0].aliases.items()} if found else {}


def settled(name: str) -> dict[str, int]:
    """Every alias of a model, as no move that is under way has half changed them.

    Only half of a move leaves one version both the champion and the previous one.
    """
    known = sqlite_reader.aliases(name)
    aliases = aliases_of(connection.client(), name) if known is None else known
    champion = aliases.get("champion")
    if champion is None or aliases.get("previous") != champion or not locks.is_everywhere():
        return aliases
    with alone(f"read the aliases of {name}") as store:
        return aliases_of(store, name)


def run_of(store: "MlflowClient", name: str, version: int) -> str:
    """Id of the run that a version belongs to.

    Raises:
        CrosstrainError: there is no such version, or no such run.
    """
    found = store.search_model_versions(f"name = '{name}' and version_number = {version}")
    if not found:
        raise CrosstrainError(
            f"{name} has no version {version}; register it first, and if "
            f"{book().place} names it, delete that"
        )
    run: str = store.get_run(found[0].run_id).info.run_id
    return run
