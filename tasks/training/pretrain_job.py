"""One pretraining as a description that another process can read and run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.training.cancellation import Stop, Stoppable
from transfer.arms import pretrain as library
from transfer.arms.pretrain import PretrainSettings
from transfer.core.config import Section
from transfer.data.items import SourceItems, labelled_items, union, validation_items
from transfer.data.manifest import Manifest
from transfer.data.storage.tensor_store import spec_of
from transfer.modalities.backbone import BackboneSpec
from transfer.training.loop import fit
from transfer.training.precision import Precision
from transfer.training.recipe import Machine


class Pretraining(Section):
    """What is trained, on what, where, and where the result goes."""

    name: str
    """Of the knowledge source."""
    parts: tuple[tuple[Path, Path], ...]
    """Scan and split of each dataset; classes of one name are one class."""
    backbone_spec: BackboneSpec
    settings: PretrainSettings
    device: str
    precision: Precision
    out: Path
    """An existing folder."""
    checkpoint: Path
    checkpoint_seconds: float
    stop: Path
    """The file that ends it."""
    until: float | None = None
    """When it has to end, in seconds since the epoch."""

    def run(
        self,
        on_step: Callable[[int, int], None],
        out: Path | None = None,
        loop: Callable[..., Any] = fit,
    ) -> None:
        """Train, and write the network and its card to ``out``.

        Raises:
            Stopped: the file ``stop`` exists; the training continues from here when run again.
            TimeUpError: the time ``until`` has been reached; the training continues likewise.
            CrosstrainError: training diverged.
        """
        spec = spec_of(self.parts[0][0])
        items = union([_items(*part, labelled_items) for part in self.parts], spec)
        validation = union([_items(*part, validation_items) for part in self.parts], spec)
        keeper = Stoppable(
            self.checkpoint, self.checkpoint_seconds, stop=Stop(self.stop), until=self.until
        )
        library.pretrain(
            self.name,
            items.class_names,
            items.items,
            validation.items,
            backbone_spec=self.backbone_spec,
            spec=spec,
            settings=self.settings,
            machine=Machine(self.device, self.precision),
            out=out or self.out,
            keeper=keeper,
            on_step=on_step,
            loop=loop,
        )


def _items(scanned: Path, divided: Path, read: Callable[[Path, Path], Any]) -> SourceItems:
    names = Manifest.load(scanned).class_names
    return SourceItems.of(read(scanned, divided), names, spec_of(scanned))
