"""Files of weights: models with their card, and training checkpoints. None can run code."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transfer.core.config import Section
from transfer.core.errors import ModelFileError

CardT = TypeVar("CardT", bound=Section)


def save_model(folder: Path, card: Section, state: Mapping[str, Tensor]) -> None:
    """Write ``card.json`` and ``weights.safetensors`` into an existing folder."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    save_file(tensors, folder / "weights.safetensors")
    (folder / "card.json").write_text(card.model_dump_json(indent=1), encoding="utf-8")


def load_state(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a model folder.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    path = folder / "weights.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} cannot be read as safetensors: {error}") from error


def load_card(folder: Path, card_type: type[CardT]) -> CardT:
    """Read the card of a model folder.

    Raises:
        ModelFileError: the card is missing, damaged or of another version.
    """
    path = folder / "card.json"
    try:
        return card_type.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is not a model card of this version: {error}") from error


@dataclass
class Keeper:
    """Stores the latest checkpoint of one training run, at most once in a number of seconds."""

    path: Path
    seconds: float = 10.0
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, state: dict[str, object]) -> None:
        """Replace the stored checkpoint by this state."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._last = time.monotonic()

    def load(self) -> dict[str, object] | None:
        """The latest checkpoint; None when there is none, or it cannot be read."""
        try:
            state: dict[str, object] = torch.load(self.path, weights_only=True, map_location="cpu")
        except FileNotFoundError:
            return None
        except Exception:
            # After a damaged checkpoint the run starts from its first step; it does not fail.
            self.path.unlink(missing_ok=True)
            return None
        return state

    def forget(self) -> None:
        """Remove the checkpoint of a finished run."""
        self.path.unlink(missing_ok=True)
