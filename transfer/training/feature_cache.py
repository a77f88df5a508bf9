"""Features of frozen backbones, computed once for all arms of a run that share a backbone.

Shapes: V views, N items, D features.
"""

import hashlib
from threading import Lock
from typing import Any
from uuid import uuid4

from torch import Tensor

from transfer.data.storage.tensor_store import Records, content
from transfer.models.network import Network
from transfer.training.batches import embed
from transfer.training.recipe import Recipe

SEED = 0  # of the views: the same for all arms, so that arms can share their features


class Features:
    """A cache of features. Threads that need the same features wait for the first to compute them.

    Sent to another process, it becomes that process's own cache for the same run.
    """

    def __init__(self, run: str | None = None) -> None:
        self._run = run or uuid4().hex
        self._lock = Lock()
        self._locks: dict[str, Lock] = {}
        self._kept: dict[str, Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_run, (self._run,)

    def of(self, network: Network, records: Records, views: int, recipe: Recipe) -> Tensor:
        """Features (V, N, D) on the CPU of records (N, ...) as stored by the network's backbone.

        ``views`` augmented views of each item; 0 for the items as they are (V = 1).
        """
        key = f"{_digest(network)} {content(records)} {views} {recipe.policy} {recipe.normal}"
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._kept:
                self._kept[key] = embed(network, records, views, recipe, SEED).cpu()
            return self._kept[key]


_kept_here = Features()
_arriving = Lock()


def _of_run(run: str) -> Features:
    """This process's cache for a run; the cache of the previous run is dropped."""
    global _kept_here  # noqa: PLW0603
    with _arriving:
        if _kept_here._run != run:
            _kept_here = Features(run)
        return _kept_here


def _digest(network: Network) -> str:
    digest = hashlib.sha256(network.backbone_spec.model_dump_json().encode())
    for name, tensor in network.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
