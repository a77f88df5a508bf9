"""Steps log what they did; overlapping calls count once."""

import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime.artifacts import ArmRef, Dataset, Ref, Source
from tasks.runtime.step import Stopwatch, blamed, step, timed
from transfer.arms.plan import ArmPlan
from transfer.core.errors import DataRefusedError

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=12)
STORED = Ref(Path("build/x"), "d" * 64, 3.0, reused=True)
COMPUTED = Ref(Path("build/y"), "e" * 64, 3.0, reused=False)
PLAN = ArmPlan("l2_sp", ("oaks",), "l2_sp/oaks")


@given(SPANS)
def test_the_time_of_a_step_is_the_union_of_its_calls(spans):
    watch, covered = Stopwatch(), set()
    for start, length in spans:
        watch.add("train", start, start + length, reused=False)
        covered |= set(range(start, start + length))
    assert watch.seconds() == {"train": len(covered)}


def test_times_of_different_steps_are_separate():
    watch = Stopwatch()
    watch.add("a", 0.0, 2.0, False)
    watch.add("b", 1.0, 2.5, False)
    watch.add("a", 5.0, 5.25, False)
    assert watch.seconds() == {"a": 2.25, "b": 1.5}
    assert Stopwatch().seconds() == {}


def test_a_step_is_reused_when_every_call_was():
    watch = Stopwatch()
    for name, reused in (("a", True), ("b", True), ("b", False), ("c", False), ("c", True)):
        watch.add(name, 0, 1, reused)
    assert watch.reused() == ["a"]


def test_the_total_time_keeps_growing():
    watch = Stopwatch()
    first = watch.total()
    assert 0 <= first <= watch.total()


def called(result, *args, name="adapt"):
    @step(name, tags=["train"])
    def function(*args):
        return result

    return function.fn(*args)


WRAPS = [lambda r: r, lambda r: ArmRef(PLAN, 0, 9, r), lambda r: Source("oaks", r, None)]


@pytest.mark.parametrize(("ref", "reused"), [(STORED, ["adapt"]), (COMPUTED, [])])
@pytest.mark.parametrize("wrap", WRAPS)
def test_calls_are_timed_and_results_returned(ref, reused, wrap):
    with timed() as watch:
        assert called(wrap(ref)) == wrap(ref)
    assert list(watch.seconds()) == ["adapt"]
    assert watch.reused() == reused


def test_a_call_outside_of_a_run_is_not_timed():
    with timed() as watch:
        pass
    assert called(COMPUTED) == COMPUTED
    assert watch.seconds() == {}


def test_nested_runs_are_timed_separately():
    with timed() as outer:
        called(COMPUTED, name="one")
        with timed() as inner:
            called(COMPUTED, name="two")
        called(COMPUTED, name="three")
    assert (list(outer.seconds()), list(inner.seconds())) == (["one", "three"], ["two"])


def test_a_run_that_fails_ends_its_timing():
    with pytest.raises(ValueError, match="no"), timed():
        raise ValueError("no")
    with timed() as watch:
        called(COMPUTED)
    assert list(watch.seconds()) == ["adapt"]


@pytest.mark.parametrize(
    ("result", "argument", "line"),
    [
        (COMPUTED, None, "adapt"),
        (STORED, None, "adapt (stored)"),
        (ArmRef(PLAN, 2, 9, STORED), None, "adapt l2_sp/oaks/2 (stored)"),
        (Source("oaks", STORED, None), None, "adapt oaks (stored)"),
        (COMPUTED, Dataset("plants", Path("p"), "m"), "adapt plants"),
    ],
)
def test_each_call_logs_what_it_did(caplog, result, argument, line):
    with caplog.at_level(logging.INFO, logger="crosstrain"):
        called(result, argument)
    (record,) = caplog.records
    message = re.sub(r"\d+\.\d s", "", record.getMessage())
    assert " ".join(message.split()) == line


def test_an_error_passes_through():
    @step("scan", tags=[])
    def fails():
        raise KeyError("x")

    with timed() as watch, pytest.raises(KeyError):
        fails.fn()
    assert watch.seconds() == {}


def test_a_step_is_a_task_that_prefect_neither_caches_nor_persists():
    from prefect.cache_policies import NO_CACHE

    @step("scan", tags=["data"], retries=2, timeout=9)
    def scan(folder: str) -> str:
        """Read a dataset."""
        return folder

    assert (scan.name, scan.tags, scan.retries, scan.timeout_seconds) == ("scan", {"data"}, 2, 9)
    assert scan.cache_policy == NO_CACHE and scan.persist_result is False
    assert scan.fn.__doc__ == "Read a dataset."


@given(SPANS)
def test_time_between_steps_is_what_no_step_covers(spans):
    watch, covered = Stopwatch(), set()
    for number, (start, length) in enumerate(spans):
        watch.add(f"step {number % 3}", start, start + length, reused=False)
        covered |= set(range(start, start + length))
    assert watch.between() + len(covered) == pytest.approx(watch.total(), abs=0.5)


def test_an_error_names_the_training_it_came_from():
    with pytest.raises(DataRefusedError) as error, blamed("adapt l2_sp/1"):
        raise DataRefusedError("the loss is nan")
    assert str(error.value) == "adapt l2_sp/1: the loss is nan"
    with pytest.raises(KeyError) as other, blamed("pretrain"):
        raise KeyError("x")
    assert other.value.args == ("x",)
