"""The maths of alignment against double loops in NumPy, and on domains that agree."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn import functional

from transfer.methods.building_blocks import alignment

MULTIPLES = (0.25, 1.0, 3.0)


def sample(n, d=5, seed=0, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


def tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def squared(x, y):
    return float(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def mmd_by_loops(s, t, multiples):
    both = [*s, *t]
    n = len(both)
    b = sum(squared(both[i], both[j]) for i in range(n) for j in range(n)) / (n * (n - 1))

    def k(x, y):
        return np.mean([np.exp(-squared(x, y) / (g * b)) for g in multiples])

    def within(rows):
        pairs = [(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return sum(k(x, y) for x, y in pairs) / len(pairs)

    between = sum(k(x, y) for x in s for y in t) / (len(s) * len(t))
    return within(s) + within(t) - 2 * between


def coral_by_loops(s, t):
    d = s.shape[1]
    total = 0.0
    for i in range(d):
        for j in range(d):
            one, other = (np.cov(x[:, i], x[:, j])[0, 1] for x in (s, t))
            total += (one - other) ** 2
    return total / (4 * d**2)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_coral_is_the_documented_formula(scale):
    s, t = sample(9), sample(13, seed=1, shift=2.0, scale=scale)
    found = float(alignment.coral(tensor(s), tensor(t)))
    assert found == pytest.approx(coral_by_loops(s, t), rel=1e-4)


def test_coral_of_known_covariances():
    s = tensor([[1.0, 0.0], [-1.0, 0.0]])  # covariance diag(2, 0)
    t = tensor([[0.0, 1.0], [0.0, -1.0]])  # covariance diag(0, 2)
    assert float(alignment.coral(s, t)) == pytest.approx((4 + 4) / (4 * 2**2))


def test_coral_of_equal_covariances_is_zero_wherever_the_means_are():
    s = tensor(sample(40))
    assert float(alignment.coral(s, s)) == 0
    assert float(alignment.coral(s, s.flip(0) + 5)) == pytest.approx(0, abs=1e-9)


def test_coral_falls_with_more_items_of_one_distribution():
    small, large = (
        float(alignment.coral(tensor(sample(n, seed=1)), tensor(sample(n, seed=2))))
        for n in (20, 2000)
    )
    assert large < small / 20
    assert large < 1e-3


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_mk_mmd_is_the_documented_formula(shift):
    s, t = sample(6), sample(9, seed=1, shift=shift, scale=1.3)
    found = float(alignment.mk_mmd(tensor(s), tensor(t), MULTIPLES))
    assert found == pytest.approx(mmd_by_loops(s, t, MULTIPLES), rel=1e-4, abs=1e-6)


def test_mk_mmd_of_one_distribution_is_zero_on_average():
    values = [
        float(
            alignment.mk_mmd(tensor(sample(32, seed=i)), tensor(sample(48, seed=900 + i)), (1.0,))
        )
        for i in range(200)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert error < 0.001
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0 < max(values)


def test_mk_mmd_tells_domains_apart():
    s = tensor(sample(64))
    near, far = (
        float(alignment.mk_mmd(s, tensor(sample(64, seed=1, shift=shift)), MULTIPLES))
        for shift in (0.5, 2.0)
    )
    assert 0.03 < near < far


def test_mk_mmd_does_not_depend_on_the_scale_of_features():
    s, t = tensor(sample(10)), tensor(sample(10, seed=1, shift=1.0))
    one, other = (float(alignment.mk_mmd(c * s, c * t, MULTIPLES)) for c in (1.0, 64.0))
    assert one == pytest.approx(other, rel=1e-5)


def test_the_width_of_a_kernel_is_held_constant_in_the_gradient():
    s, t = tensor(sample(6)).double(), tensor(sample(7, seed=1, shift=1.0)).double()
    s.requires_grad_()
    (found,) = torch.autograd.grad(alignment.mk_mmd(s, t, (2.0,)), s)
    rows = [*s.detach().numpy(), *t.numpy()]
    b = np.mean([squared(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
    x = rows[0]
    expected = np.zeros(5)
    for i, y in enumerate(rows[1:], 1):
        weight = 2 / (6 * 5) if i < 6 else -2 / (6 * 7)
        expected += weight * np.exp(-squared(x, y) / (2 * b)) * -2 * (x - y) / (2 * b)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "distance", [alignment.coral, lambda s, t: alignment.mk_mmd(s, t, MULTIPLES)]
)
class TestDistances:
    def test_constant_features_are_no_distance_apart_and_give_no_gradient(self, distance):
        s = torch.ones(4, 3, requires_grad=True)
        found = distance(s, torch.ones(5, 3))
        found.backward()
        assert float(found.detach()) == pytest.approx(0, abs=1e-6)
        assert torch.equal(s.grad, torch.zeros(4, 3))

    def test_one_item_is_too_few(self, distance):
        with pytest.raises(ValueError, match="1 source and 4 target items; expected 2"):
            distance(torch.ones(1, 3), torch.ones(4, 3))

    def test_half_precision_is_left_for_the_distance(self, distance):
        s, t = tensor(sample(20)), tensor(sample(20, seed=1))
        whole = distance(s, t)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(distance(s, t), whole)


def test_the_ramp_rises_from_nothing_to_almost_one():
    assert alignment.ramp(0) == 0
    assert alignment.ramp(0.1) == pytest.approx(np.tanh(0.5))  # 2 / (1 + e^-x) - 1 = tanh(x / 2)
    assert alignment.ramp(1) == pytest.approx(np.tanh(5))


def test_a_reversed_gradient_changes_sign_and_size_and_nothing_else():
    x = tensor(sample(4)).requires_grad_()
    out = alignment.reverse(x, 0.3)
    assert torch.equal(out, x)
    (found,) = torch.autograd.grad((out**2).sum(), x)
    torch.testing.assert_close(found, -0.3 * 2 * x)


def test_what_follows_a_reversal_still_learns():
    x, w = torch.ones(2, 3), torch.ones(3, requires_grad=True)
    (found,) = torch.autograd.grad((alignment.reverse(x, 0.5) @ w).sum(), w)
    assert torch.equal(found, 2 * torch.ones(3))


def test_a_discriminator_is_initialised_alike_and_not_by_the_global_generator():
    before = torch.get_rng_state()
    one, other = (alignment.Discriminator(5, 7).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert one["hidden.weight"].std() > 0.1


def test_a_discriminator_is_a_network_of_one_hidden_layer():
    net = alignment.Discriminator(5, 7)
    x = sample(4)
    w, b, v, c = (p.detach().double().numpy() for p in net.parameters())
    expected = np.maximum(x @ w.T + b, 0) @ v[0] + c[0]
    np.testing.assert_allclose(net(tensor(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_domain_loss_is_the_mean_cross_entropy_of_two_domains():
    s, t = np.array([0.3, -2.0, 5.0]), np.array([1.0, -1.0])
    w, v = np.array([0.5, 2.0, 0.5]), np.array([1.5, 0.5])
    chance_s, chance_t = 1 / (1 + np.exp(-s)), 1 / (1 + np.exp(-t))
    plain = (-np.log(chance_s).mean() - np.log(1 - chance_t).mean()) / 2
    assert float(alignment.domain_loss(tensor(s), tensor(t))) == pytest.approx(plain, rel=1e-5)
    weighted = (-(w * np.log(chance_s)).mean() - (v * np.log(1 - chance_t)).mean()) / 2
    found = alignment.domain_loss(tensor(s), tensor(t), tensor(w), tensor(v))
    assert float(found) == pytest.approx(weighted, rel=1e-5)


def test_a_discriminator_that_knows_nothing_loses_log_two():
    assert float(alignment.domain_loss(torch.zeros(3), torch.zeros(9))) == pytest.approx(np.log(2))


def test_outer_products_are_those_of_numpy():
    x, p = sample(4, d=3), np.random.default_rng(1).dirichlet(np.ones(2), 4)
    expected = np.stack([np.outer(q, f).ravel() for q, f in zip(p, x, strict=True)])
    found = alignment.outer(tensor(x), tensor(p))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_sure_predictions_weigh_more_up_to_twice_as_much():
    p = np.array([[1.0, 0, 0], [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    raw = 1 + np.exp(-entropy(p, axis=1))
    found = alignment.certainty(tensor(p))
    np.testing.assert_allclose(found.numpy(), raw / raw.mean(), rtol=1e-5)
    sure, unsure = alignment.certainty(torch.eye(1000)[:1].repeat(2, 1).clone()).tolist()
    assert sure == unsure == 1
    assert float(found[0] / found[2]) == pytest.approx(2 / (1 + 1 / 3))


def test_no_gradient_flows_through_the_certainty():
    p = torch.full((2, 2), 0.5, requires_grad=True)
    assert not alignment.certainty(p).requires_grad


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_reversed_gradient_unlearns_what_tells_domains_apart_and_keeps_the_rest(strength):
    """Two features with a learned scale each: one tells the class, the other the domain."""
    s, t = tensor(sample(64, d=2)), tensor(sample(64, d=2, seed=1)) + torch.tensor([0.0, 3.0])
    scale = torch.ones(2, requires_grad=True)
    judge = alignment.Discriminator(2, 16)
    optimiser = torch.optim.SGD([scale, *judge.parameters()], lr=0.1)
    for _ in range(200):
        one, other = (judge(alignment.reverse(x * scale, strength)) for x in (s, t))
        classes = functional.binary_cross_entropy_with_logits(
            s[:, 0] * scale[0], (s[:, 0] > 0) * 1.0
        )
        optimiser.zero_grad()
        (alignment.domain_loss(one, other) + classes).backward()
        optimiser.step()
    kept, unlearned = scale.detach().tolist()
    assert kept > 1.5
    assert (abs(unlearned) < 0.05) == (strength > 0)
