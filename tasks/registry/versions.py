"""Which version is the champion, how it became that, and how to undo it.

Three aliases of a registered model: `champion` answers, `challenger` asked last for its place,
`previous` is what a rollback goes back to. Once there is a champion, there is one at any moment.
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

NOT_TOLD = -1
MEASURED = ("evidence", "rules", "who")
"""Parts of a record that differ although nothing of the model does."""
LONGEST_TAG = 200  # characters, of a value to search for


@dataclass(frozen=True)
class Champion:
    """The version that answers now."""

    name: str
    version: int
    run_id: str
    aliases: dict[str, int]
    """Every alias of the model, to its version."""
    tags: dict[str, str]

    @property
    def figures(self) -> dict[str, float]:
        """Its figures, from the tags named ``figure.<name>``."""
        return {name: float(text) for name, text in _starting(self.tags, "figure.").items()}

    @property
    def data(self) -> dict[str, str]:
        """Fingerprint of each dataset it was made from, from the tags ``data.<name>``."""
        return _starting(self.tags, "data.")

    @property
    def blessing(self) -> dict[str, Any]:
        """The record that made it champion; empty when another tool set the alias."""
        record: dict[str, Any] = json.loads(self.tags.get("blessing", "{}"))
        return record


@dataclass(frozen=True)
class Promotion:
    """What became of a promotion or a rollback."""

    name: str
    version: int
    replaced: int | None
    moved: bool
    message: str


def champion(name: str) -> Champion | None:
    """The champion of a registered model, or None when there never was one."""
    if not address.exists():
        return None
    recover()
    with connection.refusals(f"find the champion of {name}"):
        aliases = alias_moves.settled(name)
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
        NothingToDoError: it has none.
    """
    name = name_of(target)
    found = champion(name)
    if found is None:
        raise NothingToDoError(
            f"{name} has no champion yet; train one with `crosstrain retrain`, or name another "
            "target with --target"
        )
    return found


def version_of(name: str, alias: str) -> int:
    """Number of the version that has an alias.

    Raises:
        NothingToDoError: none has.
    """
    if address.exists():
        recover()
        with connection.refusals(f"find the {alias} of {name}"):
            aliases = alias_moves.settled(name)
        if alias in aliases:
            return aliases[alias]
        known = ", ".join(sorted(aliases)) or "no version"
    else:
        known = "no registry"
    raise NothingToDoError(
        f"{name} has no {alias}: found {known}; train one with `crosstrain retrain`"
    )


def promote(
    name: str,
    version: int,
    *,
    reasons: Sequence[str],
    blessing: Mapping[str, Any],
    forced_reason: str | None = None,
    judged_against: int | None = NOT_TOLD,
    who: str = "",
) -> Promotion:
    """Make a version the champion, and the champion the previous one.

    Args:
        name: registered name.
        version: the challenger.
        reasons: why, a sentence each.
        blessing: rules, figures, verdict, revisions; kept in the run and as tags.
        forced_reason: why it is promoted against the rules; None when it is not.
        judged_against: the champion that the rules were judged against, None for no champion.
        who: on whose behalf, and through what.

    Raises:
        ChampionChangedError: there is another champion than it was judged against.
        CrosstrainError: there is no such version.
        SettingsError: the reason for a forced promotion is blank.
    """
    if forced_reason is not None:
        _demand(forced_reason, "a forced promotion")
    with alias_moves.alone(f"promote version {version} of {name}") as store:
        run, old = (
            alias_moves.run_of(store, name, version),
            alias_moves.aliases_of(store, name).get("champion"),
        )
        if old == version:
            return Promotion(name, version, old, False, f"version {version} already is champion")
        if judged_against not in (NOT_TOLD, old):
            raise ChampionChangedError(
                f"version {version} of {name} was judged against champion {judged_against}, and "
                f"meanwhile version {old} became champion; run again to judge it against that one"
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

    The same refusal, told again, adds nothing to the ledger.

    Raises:
        CrosstrainError: there is no such version.
    """
    with alias_moves.alone(f"refuse version {version} of {name}") as store:
        run, old = (
            alias_moves.run_of(store, name, version),
            alias_moves.aliases_of(store, name).get("champion"),
        )
        told = {key: value for key, value in blessing.items() if key not in MEASURED}
        event = _event("refused", name, version, old, reasons, who) | {
            "id": digest([name, version, old, list(reasons), told]),
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
    _demand(reason, "a rollback")
    if not address.exists():
        raise NothingToDoError(f"nothing was ever tracked here, so {name} has no champion")
    with alias_moves.alone(f"roll {name} back") as store:
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
    """Why a version is no longer champion, where a person rolled it back and nobody has promoted it
    since."""
    why = None
    for event in history(name):
        if event["event"] == "rolled back" and event["champion_before"] == version:
            why = f"rolled back {event['when']}: {'; '.join(event['reasons'])}"
        elif event["event"] in ("promoted", "rolled back") and event["version"] == version:
            why = None
    return why


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
    with connection.refusals(f"find version {version} of {name}"):
        alias_moves.run_of(store, name, version)
        return dict(store.get_model_version(name, str(version)).tags)


def run_of(name: str, version: int) -> str:
    """Id of the run that a version belongs to.

    Raises:
        CrosstrainError: there is no such version, or no such run.
    """
    store = connection.client()
    with connection.refusals(f"find version {version} of {name}"):
        return alias_moves.run_of(store, name, version)


def _event(
    kind: str, name: str, version: int, before: int | None, reasons: Sequence[str], who: str
) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "event": kind,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": who,
        "name": name,
        "version": version,
        "champion_before": before,
        "reasons": list(reasons),
    }


def digest(told: object) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _tags(kind: str, blessing: Mapping[str, Any], reasons: Sequence[str]) -> dict[str, str]:
    """The record whole, and its short plain values one by one, to be searched for."""
    plain = runs.flatten({k: v for k, v in blessing.items() if not isinstance(v, list | dict)})
    tags = {f"{kind}.{name}": text for name, text in plain.items() if len(text) <= LONGEST_TAG}
    return tags | {kind: json.dumps(blessing), f"{kind}.reasons": "; ".join(reasons)}


def _demand(reason: str, what: str) -> None:
    if not reason.strip():
        raise SettingsError(f"the reason for {what} is blank; say why, it goes into the ledger")


def _starting(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {k.removeprefix(prefix): v for k, v in tags.items() if k.startswith(prefix)}
