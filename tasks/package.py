"""Pretrained backbones that come with an installed package."""

from pathlib import Path

from tasks import store
from tasks.refs import Source
from tasks.step import step
from transfer import pretrain, pretrained
from transfer.modalities.image.spec import ImageSpec


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

    ref = store.result(
        "unpack",
        compute,
        inputs={},
        settings={"name": name, "channels": spec.channels, "size": size},
        code=["transfer.pretrained", f"transfer.backbones.{name}"],
    )
    return Source(name, ref, None, trained_here=False)
