"""Durations as a person types them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.core import durations

PARTS = st.tuples(st.integers(0, 99), st.integers(0, 999), st.integers(0, 9999))


@given(PARTS)
def test_hours_minutes_and_seconds_add_up(parts):
    hours, minutes, seconds = parts
    total = 3600 * hours + 60 * minutes + seconds
    text = "".join(f"{n}{unit}" for n, unit in zip(parts, "hms", strict=True) if n)
    if total:
        assert durations.seconds(text) == total
        assert re.fullmatch(durations.PATTERN, text)


@pytest.mark.parametrize(
    "text",
    ["", "5", "5 m", "m", "-5m", "5m1h", "1.5h", "5min", "1h 30m", "0s", "0h0m", "５m", "5m\n"],
)
def test_anything_else_is_refused_and_says_what_is_expected(text):
    with pytest.raises(ValueError, match="expected one such as 90s, 5m, 2h or 1h30m"):
        durations.seconds(text)
