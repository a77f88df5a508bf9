"""What a source provides: its items, and the code of its backbone."""

from collections.abc import Sequence

from tasks.runtime.artifacts import Source
from transfer.arms import pretrain
from transfer.data.items import SourceItems, labelled_items, normalisation, validation_items
from transfer.data.manifest import Manifest
from transfer.data.storage.tensor_store import spec_of
from transfer.modalities.backbone import BackboneSpec
from transfer.models.network import backbone_modules


def source_items(source: Source, *, held: bool = False) -> SourceItems | None:
    """Items of a source's training split, or of its validation split; None where it has none."""
    if source.items is None:
        return None
    scanned, divided = source.items.scan.path, source.items.split.path
    learned = labelled_items(scanned, divided)
    items = validation_items(scanned, divided) if held else learned
    normal = normalisation(learned, spec_of(scanned))
    return SourceItems(items, Manifest.load(scanned).class_names, normal)


def source_modules(sources: Sequence[Source], modality: str) -> list[str]:
    """Modules of the modality and of the sources' backbones, which are loaded by name: imports do
    not lead to them."""
    own = [pretrain.load_card(source.knowledge.path).backbone_spec for source in sources]
    fused = [BackboneSpec(name="fused")] if len(sources) > 1 else []
    return backbone_modules(modality, *own, *fused)
