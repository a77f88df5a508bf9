"""Merging the weights of networks of one architecture.

Every function takes tensors by name (state dicts) and returns new ones; nothing is changed in
place. Floating tensors are averaged in double precision. Integer tensors, such as batch counts,
are taken from the first network. The running variances of batch normalisation are not averaged
like weights: the variance over the data of all networks follows from the law of total variance,

    mean = sum_i s_i m_i,    variance = sum_i s_i (v_i + (m_i - mean)^2),    sum_i s_i = 1,

which is exact when merging the weights does not change the features. A caller that can pass the
items through the merged network should compute the statistics again. They are statistics of data
and not steps of an optimiser, so clipping and the server's learning rate do not apply to them.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def uniform(states: Sequence[State]) -> dict[str, Tensor]:
    """The uniform soup of all networks (Wortsman et al., ICML 2022).

    Raises:
        ValueError: there is no network, or names or shapes differ.
    """
    return weighted(states, [1.0] * len(states))


def weighted(states: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted average of all networks; the weights may be their numbers of items.

    FedAvg (McMahan et al., AISTATS 2017): w = sum_i n_i w_i / sum_i n_i.

    Raises:
        ValueError: there is no network, names or shapes differ, or there is not one
            weight for each network, a weight is negative, or no weight is positive.
    """
    _check(states)
    if len(weights) != len(states) or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(
            f"found the weights {list(weights)} for {len(states)} networks; expected one each, "
            "none negative and one positive"
        )
    shares = torch.tensor(weights, dtype=torch.double) / sum(weights)
    return {name: _mixed(states, name, shares) for name in states[0]}


def greedy_soup(
    states: Sequence[State], score: Callable[[dict[str, Tensor]], float]
) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """The greedy soup (Wortsman et al., ICML 2022), and the indices of the networks in it.

    Networks are tried in descending order of their scores (equal scores: in the given order). A
    network stays in the uniform soup unless the soup scores worse with it. So the soup never
    scores worse than the best network.

    Raises:
        ValueError: there is no network, or names or shapes differ.
    """
    _check(states)
    scores = [score(dict(state)) for state in states]
    first, *others = sorted(range(len(states)), key=lambda i: -scores[i])
    chosen: tuple[int, ...] = (first,)
    best, soup = scores[first], uniform([states[first]])
    for i in others:
        candidate = uniform([states[j] for j in (*chosen, i)])
        if (candidate_score := score(candidate)) >= best:
            chosen, best, soup = (*chosen, i), candidate_score, candidate
    return soup, chosen


def clipped_average(
    start: State, ends: Sequence[State], limit: float, rate: float = 1.0
) -> dict[str, Tensor]:
    """One server step from clipped updates: w = start + rate * mean_i clip(end_i - start).

    Federated averaging with clipped updates (McMahan et al., ICLR 2018).

    Args:
        start: the weights from which every network was trained.
        ends: the weights of each network after training.
        limit: the largest norm of an update, see `clip_delta`.
        rate: the server's learning rate; 1 adds the mean update unchanged.

    Raises:
        ValueError: there is no network, names or shapes differ, or the limit is negative.
    """
    _check([start, *ends])
    merged = uniform(ends)
    steps = [clip_delta(update(start, end), limit) for end in ends]
    for name in steps[0]:
        mean = torch.stack([_double(step[name]) for step in steps]).mean(dim=0)
        merged[name] = (_double(start[name]) + rate * mean).to(start[name])
    return merged


def update(start: State, end: State) -> dict[str, Tensor]:
    """The change of the weights in training: end - start, without statistics and integers."""
    return {
        name: end[name] - tensor
        for name, tensor in start.items()
        if tensor.is_floating_point() and not _is_statistic(start, name)
    }


def length(delta: State) -> float:
    """Euclidean norm over all floating tensors together."""
    parts = [float(_double(t).square().sum()) for t in delta.values() if t.is_floating_point()]
    return math.sqrt(sum(parts))


def clip_delta(delta: State, limit: float) -> dict[str, Tensor]:
    """Clip an update to a norm (McMahan et al., ICLR 2018): delta * min(1, limit / ||delta||).

    The norm is taken over all floating tensors together, so the direction is kept.

    Raises:
        ValueError: the limit is negative.
    """
    if limit < 0:
        raise ValueError(f"found the limit {limit} of an update's norm; expected 0 or more")
    norm = length(delta)
    if norm <= limit:
        return dict(delta)
    scale = limit / norm
    return {k: t * scale if t.is_floating_point() else t for k, t in delta.items()}


def _check(states: Sequence[State]) -> None:
    if not states:
        raise ValueError("found no network to merge; expected at least one")
    expected = {name: t.shape for name, t in states[0].items()}
    for index, state in enumerate(states):
        if differing := expected.items() ^ {name: t.shape for name, t in state.items()}.items():
            name = min(differing)[0]
            raise ValueError(
                f"network {index} differs from network 0 in the tensor {name!r}; expected the "
                "same names and shapes in all"
            )


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _is_statistic(state: State, name: str) -> bool:
    return _statistic(state, name) != ""


def _statistic(state: State, name: str) -> str:
    """'mean' or 'var' for a running statistic of batch normalisation, else ''."""
    layer, _, statistic = name.rpartition("running_")
    other = {"mean": "var", "var": "mean"}.get(statistic, "")
    return statistic if other and f"{layer}running_{other}" in state else ""


def _mixed(states: Sequence[State], name: str, shares: Tensor) -> Tensor:
    first = states[0][name]
    if not first.is_floating_point():
        return first.clone()
    mixed = _average([state[name] for state in states], shares)
    if _statistic(states[0], name) == "var":
        means = [_double(s[f"{name.removesuffix('var')}mean"]) for s in states]
        centre = _average(means, shares)
        mixed = mixed + _average([(mean - centre).square() for mean in means], shares)
    return mixed.to(first)


def _average(tensors: Sequence[Tensor], shares: Tensor) -> Tensor:
    return torch.tensordot(shares, torch.stack([_double(t) for t in tensors]), dims=1)
