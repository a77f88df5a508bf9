"""What is trained next: what a decision needs first, and of every decision who has a part in it."""

from hypothesis import given
from hypothesis import strategies as st

from transfer.arms import budget_policy
from transfer.arms.budget_policy import Standing

SEEDS = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)


def test_a_larger_share_stands_first():
    assert list(budget_policy.SHARES) == sorted(budget_policy.SHARES, reverse=True)
    assert budget_policy.SHARES[0] == 1.0


# order


@given(GROUPS, SEEDS, st.data())
def test_the_first_round_has_what_a_decision_needs_first_and_each_group_once(groups, seeds, data):
    first = seeds[:2]
    done = data.draw(st.sets(st.sampled_from([("scratch", seed) for seed in first])))
    arms = budget_policy.first_round(["scratch"], groups, seeds, done)
    pairs = [(name, seed) for seed in first for name in (groups[0], "scratch")]
    others = [(name, seeds[0]) for name in groups[1:]]
    assert arms == [arm for arm in [*pairs, *others] if arm not in done]


def test_the_best_goes_on_with_the_baseline_then_the_second_best_with_all_its_seeds():
    done = [("scratch", 0), ("scratch", 1), ("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    assert budget_policy.second_round(["scratch"], ["b", "a", "c"], [0, 1, 2], done) == [
        ("b", 1),
        ("scratch", 2),
        ("b", 2),
        ("a", 2),
        ("c", 1),
        ("c", 2),
    ]


@given(GROUPS, SEEDS, st.data())
def test_in_the_end_every_arm_is_trained_once(groups, seeds, data):
    arms = {(name, seed) for name in ["scratch", *groups] for seed in seeds}
    done = data.draw(st.sets(st.sampled_from(sorted(arms))))
    trained = budget_policy.second_round(["scratch"], groups, seeds, done)
    assert sorted([*trained, *done]) == sorted(arms)


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
