"""The manifest: one row per item. Later steps read it instead of the raw folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from transfer.core.errors import DataRefusedError
from transfer.data.storage.table import Items, StoredItems, Writer, parts
from transfer.modalities import lookup

COLUMNS = {  # of every modality; `columns` adds its own
    "id": "str",  # path inside the dataset, '/' separated, or 'file.npz#row'; unique
    "label": "int64",  # index into class_names
    "group": "str",  # a split never divides a group; '' where the dataset gives no group
    "given_split": "str",  # train, val or test from the manifest file; '' where it gives none
    "sha256": "str",  # of the file's bytes
    "content": "str",  # hash of the decoded item; items with the same hash are copies
    "format": "str",  # as stored: PNG, JPEG, WAV... or 'array'
}


def columns(modality: str) -> dict[str, str]:
    """All columns of a manifest, each with its pandas type.

    Raises:
        SettingsError: there is no such modality.
    """
    return {**COLUMNS, **lookup.get(modality).columns}


@dataclass(frozen=True)
class Manifest:
    """The readable items of a dataset, sorted by id; row i is row i of the records."""

    name: str
    modality: str
    class_names: tuple[str, ...]
    items: Items

    def __len__(self) -> int:
        return len(self.items)

    def save(self, folder: Path) -> None:
        """Write ``manifest.parquet`` and ``manifest.json`` into an existing folder."""
        kinds = columns(self.modality)
        with Writer(folder / "manifest.parquet", kinds) as table:
            for _, part in parts(self.items, *kinds):
                table.write(part)
        self.save_head(folder)

    def save_head(self, folder: Path) -> None:
        """Write only ``manifest.json``; the items are already written."""
        head = {"name": self.name, "modality": self.modality, "class_names": self.class_names}
        (folder / "manifest.json").write_text(json.dumps(head, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read a manifest that `save` wrote.

        Raises:
            DataRefusedError: the files are missing or lack a column.
        """
        try:
            head = json.loads((folder / "manifest.json").read_text())
            items = StoredItems(folder / "manifest.parquet")
        except (OSError, ValueError) as error:
            raise DataRefusedError(
                f"{folder} holds no readable manifest ({error}); scan it again"
            ) from error
        if missing := set(columns(head["modality"])) - set(items.columns):
            raise DataRefusedError(
                f"{folder}/manifest.parquet lacks {sorted(missing)}; scan it again"
            )
        return cls(head["name"], head["modality"], tuple(head["class_names"]), items)
