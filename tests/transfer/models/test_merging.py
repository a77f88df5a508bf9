"""Merging against NumPy, and the properties that any merge of weights must have."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.models.merging import (
    clip_delta,
    clipped_average,
    greedy_soup,
    length,
    uniform,
    update,
    weighted,
)

SEEDS = st.integers(0, 9999)
COUNTS = st.integers(1, 5)


def states(n, seed=0):
    """Networks of a matrix, a vector, a half-precision vector and the buffers of a norm."""
    rng = np.random.default_rng(seed)
    return [
        {
            "head.weight": torch.tensor(rng.normal(size=(3, 2)), dtype=torch.float32),
            "head.bias": torch.tensor(rng.normal(size=3), dtype=torch.float32),
            "scale": torch.tensor(rng.normal(size=4), dtype=torch.bfloat16),
            "norm.running_mean": torch.tensor(rng.normal(size=2), dtype=torch.float32),
            "norm.running_var": torch.tensor(rng.random(2), dtype=torch.float32),
            "norm.num_batches_tracked": torch.tensor(int(rng.integers(1, 100))),
        }
        for _ in range(n)
    ]


def table(members, name):
    return np.stack([state[name].double().numpy() for state in members])


def close(actual, expected):
    torch.testing.assert_close(dict(actual), dict(expected))


@given(COUNTS, SEEDS)
def test_merging_copies_of_a_network_gives_that_network(n, seed):
    (state,) = states(1, seed)
    assert tiny.same(uniform([state] * n), state)
    assert tiny.same(weighted([state] * n, range(1, n + 1)), state)
    assert tiny.same(greedy_soup([state] * n, lambda s: float(s["scale"][0]))[0], state)


@given(COUNTS, SEEDS)
def test_weights_are_averaged_by_their_shares(n, seed):
    members, counts = states(n, seed), np.random.default_rng(seed).integers(1, 50, n)
    merged = weighted(members, counts.tolist())
    for name in ("head.weight", "head.bias", "norm.running_mean"):
        expected = np.average(table(members, name), axis=0, weights=counts)
        np.testing.assert_allclose(merged[name], expected, rtol=1e-5, atol=1e-6)
    assert merged["scale"].dtype == torch.bfloat16
    assert merged["norm.num_batches_tracked"] == members[0]["norm.num_batches_tracked"]


@given(COUNTS, SEEDS)
def test_equal_weights_make_the_uniform_soup_whatever_their_order(n, seed):
    members = states(n, seed)
    close(uniform(members), weighted(members, [7.0] * n))
    backwards = uniform(members[::-1])
    backwards["norm.num_batches_tracked"] = members[0]["norm.num_batches_tracked"]
    close(uniform(members), backwards)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), SEEDS)
def test_statistics_are_those_of_the_data_of_all_networks(counts, seed):
    rng = np.random.default_rng(seed)
    datasets = [rng.normal(rng.normal(), 2 * rng.random(), (n, 2)) for n in counts]
    members = states(len(datasets), seed)
    for state, values in zip(members, datasets, strict=True):
        state["norm.running_mean"] = torch.from_numpy(values.mean(axis=0))
        state["norm.running_var"] = torch.from_numpy(values.var(axis=0))
    merged, all_values = weighted(members, counts), np.concatenate(datasets)
    np.testing.assert_allclose(merged["norm.running_mean"], all_values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(merged["norm.running_var"], all_values.var(axis=0), atol=1e-12)


def test_a_network_of_weight_0_changes_nothing():
    first, second = states(2)
    assert tiny.same(weighted([first, second], [3, 0]), first)


def test_nothing_is_changed_in_place():
    members = states(3)
    before = [{k: t.clone() for k, t in state.items()} for state in members]
    merged = [
        uniform(members),
        greedy_soup(members, lambda s: 0.0)[0],
        clipped_average(members[0], members[1:], 0.1),
    ]
    for state in merged:
        for tensor in state.values():
            tensor.zero_()
    assert all(tiny.same(*pair) for pair in zip(members, before, strict=True))


@given(SEEDS, st.floats(0, 20))
def test_a_clipped_update_is_no_longer_than_the_limit_and_points_the_same_way(seed, limit):
    (delta,) = states(1, seed)
    del delta["scale"]
    flat = np.concatenate([t.numpy().ravel() for n, t in delta.items() if "num_" not in n])
    clipped = clip_delta(delta, limit)
    shorter = np.concatenate([t.numpy().ravel() for n, t in clipped.items() if "num_" not in n])
    expected = flat * min(1.0, limit / np.linalg.norm(flat))
    np.testing.assert_allclose(shorter, expected, rtol=1e-5, atol=1e-6)
    assert length(clipped) <= limit * (1 + 1e-5)
    assert clipped["norm.num_batches_tracked"] == delta["norm.num_batches_tracked"]


def test_an_update_of_norm_0_is_kept():
    assert length(clip_delta({"w": torch.zeros(3)}, 0.0)) == 0


def test_an_update_leaves_out_statistics_and_counts():
    start, end = states(2)
    delta = update(start, end)
    assert list(delta) == ["head.weight", "head.bias", "scale"]
    torch.testing.assert_close(delta["head.bias"], end["head.bias"] - start["head.bias"])


@given(COUNTS, SEEDS, st.floats(0.1, 5), st.floats(0.1, 2))
def test_the_clipped_average_is_the_servers_step_of_the_paper(n, seed, limit, rate):
    start, *ends = states(n + 1, seed)
    names = ("head.weight", "head.bias", "scale")
    mean = dict.fromkeys(names, 0.0)
    for end in ends:
        moves = {m: (end[m] - start[m]).double().numpy() for m in names}
        norm = np.sqrt(sum((move**2).sum() for move in moves.values()))
        for m in names:
            mean[m] = mean[m] + moves[m] * min(1, limit / norm) / n
    merged = clipped_average(start, ends, limit, rate)
    for m in names:
        expected = start[m].double().numpy() + rate * mean[m]
        tolerance = 0.05 if m == "scale" else 1e-5
        np.testing.assert_allclose(merged[m].double(), expected, rtol=tolerance, atol=tolerance)


def test_without_a_limit_the_clipped_average_is_the_uniform_soup():
    start, *ends = states(4)
    for state in (start, *ends):
        state["scale"] = state["scale"].float()
    close(clipped_average(start, ends, 1e9), uniform(ends))


def test_statistics_are_neither_clipped_nor_scaled_by_the_rate():
    start, *ends = states(4)
    merged, soup = clipped_average(start, ends, 1e-9, rate=0.5), uniform(ends)
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert torch.equal(merged[name], soup[name])
    torch.testing.assert_close(merged["head.weight"], start["head.weight"])


def test_a_greedy_soup_adds_networks_that_help_and_no_others():
    """The goal is 1: 0.4 is nearest, its mean with 1.8 is 1.1; with -3 too the mean is -0.27."""
    members = [{"w": torch.tensor([value])} for value in (1.8, 0.4, -3.0)]
    soup, chosen = greedy_soup(members, lambda s: -abs(float(s["w"]) - 1))
    assert chosen == (1, 0)
    torch.testing.assert_close(soup["w"], torch.tensor([1.1]))


@given(COUNTS, SEEDS)
def test_a_greedy_soup_never_scores_worse_than_its_best_member(n, seed):
    members = states(n, seed)
    goal = np.random.default_rng(seed).normal(size=3)

    def score(state):
        return -float(np.linalg.norm(state["head.bias"].numpy() - goal))

    soup, chosen = greedy_soup(members, score)
    scores = [score(member) for member in members]
    assert score(soup) >= max(scores)
    assert chosen[0] == int(np.argmax(scores)) and len(set(chosen)) == len(chosen)
    close(soup, uniform([members[i] for i in chosen]))


@pytest.mark.parametrize(
    "merge", [uniform, lambda s: weighted(s, []), lambda s: greedy_soup(s, len)]
)
def test_merging_no_network_is_refused(merge):
    with pytest.raises(ValueError, match="found no network"):
        merge([])


def test_networks_of_different_architecture_are_refused():
    first, second = states(2)
    with pytest.raises(ValueError, match=r"network 1 .* 'more'"):
        uniform([first, {**second, "more": torch.zeros(1)}])
    with pytest.raises(ValueError, match=r"network 1 .* 'head.bias'"):
        clipped_average(first, [{**second, "head.bias": torch.zeros(7)}], 1.0)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_weights_that_make_no_average_are_refused(weights):
    with pytest.raises(ValueError, match="none negative and one positive"):
        weighted(states(2), weights)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="the limit -1"):
        clip_delta({"w": torch.ones(2)}, -1)
