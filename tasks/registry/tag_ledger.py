"""The history of champions and the journal of a promotion, in a store that machines share.

The same as `tasks.registry.file_ledger`, but as tags of the registered model, so that every
machine sees the same history and can complete a promotion that another machine began. A long text
is cut into several tags. The first of them is written last and deleted first: without it, the
others do not count.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.core.errors import CrosstrainError

if TYPE_CHECKING:
    from tasks.tracking.connection import MlflowClient

EVENT = "crosstrain.event."
JOURNAL = "crosstrain.journal"
LONGEST = 4000  # characters of a tag; MLflow's databases hold 5000


@dataclass(frozen=True)
class Tags:
    """The ledger and the journals of all models of a store."""

    store: "MlflowClient"
    place = f"its tag {JOURNAL} in the store"

    def read(self, name: str) -> list[dict[str, Any]]:
        """Every event of a model, oldest first.

        Raises:
            CrosstrainError: a tag is not JSON.
        """
        tags = self._tags(name)
        heads = [key for key in tags if key.startswith(EVENT) and ":" not in key]
        events = [_json(name, key, _joined(tags, key)) for key in heads]
        return sorted(events, key=lambda event: (event["number"], event["id"]))

    def append(self, event: Mapping[str, Any]) -> bool:
        """Add an event and return True; return False if an event with its ``id`` is in the ledger.

        Raises:
            CrosstrainError: the events before it cannot be read.
        """
        events = self.read(event["name"])
        if any(earlier["id"] == event["id"] for earlier in events):
            return False
        number = 1 + max((earlier["number"] for earlier in events), default=0)
        text = json.dumps({**event, "number": number}, ensure_ascii=False, sort_keys=True)
        self._write(event["name"], f"{EVENT}{number:06}.{event['id'][:12]}", text)
        return True

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Write the journal completely, before the first step of a plan."""
        self._write(plan["event"]["name"], JOURNAL, json.dumps(plan, ensure_ascii=False))

    def interrupted(self) -> dict[str, Any] | None:
        """A plan that was begun and not finished, if there is one."""
        for model in self.store.search_registered_models(f"tags.`{JOURNAL}` != ''"):
            tags = dict(model.tags)
            if JOURNAL in tags:
                return _json(model.name, JOURNAL, _joined(tags, JOURNAL))
        return None

    def finish(self, plan: Mapping[str, Any]) -> None:
        """Remove the journal, after the last step."""
        name = plan["event"]["name"]
        for key in sorted(key for key in self._tags(name) if key.startswith(JOURNAL)):
            self.store.delete_registered_model_tag(name, key)

    def _tags(self, name: str) -> dict[str, str]:
        models = self.store.search_registered_models(f"name = '{name}'")
        return dict(models[0].tags) if models else {}

    def _write(self, name: str, key: str, text: str) -> None:
        parts = [text[start : start + LONGEST] for start in range(0, len(text), LONGEST)]
        for part in reversed(range(len(parts))):
            self.store.set_registered_model_tag(name, _part(key, part), parts[part])


def _part(key: str, number: int) -> str:
    return f"{key}:{number:03}" if number else key


def _joined(tags: Mapping[str, str], key: str) -> str:
    def parts() -> Iterator[str]:
        number = 0
        while (part := tags.get(_part(key, number))) is not None:
            yield part
            number += 1

    return "".join(parts())


def _json(name: str, key: str, text: str) -> dict[str, Any]:
    """The JSON object of a text; parts of an older, longer text after its end are ignored."""
    try:
        content: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    except ValueError as error:
        raise CrosstrainError(
            f"the tag {key} of the registered model {name} is not JSON ({error}); restore it from "
            "a copy of the store"
        ) from error
    return content
