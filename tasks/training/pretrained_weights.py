"""Pretrained backbones that come with an installed package."""

from pathlib import Path

from tasks.runtime.artifacts import Source
from tasks.runtime.step import step
from tasks.store import content_store
from transfer.arms import pretrain
from transfer.modalities import lookup
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.interface import InputSettings, InputSpec
from transfer.models.network import backbone_modules
from transfer.models.parameter_transfer import knowledge_of


@step("unpack", tags=["train"])
def unpack(name: str, spec: InputSpec, settings: InputSettings) -> Source:
    """Store a package's weights as a knowledge source, once their digest was verified.

    Args:
        name: of the backbone.
        spec: of the target's items.
        settings: the section `input`.
    """
    modality = lookup.of(spec)

    def compute(out: Path) -> None:
        pretrain.keep(knowledge_of(modality.pretrained(name, spec, settings)), out)

    ref = content_store.result(
        "unpack",
        compute,
        inputs={},
        settings={
            "name": name,
            "spec": spec.model_dump(mode="json"),
            "options": modality.pretrained_options(settings),
        },
        code=[
            "transfer.models.parameter_transfer",
            *backbone_modules(modality.name, BackboneSpec(name=name)),
        ],
    )
    return Source(name, ref, None, trained_here=False)
