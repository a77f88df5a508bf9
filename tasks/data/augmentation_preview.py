"""Makes a preview of the augmentation on items of the target."""

from pathlib import Path

import numpy as np

from tasks.runtime.artifacts import Divided, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from transfer.data.items import labelled_items, pool_items
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.image.augment import preview as vary


@step("preview", tags=["augment"])
def preview(target: Divided, policy: AugmentPolicy, items: int = 8) -> Ref:
    """Store `items` training items of the target, and seven augmented copies of each."""

    def compute(out: Path) -> None:
        images = labelled_items(target.scan.path, target.split.path).images
        if not len(images):
            images = pool_items(target.scan.path, target.split.path, with_val=True).images
        chosen = images[:: max(1, len(images) // items)][:items]
        varied = vary(chosen, policy, copies=7)
        np.savez(out / "preview.npz", originals=chosen.numpy(), varied=varied.numpy())

    return content_store.result(
        "preview",
        compute,
        inputs=target.inputs(),
        settings={"augment": policy.model_dump(mode="json"), "items": items},
        code=["transfer.data.items", "transfer.modalities.image.augment"],
    )
