"""Makes a preview of the augmentation on items of the target."""

from pathlib import Path

import numpy as np

from tasks.runtime.artifacts import Divided, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from transfer.data.items import labelled_items, pool_items
from transfer.data.storage.tensor_store import spec_of
from transfer.modalities import lookup
from transfer.modalities.interface import Augmentation
from transfer.training.batches import preview as vary


@step("preview", tags=["augment"])
def preview(target: Divided, policy: Augmentation, items: int = 8) -> Ref:
    """Store `items` training items of the target, and seven augmented copies of each."""

    spec = spec_of(target.scan.path)

    def compute(out: Path) -> None:
        records = labelled_items(target.scan.path, target.split.path).records
        if not len(records):
            records = pool_items(target.scan.path, target.split.path, with_val=True).records
        chosen = records[:: max(1, len(records) // items)][:items]
        varied = vary(chosen, policy, spec, copies=7)
        np.savez(out / "preview.npz", originals=chosen.numpy(), varied=varied.numpy())

    return content_store.result(
        "preview",
        compute,
        inputs=target.inputs(),
        settings={"augment": policy.model_dump(mode="json"), "items": items},
        code=["transfer.data.items", "transfer.training.batches", lookup.code(spec.modality)],
    )
