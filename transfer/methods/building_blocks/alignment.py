"""Distances between the features of two domains, and parts of the losses that reduce them.

Every distance is computed in float32, whatever the precision of the forward pass, and is zero in
expectation (`mk_mmd`) or exactly (`coral`) where the samples agree. Shapes: M items of the source,
N of the target, D features, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def ramp(progress: float) -> float:
    """Strength of an alignment, from 0 at progress 0 to almost 1: 2 / (1 + exp(-10 p)) - 1.

    The schedule of Ganin et al., JMLR 2016: the features of a newly initialised head
    are not aligned too early.
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


def _full_precision(features: Tensor) -> torch.autocast:
    return torch.autocast(features.device.type, enabled=False)


def _check_pairs(source: Tensor, target: Tensor) -> None:
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"found {len(source)} source and {len(target)} target items; expected 2 or more of "
            "each: raise the batch size"
        )


def covariance(features: Tensor) -> Tensor:
    """Unbiased covariance (D, D) of features (N, D): (X - mean)^T (X - mean) / (N - 1)."""
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def coral(source: Tensor, target: Tensor) -> Tensor:
    """CORAL distance of features (M, D) and (N, D): ||C_s - C_t||_F^2 / (4 D^2), a scalar.

    Sun and Saenko, ECCV workshops 2016, eq. 1 to 3. C_s and C_t are the unbiased covariances.

    Raises:
        ValueError: a domain has fewer than two items.
    """
    _check_pairs(source, target)
    with _full_precision(source):
        gap = covariance(source.float()) - covariance(target.float())
        return gap.square().sum() / (4 * source.shape[1] ** 2)


def mk_mmd(source: Tensor, target: Tensor, multiples: Sequence[float]) -> Tensor:
    """Squared maximum mean discrepancy of features (M, D) and (N, D), a scalar; unbiased.

    Gretton et al., JMLR 2012, eq. 3, with the kernels of Long et al., ICML 2015, weighted alike:

        sum_{i != j} k(s_i, s_j) / (M (M - 1)) + sum_{i != j} k(t_i, t_j) / (N (N - 1))
            - 2 sum_{i, j} k(s_i, t_j) / (M N),
        k(x, y) = mean over q of exp(-||x - y||^2 / (multiples_q * b))

    b is the mean squared distance of two different items of the M + N, held constant in the
    gradient. Being unbiased the value may be negative: its mean is 0 where the domains agree.

    Raises:
        ValueError: a domain has fewer than two items.
    """
    _check_pairs(source, target)
    m, n = len(source), len(target)
    with _full_precision(source):
        both = torch.cat([source, target]).float()
        distances = (both[:, None] - both[None]).square().sum(dim=2)  # (M + N) x (M + N)
        mean = distances.detach().sum() / ((m + n) * (m + n - 1))
        widths = mean.clamp_min(1e-30) * mean.new_tensor(multiples)
        kernel = torch.exp(-distances / widths[:, None, None]).mean(dim=0)
        kernel = kernel - torch.diag_embed(kernel.diagonal())
        within = kernel[:m, :m].sum() / (m * (m - 1)) + kernel[m:, m:].sum() / (n * (n - 1))
        return within - 2 * kernel[:m, m:].mean()


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse(features: Tensor, strength: float) -> Tensor:
    """The features unchanged; on the way back their gradient is multiplied by -``strength``.

    Gradient reversal (Ganin et al., JMLR 2016): the layers after it learn to distinguish the
    domains, the layers before it learn to make them alike.
    """
    reversed_: Tensor = _Reverse.apply(features, strength)
    return reversed_


class Discriminator(nn.Module):
    """Predicts the domain of an item: D inputs, one hidden layer, one score (above 0: source)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.hidden = _linear(inputs, hidden, rng)
        self.score = _linear(hidden, 1, rng)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N) of features (N, D)."""
        score: Tensor = self.score(functional.relu(self.hidden(features)))
        return score.squeeze(1)


def _linear(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    """A linear layer initialised with ``rng``; torch's global generator does not advance."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=rng)
    nn.init.zeros_(layer.bias)
    return layer


def domain_loss(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor | None = None,
    target_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of a discriminator's scores (M) and (N), both domains with the same weight.

    (mean_i w_i log(1 + exp(-source_i)) + mean_j v_j log(1 + exp(target_j))) / 2, where the weights
    w (M) and v (N) are 1 by default.
    """
    source_losses, target_losses = functional.softplus(-source), functional.softplus(target)
    if source_weights is not None:
        source_losses = source_losses * source_weights
    if target_weights is not None:
        target_losses = target_losses * target_weights
    return (source_losses.mean() + target_losses.mean()) / 2


def outer(features: Tensor, probabilities: Tensor) -> Tensor:
    """Flattened outer products (N, K * D) of features (N, D) and class probabilities (N, K).

    The multilinear map of Long et al., NeurIPS 2018: entry k * D + d is p_k f_d.
    """
    return (probabilities[:, :, None] * features[:, None]).flatten(1)


def certainty(probabilities: Tensor) -> Tensor:
    """Weights (N) of predictions (N, K): 1 + exp(-H(p)), divided by their mean.

    Entropy conditioning of Long et al., NeurIPS 2018; H in nats. Certain predictions weigh up
    to twice as much as uniform ones. No gradient flows through the weights.
    """
    entropy = torch.special.entr(probabilities.detach()).sum(dim=1)
    weights = 1 + torch.exp(-entropy)
    return weights / weights.mean()
