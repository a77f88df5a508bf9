"""The champion of a registered model: promotion, refusal, rollback and history.

A registered model has three aliases: `champion` is the version in use, `challenger` is the version
that was judged last, `previous` is the version that a rollback restores. After the first
promotion, there is a champion at every moment.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.registry import alias_moves
from tasks.registry.alias_moves import recover
from tasks.tracking import address, connection, runs, sqlite_reader
from tasks.tracking.files import model_folder
from transfer.core.errors import ChampionChangedError, NothingToDoError, SettingsError

__all__ = [
    "Champion",
    "Promotion",
    "champion",
    "champion_of",
    "digest",
    "history",
    "model_folder",
    "name_of",
    "promote",
    "recover",
    "refuse",
    "rollback",
    "rolled_back",
    "run_of",
    "tags_of",
    "version_of",
]

NOT_GIVEN = -1
MEASURED = ("evidence", "rules", "who")
"""Parts of a record that may differ between two judgements of the same model."""
LONGEST_TAG = 200  # characters of a value that can be searched for


@dataclass(frozen=True)
class Champion:
    """The version in use."""

    name: str
    version: int
    run_id: str
    aliases: dict[str, int]
    """Every alias of the model, to its version."""
    tags: dict[str, str]

    @property
    def figures(self) -> dict[str, float]:
        """The version's figures, from the tags named ``figure.<name>``."""
        return {name: float(text) for name, text in _with_prefix(self.tags, "figure.").items()}

    @property
    def data(self) -> dict[str, str]:
        """md5 of each dataset that it was trained on, from the tags ``data.<name>``."""
        return _with_prefix(self.tags, "data.")

    @property
    def blessing(self) -> dict[str, Any]:
        """The record of its promotion; empty if another tool has set the alias."""
        record: dict[str, Any] = json.loads(self.tags.get("blessing", "{}"))
        return record


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion or a rollback."""

    name: str
    version: int
    replaced: int | None
    moved: bool
    message: str


def champion(name: str) -> Champion | None:
    """The champion of a registered model, or None before the first promotion."""
    if not address.exists():
        return None
    recover()
    with connection.translated_errors(f"find the champion of {name}"):
        aliases = alias_moves.consistent_aliases(name)
        if "champion" not in aliases:
            return None
        number = aliases["champion"]
        version = sqlite_reader.version(name, number) or connection.client().get_model_version(
            name, str(number)
        )
        return Champion(name, number, version.run_id, aliases, dict(version.tags))


def name_of(target: str) -> str:
    """Registered name of the model of a target dataset."""
    return f"crosstrain-{target}"


def champion_of(target: str) -> Champion:
    """The champion of a target dataset.

    Raises:
        NothingToDoError: the target has no champion.
    """
    name = name_of(target)
    current = champion(name)
    if current is None:
        raise NothingToDoError(
            f"{name} has no champion yet; train one with `crosstrain retrain`, or name another "
            "target with --target"
        )
    return current


def version_of(name: str, alias: str) -> int:
    """Number of the version that has an alias.

    Raises:
        NothingToDoError: no version has this alias.
    """
    if address.exists():
        recover()
        with connection.translated_errors(f"find the {alias} of {name}"):
            aliases = alias_moves.consistent_aliases(name)
        if alias in aliases:
            return aliases[alias]
        available = ", ".join(sorted(aliases)) or "no version"
    else:
        available = "no registry"
    raise NothingToDoError(
        f"{name} has no {alias}: found {available}; train one with `crosstrain retrain`"
    )


def promote(
    name: str,
    version: int,
    *,
    reasons: Sequence[str],
    blessing: Mapping[str, Any],
    forced_reason: str | None = None,
    judged_against: int | None = NOT_GIVEN,
    who: str = "",
) -> Promotion:
    """Make a version the champion, and the current champion the previous one.

    Args:
        name: registered name.
        version: the challenger.
        reasons: the reasons, one sentence each.
        blessing: rules, figures, verdict, revisions; kept in the run and as tags.
        forced_reason: why it is promoted against the rules; None if it is not forced.
        judged_against: the champion that the rules were judged against, None for no champion.
        who: the user on whose behalf this happens, and by which way.

    Raises:
        ChampionChangedError: the champion is not the one that the version was judged against.
        CrosstrainError: there is no such version.
        SettingsError: the reason for a forced promotion is blank.
    """
    if forced_reason is not None:
        _require_reason(forced_reason, "a forced promotion")
    with alias_moves.exclusive(f"promote version {version} of {name}") as store:
        run, old = (
            alias_moves.run_of(store, name, version),
            alias_moves.aliases_of(store, name).get("champion"),
        )
        if old == version:
            return Promotion(
                name, version, old, False, f"version {version} is already the champion"
            )
        if judged_against not in (NOT_GIVEN, old):
            raise ChampionChangedError(
                f"version {version} of {name} was judged against champion {judged_against}, and "
                f"then version {old} became champion; run again to judge against version {old}"
            )
        event = _event("promoted", name, version, old, reasons, who) | {
            "run_id": run,
            "blessing_sha256": digest(blessing),
            "forced_reason": forced_reason,
        }
        aliases = [("challenger", version), ("previous", old), ("champion", version)]
        tags = _tags("blessing", blessing, reasons) | {"forced": forced_reason or ""}
        alias_moves.move(store, event, aliases, tags, blessing)
        return Promotion(name, version, old, True, f"version {version} is champion")


def refuse(
    name: str,
    version: int,
    reasons: Sequence[str],
    blessing: Mapping[str, Any],
    *,
    who: str = "",
) -> None:
    """Record that a version was not promoted. The champion stays.

    A repeated refusal for the same reasons adds nothing to the ledger.

    Raises:
        CrosstrainError: there is no such version.
    """
    with alias_moves.exclusive(f"refuse version {version} of {name}") as store:
        run, old = (
            alias_moves.run_of(store, name, version),
            alias_moves.aliases_of(store, name).get("champion"),
        )
        stable_parts = {key: value for key, value in blessing.items() if key not in MEASURED}
        event = _event("refused", name, version, old, reasons, who) | {
            "id": digest([name, version, old, list(reasons), stable_parts]),
            "run_id": run,
            "blessing_sha256": digest(blessing),
        }
        tags = _tags("refusal", blessing, reasons)
        alias_moves.move(store, event, [("challenger", version)], tags, blessing)


def rollback(name: str, reason: str, *, who: str = "") -> Promotion:
    """Swap the champion and the previous one.

    Raises:
        ModelFileError: the files of the previous champion cannot be read.
        NothingToDoError: there is no previous champion.
        SettingsError: the reason is blank.
    """
    _require_reason(reason, "a rollback")
    if not address.exists():
        raise NothingToDoError(
            f"nothing was tracked in this project yet, so {name} has no champion"
        )
    with alias_moves.exclusive(f"roll {name} back") as store:
        aliases = alias_moves.aliases_of(store, name)
        if not {"champion", "previous"} <= set(aliases):
            raise NothingToDoError(
                f"{name} has the aliases {aliases}; a rollback needs a champion and a previous one"
            )
        old, version = aliases["champion"], aliases["previous"]
        model_folder(name, version)
        event = _event("rolled back", name, version, old, [reason], who)
        alias_moves.move(store, event, [("previous", old), ("champion", version)], {}, None)
        return Promotion(name, version, old, True, f"version {version} is champion again")


def rolled_back(name: str, version: int) -> str | None:
    """When and why a version was rolled back; None if it was not, or was promoted again since."""
    reason = None
    for event in history(name):
        if event["event"] == "rolled back" and event["champion_before"] == version:
            reason = f"rolled back {event['when']}: {'; '.join(event['reasons'])}"
        elif event["event"] in ("promoted", "rolled back") and event["version"] == version:
            reason = None
    return reason


def history(name: str) -> list[dict[str, Any]]:
    """The ledger's events of one model, oldest first."""
    return alias_moves.history(name)


