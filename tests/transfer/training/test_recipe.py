"""The course of the learning rate, and what a budget may be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.training.recipe import TrainingSettings, one_cycle


@given(st.floats(0, 0.99), st.floats(0, 1))
def test_one_cycle_stays_within_its_peak(warmup, progress):
    assert 0 <= one_cycle(progress, warmup) <= 1 + 1e-9


def test_one_cycle_is_a_line_and_half_a_cosine():
    assert one_cycle(0.0, 0.25) == pytest.approx(0.001 / 0.251)
    assert one_cycle(0.125, 0.25) == pytest.approx(0.126 / 0.251)
    assert one_cycle(0.25, 0.25) == 1.0
    assert one_cycle(0.5, 0.25) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)
    assert one_cycle(0.625, 0.25) == pytest.approx(0.5)
    assert one_cycle(1.0, 0.25) == pytest.approx(0.0, abs=1e-12)
    assert one_cycle(0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": 1}, {"label_smoothing": 1}, {"warmup": 1}, {"ema": 1}]
)
def test_a_budget_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingSettings(**wrong)
