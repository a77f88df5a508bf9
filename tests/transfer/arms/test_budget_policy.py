"""What is trained next: never more than ends in time, what is needed first, more with more time."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.arms import budget_policy
from transfer.arms.budget_policy import Cost, Standing

SECONDS = st.floats(0, 100)
COSTS = st.lists(SECONDS, max_size=12)
BUNDLES = st.lists(st.lists(SECONDS, min_size=1, max_size=3), max_size=8)
WORKERS = st.integers(1, 5)
SEEDS = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)


def by_hand(costs, workers):
    """Ends of jobs, one by one, each on the worker that is free first."""
    free = [0.0] * workers
    for cost in costs:
        first = min(range(workers), key=free.__getitem__)
        free[first] += cost
    return max(free)


# time


@given(COSTS, WORKERS)
def test_jobs_end_as_workers_take_them_from_a_queue(costs, workers):
    found = budget_policy.ends(costs, workers)
    assert found == pytest.approx(by_hand(costs, workers))
    assert found >= sum(costs) / workers - 1e-6
    assert found >= max(costs, default=0.0)
    assert found <= sum(costs) / workers + max(costs, default=0.0) + 1e-6


@given(BUNDLES, SECONDS, WORKERS, st.floats(0, 2))
def test_what_is_taken_ends_in_time_and_the_next_would_not(bundles, seconds, workers, each):
    def end(count):
        jobs = list(itertools.chain(*bundles[:count]))
        return by_hand(jobs, workers) + each * len(jobs)

    count = budget_policy.fitting(bundles, seconds, workers, each)
    assert count == 0 or end(count) <= seconds
    assert count == len(bundles) or end(count + 1) > seconds


@given(BUNDLES, SECONDS, SECONDS, WORKERS)
def test_more_time_never_takes_away(bundles, some, more, workers):
    assert budget_policy.fitting(bundles, some, workers) <= budget_policy.fitting(
        bundles, some + more, workers
    )


@given(SECONDS, SECONDS, SECONDS)
def test_the_share_of_the_steps_is_the_largest_that_ends_in_time(fixed, step, seconds):
    def least(share):
        return fixed + step * share

    found = budget_policy.affordable(least, seconds)
    ending = [share for share in budget_policy.SHARES if least(share) <= seconds]
    assert found == (max(ending) if ending else None)


def test_a_larger_share_stands_first():
    assert list(budget_policy.SHARES) == sorted(budget_policy.SHARES, reverse=True)
    assert budget_policy.SHARES[0] == 1.0


@given(SECONDS, SECONDS, st.integers(1, 20), st.integers(1, 20), st.integers(1, 1000))
def test_cost_is_a_line_through_two_trainings(fixed, step, few, more, steps):
    two = [(n, fixed + n * step) for n in (few, few + more)]
    found = Cost.through(*two)
    assert found.at(steps) == pytest.approx(fixed + steps * step, abs=1e-4, rel=1e-4)


def test_a_longer_training_that_was_faster_costs_nothing_a_step():
    assert Cost.through((4, 3.0), (16, 2.0)) == Cost(3.0, 0.0)


# order


@given(GROUPS, SEEDS, st.data())
def test_the_first_round_has_what_a_decision_needs_first_and_each_group_once(groups, seeds, data):
    needed = seeds[:2]
    done = data.draw(st.sets(st.sampled_from([("scratch", seed) for seed in needed])))
    bundles = budget_policy.opening(["scratch"], groups, seeds, done)
    for seed, bundle in zip(needed, bundles, strict=False):
        assert bundle == [j for j in [(groups[0], seed), ("scratch", seed)] if j not in done]
    assert bundles[len(needed) :] == [[(one, seeds[0])] for one in groups[1:]]


def test_the_best_goes_on_with_the_baseline_then_the_second_best_with_all_its_seeds():
    done = [("scratch", 0), ("scratch", 1), ("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    assert budget_policy.sequel(["scratch"], ["b", "a", "c"], [0, 1, 2], done) == [
        [("b", 1)],
        [("scratch", 2), ("b", 2)],
        [("a", 2)],
        [("c", 1), ("c", 2)],
    ]


@given(GROUPS, SEEDS, st.data())
def test_in_the_end_every_job_is_made_once(groups, seeds, data):
    jobs = {(one, seed) for one in ["scratch", *groups] for seed in seeds}
    done = data.draw(st.sets(st.sampled_from(sorted(jobs))))
    made = list(itertools.chain(*budget_policy.sequel(["scratch"], groups, seeds, done)))
    assert sorted([*made, *done]) == sorted(jobs)


# what a decision is made of


@given(GROUPS, SEEDS, st.data())
def test_finalists_have_the_seeds_of_the_baseline_and_no_more_count(groups, seeds, data):
    jobs = sorted((one, seed) for one in ["scratch", *groups] for seed in seeds)
    done = data.draw(st.sets(st.sampled_from(jobs)))
    found = budget_policy.standing(done, ["scratch"], groups, [], seeds)
    if found is None:
        first = {(one, seeds[0]) for one in groups}
        assert ("scratch", seeds[0]) not in done or not first & done
        return
    assert found.seeds == tuple(seeds[: len(found.seeds)])
    assert "scratch" in found.finalists and len(found.finalists) > 1
    kept = {job for job in jobs if found.keeps(job)}
    assert kept <= done
    for one in found.finalists:
        assert {(one, seed) for seed in found.seeds} <= kept
    for one in found.tried:
        assert {job for job in kept if job[0] == one} == {(one, seeds[0])}


@given(GROUPS, SEEDS, st.data())
def test_more_arms_never_make_a_decision_of_fewer_seeds(groups, seeds, data):
    jobs = sorted((one, seed) for one in ["scratch", *groups] for seed in seeds)
    done = data.draw(st.sets(st.sampled_from(jobs)))
    more = done | data.draw(st.sets(st.sampled_from(jobs)))
    some = budget_policy.standing(done, ["scratch"], groups, [], seeds)
    all_of_them = budget_policy.standing(more, ["scratch"], groups, [], seeds)
    if some is not None:
        assert all_of_them is not None
        assert len(all_of_them.seeds) >= len(some.seeds)


def test_a_group_without_a_source_may_be_chosen_but_is_no_transfer():
    done = [("scratch", 0), ("svm", 0)]
    assert budget_policy.standing(done, ["scratch"], ["a"], ["svm"], [0]) is None
    done.append(("a", 0))
    found = budget_policy.standing(done, ["scratch"], ["a"], ["svm"], [0])
    assert found == Standing((0,), ("scratch", "a", "svm"), ())


@given(GROUPS, SEEDS, SECONDS, SECONDS, WORKERS, st.data())
def test_a_whole_search_is_monotone_in_the_budget(groups, seeds, some, more, workers, data):
    """With known costs: what a budget trains is trained by every larger one, and ends in time."""
    jobs = [(one, seed) for one in ["scratch", *groups] for seed in seeds]
    cost = {job: data.draw(st.floats(0.1, 30)) for job in jobs}

    def search(seconds):
        first = ("scratch", seeds[0])
        bundles = [[first], *budget_policy.opening(["scratch"], groups, seeds, [first])]
        bundles += budget_policy.sequel(["scratch"], groups, seeds, set(itertools.chain(*bundles)))
        count = budget_policy.fitting([[cost[j] for j in b] for b in bundles], seconds, workers)
        return list(itertools.chain(*bundles[:count]))

    few, many = search(some), search(some + more)
    assert set(few) <= set(many)
    assert by_hand([cost[job] for job in few], workers) <= some