def tags_of(name: str, version: int) -> dict[str, str]:
    """Tags of a version.

    Raises:
        CrosstrainError: there is no such version.
    """
    recover()
    store = connection.client()
    with connection.translated_errors(f"find version {version} of {name}"):
        alias_moves.run_of(store, name, version)
        return dict(store.get_model_version(name, str(version)).tags)


def run_of(name: str, version: int) -> str:
    """Id of the run that a version belongs to.

    Raises:
        CrosstrainError: there is no such version, or no such run.
    """
    store = connection.client()
    with connection.translated_errors(f"find version {version} of {name}"):
        return alias_moves.run_of(store, name, version)


def _event(
    event: str, name: str, version: int, before: int | None, reasons: Sequence[str], who: str
) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "event": event,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": who,
        "name": name,
        "version": version,
        "champion_before": before,
        "reasons": list(reasons),
    }


def digest(data: object) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _tags(decision: str, blessing: Mapping[str, Any], reasons: Sequence[str]) -> dict[str, str]:
    """The complete record as one tag, and each of its short plain values as a tag to search for."""
    plain = runs.flatten({k: v for k, v in blessing.items() if not isinstance(v, list | dict)})
    tags = {f"{decision}.{name}": text for name, text in plain.items() if len(text) <= LONGEST_TAG}
    return tags | {decision: json.dumps(blessing), f"{decision}.reasons": "; ".join(reasons)}


def _require_reason(reason: str, action: str) -> None:
    if not reason.strip():
        raise SettingsError(
            f"the reason for {action} is blank; give a reason, it is written to the ledger"
        )


def _with_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {k.removeprefix(prefix): v for k, v in tags.items() if k.startswith(prefix)}
