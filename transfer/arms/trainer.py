"""One network of an arm: the job that its method gets, and the training loop that the job calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.data.items import PoolItems, SourceItems, TrainItems
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.interface import InputLimits, InputSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.checkpoint import Keeper
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.feature_cache import Features
from transfer.training.history import History
from transfer.training.loop import Beside, fit
from transfer.training.method import Job, Method, Prepared, Trained
from transfer.training.recipe import Recipe


@dataclass(frozen=True)
class Target:
    """What every arm of a run shares."""

    name: str
    class_names: tuple[str, ...]
    labelled: TrainItems
    validation: TrainItems | None
    """None: arms are compared out of fold."""
    folds: int
    spec: InputSpec
    limits: InputLimits
    backbone_spec: BackboneSpec
    """The backbone of an arm that starts from random weights."""
    pool: PoolItems | None = None
    """Items of the training split, for methods that read unlabelled items."""
    source: SourceItems | None = None
    """For methods that read the source's items."""
    source_held: SourceItems | None = None
    """Of the source's validation split: what label-free validators read."""
    features: Features = field(default_factory=Features)
    """Of frozen backbones; shared by the arms of a run."""


class Trainer:
    """One network of an arm: a job for its method, with the items that it may read."""

    def __init__(
        self,
        method: Method,
        knowledge: Sequence[Knowledge],
        target: Target,
        recipe: Recipe,
        seed: int,
        trained_on: NDArray[np.bool_],
        keeper: Callable[[int], Keeper] | None,
        on_step: Callable[[int, int], None] | None,
    ) -> None:
        given = knowledge[0] if method.uses_source and knowledge else None
        unchanged = given and (given.fixed_normal or not len(target.labelled))
        if given and unchanged and not method.combines:  # without labels the source's own
            recipe = replace(recipe, normal=given.normal)
        self.method, self.target, self.recipe, self.seed = method, target, recipe, seed
        self.keeper, self.on_step = keeper, on_step
        self.history, self.phases, self.steps, self.shared = History(), 0, 0, 0.0
        self.rows = torch.from_numpy(np.flatnonzero(trained_on))
        held = target.labelled.groups[~trained_on]
        self.job = Job(
            backbone_spec=given.backbone_spec if given else target.backbone_spec,
            own=target.backbone_spec,
            class_names=target.class_names,
            knowledge=given,
            several=tuple(knowledge) if method.combines else (),
            labelled=target.labelled.take(trained_on),
            pool=target.pool.without(held) if target.pool else None,
            source=target.source,
            recipe=recipe,
            seed=seed,
            fit=self.fit,
            embed=self.embed,
        )

    def train(self) -> Trained:
        """Let the method make its network."""
        return self.method.train(self.job)

    def input_recipe(self, trained: Trained) -> Recipe:
        """The recipe with the normalisation of the network's inputs."""
        return replace(self.recipe, normal=trained.normal or self.recipe.normal)

    def fit(
        self,
        method: Method,
        prepared: Prepared,
        items: TrainItems | None = None,
        *,
        share: float = 1.0,
    ) -> Network:
        """Run the loop for one phase; see `transfer.training.method.Fit`."""
        self.shared += share
        steps = max(1, round(self.shared * self.recipe.training.steps) - self.steps)
        training = self.recipe.training.model_copy(update={"steps": steps})
        items = self.job.labelled if items is None else items
        network, history = fit(
            method,
            prepared,
            items,
            replace(self.recipe, training=training),
            seed=self.seed + self.phases * 100_003,
            beside=Beside(self.job.source, self.job.pool),
            features=self._features(prepared, items) if prepared.views else None,
            keeper=self.keeper(self.phases) if self.keeper else None,
            on_step=self._counted(),
        )
        self.history.add(history)
        self.phases, self.steps = self.phases + 1, self.steps + steps
        return network

    def _features(self, prepared: Prepared, items: TrainItems) -> Tensor:
        positions = {key: i for i, key in enumerate(self.job.labelled.ids.tolist())}
        rows = torch.tensor([positions[key] for key in items.ids.tolist()])
        return self.embed(prepared.network, prepared.views)[:, rows]

    def _counted(self) -> Callable[[int, int], None] | None:
        on_step, before, steps = self.on_step, self.steps, self.recipe.training.steps
        return (lambda done, _: on_step(before + done, steps)) if on_step else None

    def embed(
        self,
        network: Network,
        views: int = 0,
        *,
        pool: bool = False,
        normal: Normalisation | None = None,
    ) -> Tensor:
        """Compute features of all items once; see `transfer.training.method.Embed`."""
        network.to(self.recipe.machine.device)
        target, normal = self.target, normal or network.backbone.normal or self.recipe.normal
        recipe = replace(self.recipe, normal=normal)
        if not pool:
            features = target.features.of(network, target.labelled.records, views, recipe)
            return features[:, self.rows]
        if self.job.pool is None or target.pool is None:
            raise ValueError("this method reads unlabelled items and was given none")
        kept = np.isin(target.pool.ids, self.job.pool.ids)
        features = target.features.of(network, target.pool.records, views, recipe)
        return features[:, torch.from_numpy(kept)]
