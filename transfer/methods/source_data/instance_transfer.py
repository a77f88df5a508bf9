"""Instance transfer: training continues on the source's items that resemble the target's."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from transfer.methods.building_blocks.shared_head import DomainFeatures, Joint, supervised
from transfer.models.network import Network
from transfer.training.batches import embed
from transfer.training.method import Batch, Job, Prepared, Trained


class Weights(nn.Module):
    """One weight for each item of the source."""

    of_item: Tensor

    def __init__(self, of_item: Tensor) -> None:
        super().__init__()
        self.register_buffer("of_item", of_item)


class InstanceTransfer(Joint):
    """Importance weighting of the source's items (Sugiyama, Krauledat and Mueller, JMLR 2007).

    A logistic regression on features of the source's backbone separates the source's items from the
    target's training items (Bickel, Brueckner and Scheffer, ICML 2007). Item x of the source
    has the weight w(x) = (p(target | x) / p(source | x) * n_source / n_target) ** flatten, divided
    by the mean, clipped from above, and divided by the mean again. Then loss = cross-entropy of the
    target's labelled items + source_weight * mean_i w(x_i) cross-entropy_i of the source's.
    TrAdaBoost (Dai et al., ICML 2007) has the same aim and changes the weights during training.
    """

    paper: ClassVar[str] = "Sugiyama et al., 2007; Dai et al., 2007"
    reads_pool: ClassVar[bool] = True

    source_weight: float = Field(1.0, ge=0)
    """Weight of the source's loss."""
    flatten: float = Field(0.5, ge=0, le=1)
    """Exponent of the ratio: 1 is unbiased, 0 gives all items the same weight; between them the
    result depends less on few items (Shimodaira, JSPI 2000)."""
    clip: float = Field(10.0, gt=1)
    """Largest weight, as a multiple of the mean."""
    regularisation: float = Field(0.01, gt=0)
    """Inverse strength C of the logistic regression's L2 penalty."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        assert batch.source is not None
        weights = prepared.helpers["weights"].get_buffer("of_item")
        features = DomainFeatures(prepared.network, batch)
        rows = batch.source.rows.to(weights.device)
        terms = supervised(prepared, batch, features, weights[rows])
        return {**terms, "source": self.source_weight * terms["source"]}

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        weights = self.weigh(prepared.network, job)
        prepared.helpers["weights"] = Weights(torch.from_numpy(weights).float())
        network = job.fit(_Loop(**self.model_dump()), prepared)
        share = float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
        notes: dict[str, float | str] = {"effective share of the source": share}
        return Trained(network, prepared.transfers, notes=notes)

    def weigh(self, network: Network, job: Job) -> NDArray[np.float64]:
        """Weights (M) of all items of the job's source, by the features of a network's backbone."""
        source, target = _features(network, job)
        return importance(
            source, target, flatten=self.flatten, clip=self.clip, inverse=self.regularisation
        )


class _Loop(InstanceTransfer):
    """The training steps, which need no unlabelled items, since the weights are fixed."""

    reads_pool: ClassVar[bool] = False


def _features(network: Network, job: Job) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (M, D) of all items of the source and (N, D) of the target's training items."""
    if job.source is None:
        raise ValueError("this method reads items of the source and was given none")
    recipe = replace(job.recipe, normal=job.source.normal)
    other = job.embed(network, pool=job.pool is not None)
    own = embed(network, job.source.items.records, 0, recipe, job.seed)
    return own[0].cpu().double().numpy(), other[0].cpu().double().numpy()


def importance(
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    *,
    flatten: float,
    clip: float,
    inverse: float,
) -> NDArray[np.float64]:
    """Weights (M) of mean 1 for features (M, D) of the source, given (N, D) of the target.

    Features are standardised over both; ``inverse`` is the logistic regression's C.
    """
    from sklearn.linear_model import LogisticRegression

    both = np.concatenate([source, target])
    both = (both - both.mean(axis=0)) / np.maximum(both.std(axis=0), 1e-12)
    is_target = np.arange(len(both)) >= len(source)
    classifier = LogisticRegression(C=inverse, max_iter=1000).fit(both, is_target)
    log_odds = classifier.decision_function(both[: len(source)])  # the priors cancel in the mean
    weights = np.exp(flatten * (log_odds - log_odds.max()))
    weights = np.minimum(weights / weights.mean(), clip)
    return weights / weights.mean()


METHOD = InstanceTransfer
