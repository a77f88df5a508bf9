"""Methods crossed with sources, and who goes on after the first seed."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.arms import plan as portfolio
from transfer.arms.plan import ArmPlan, Offer, survivors
from transfer.training.method import Method


class Scratch(Method):
    uses_source: ClassVar[bool] = False


class Tune(Method):
    pass


class Probe(Method):
    trains_backbone: ClassVar[bool] = False


class Read(Method):
    reads_source: ClassVar[bool] = True


class ReadFrozen(Method):
    reads_source: ClassVar[bool] = True
    trains_backbone: ClassVar[bool] = False


class Join(Method):
    combines: ClassVar[bool] = True


class Known(Method):
    """Tells apart what the source knows."""

    new_classes: ClassVar[bool] = False


KINDS = {
    "known": Known,
    "source_only": Known,
    "join": Join,
    "probe": Probe,
    "prune": Scratch,
    "read": Read,
    "read_frozen": ReadFrozen,
    "scratch": Scratch,
    "tune": Tune,
}
OAKS = Offer("oaks", has_items=True, trained_here=True, covers=True)
ELMS = Offer("elms", has_items=True, trained_here=True, covers=False)
BOTH = Offer("oaks and elms", has_items=False, trained_here=True, covers=True)  # of two datasets
PACKAGE = Offer("imagenet", has_items=False, trained_here=False, covers=False)


@pytest.fixture(autouse=True)
def _folder_of_methods(monkeypatch):
    """One method of each kind, whatever lies in the folder."""
    monkeypatch.setattr(portfolio, "known", lambda: KINDS)


def plan(methods, *offers, tune_packages=False, **told):
    return portfolio.plan(methods, offers, tune_packages=tune_packages, **told)


def labels(methods, *offers, **told):
    return [one.label for one in plan(methods, *offers, **told)]


def test_scratch_is_planned_once_and_first_whether_it_is_asked_for_or_not():
    for methods in (["tune"], ["tune", "scratch"], ["scratch", "tune"]):
        assert plan(methods, OAKS) == [
            ArmPlan("scratch", (), "scratch"),
            ArmPlan("tune", ("oaks",), "tune"),
        ]


def test_methods_without_a_source_come_before_all_others_and_once_for_all_sources():
    assert labels(["tune", "prune"], OAKS, ELMS) == [
        "scratch",
        "prune",
        "tune/oaks",
        "tune/elms",
    ]


def test_with_one_source_a_label_is_the_method():
    assert labels(["tune", "probe", "join"], OAKS) == ["scratch", "tune", "probe", "join"]


def test_with_several_sources_a_label_names_the_source_too():
    found = plan(["tune", "probe"], OAKS, ELMS)
    assert found[1:] == [
        ArmPlan("tune", ("oaks",), "tune/oaks"),
        ArmPlan("tune", ("elms",), "tune/elms"),
        ArmPlan("probe", ("oaks",), "probe/oaks"),
        ArmPlan("probe", ("elms",), "probe/elms"),
    ]


def test_a_label_names_the_source_even_where_only_one_of_several_fits():
    assert labels(["tune", "read"], OAKS, PACKAGE) == ["scratch", "tune/oaks", "read/oaks"]


def test_a_method_that_combines_gets_all_sources_at_once_and_stands_once():
    found = plan(["join", "tune"], OAKS, ELMS, PACKAGE)
    assert found[1] == ArmPlan("join", ("oaks", "elms", "imagenet"), "join")
    assert [one.method for one in found].count("join") == 1


def test_a_plan_says_which_datasets_a_joint_backbone_learned_from():
    both = replace(BOTH, parts=("oaks", "elms"))
    (tune, join) = plan(["tune", "join"], OAKS, both)[-2:]
    assert (tune.sources, tune.parts) == (("oaks and elms",), ("oaks", "elms"))
    assert (join.sources, join.parts) == (("oaks", "oaks and elms"), ("oaks", "elms"))


def test_a_method_that_combines_is_not_planned_where_there_is_nothing_to_combine():
    assert labels(["join", "tune", "prune"]) == ["scratch", "prune"]


def test_a_method_that_reads_items_passes_by_sources_without_items():
    assert labels(["read"], OAKS, BOTH, PACKAGE) == ["scratch", "read/oaks"]
    assert labels(["read", "read_frozen"], BOTH, PACKAGE) == ["scratch"]


def test_the_backbone_of_a_package_stays_frozen():
    assert labels(["tune", "probe"], OAKS, PACKAGE) == [
        "scratch",
        "tune/oaks",
        "probe/oaks",
        "probe/imagenet",
    ]
    assert labels(["tune"], PACKAGE) == ["scratch"]


def test_the_backbone_of_a_package_is_trained_where_that_is_asked_for():
    told = labels(["tune", "probe"], PACKAGE, tune_packages=True)
    assert told == ["scratch", "tune", "probe"]


def test_a_package_has_no_items_to_read_even_where_it_may_be_trained():
    assert labels(["read", "read_frozen"], PACKAGE, tune_packages=True) == ["scratch"]


def test_a_backbone_of_several_datasets_is_trained_on_like_any_other():
    assert labels(["tune"], OAKS, ELMS, BOTH)[1:] == [
        "tune/oaks",
        "tune/elms",
        "tune/oaks and elms",
    ]


def test_a_method_that_is_named_twice_is_planned_once():
    assert labels(["tune", "tune", "prune", "prune"], OAKS) == ["scratch", "prune", "tune"]


def test_a_method_of_known_classes_passes_by_sources_that_lack_one_of_the_target():
    found = plan(["known", "tune"], OAKS, ELMS)
    assert [one.label for one in found] == ["scratch", "known/oaks", "tune/oaks", "tune/elms"]


def test_without_labels_the_source_as_it_is_takes_the_place_of_scratch():
    assert labels(["tune"], OAKS, labelled=False) == ["source_only", "tune"]
    assert labels(["tune", "source_only"], OAKS, labelled=False) == ["source_only", "tune"]


def test_without_labels_only_sources_with_items_that_know_all_classes_are_of_use():
    offers = (OAKS, ELMS, BOTH, PACKAGE)
    assert plan(["tune"], *offers, labelled=False) == plan(["tune"], OAKS, labelled=False)
    assert plan(["tune", "join"], ELMS, BOTH, PACKAGE, labelled=False) == []


SOURCES = st.lists(st.sampled_from([OAKS, ELMS, BOTH, PACKAGE]), unique=True)


@given(st.lists(st.sampled_from(sorted(KINDS))), SOURCES, st.booleans(), st.booleans())
def test_whatever_is_offered_each_group_of_arms_is_planned_once_and_can_be_made(
    methods, offers, tune, labelled
):
    found = plan(methods, *offers, tune_packages=tune, labelled=labelled)
    assert len({one.label for one in found}) == len(found)
    assert len({(one.method, one.sources) for one in found}) == len(found)
    assert {one.method for one in found} <= {"scratch", "source_only", *methods}
    assert labelled == any(one.label == "scratch" for one in found) or "scratch" in methods
    by_name = {offer.name: offer for offer in offers}
    for one in found:
        kind = KINDS[one.method]
        assert bool(one.sources) == kind.uses_source
        if kind.combines:
            continue
        assert len(one.sources) <= 1
        for offer in map(by_name.get, one.sources):
            assert offer.has_items or (labelled and not kind.reads_source)
            assert offer.covers or (labelled and kind.new_classes)
            assert offer.trained_here or tune or not kind.trains_backbone
    sourced = [bool(one.sources) for one in found]
    assert sourced == sorted(sourced)


# who goes on


def level(mean, spread=1.0, items=40, seed=0):
    """Losses of this mean exactly, scattered about it."""
    noise = np.random.default_rng(seed).normal(size=items)
    return mean + spread * (noise - noise.mean())


def test_the_best_go_on_the_best_first():
    losses = {"c": level(3, 0.1), "a": level(1, 0.1, seed=1), "b": level(2, 0.1, seed=2)}
    assert survivors(losses, 1) == ["a"]
    assert survivors(losses, 2) == ["a", "b"]


@pytest.mark.parametrize("keep", [3, 4, 100])
def test_all_go_on_where_there_are_no_more_than_are_kept(keep):
    losses = {"c": level(3, 0), "a": level(1, 0), "b": level(2, 0)}
    assert survivors(losses, keep) == ["a", "b", "c"]


def test_one_within_a_standard_error_of_the_last_goes_on_and_one_beyond_does_not():
    last = level(1.0, 0.5)
    error = 0.3 / np.sqrt(40)  # of differences with this standard deviation
    scattered = level(0.0, 1.0, seed=1)
    scattered *= 0.3 / scattered.std(ddof=1)
    losses = {"last": last}
    losses["near"] = last + scattered + 0.99 * error
    losses["far"] = last + scattered + 1.01 * error
    assert survivors(losses, 1) == ["last", "near"]


def test_differences_are_paired():
    """Items differ far more than the groups do; on each item one group loses a little more."""
    shared = level(1.0, 5.0)
    losses = {"a": shared, "b": shared + 0.01 + level(0, 0.001, seed=3)}
    assert survivors(losses, 1) == ["a"]


def test_those_that_are_equal_go_on_together_in_the_order_of_their_names():
    same = level(1.0)
    assert survivors({"b": same, "a": same.copy(), "c": level(9.0, 0.1)}, 1) == ["a", "b"]


def test_level_is_judged_against_the_last_of_those_kept_not_against_the_best():
    losses = {"a": level(1.0, 0.01), "b": level(2.0, 0.01, seed=1)}
    losses["c"] = losses["b"] + level(0.001, 0.1, seed=2)
    assert survivors(losses, 2) == ["a", "b", "c"]
    assert survivors(losses, 1) == ["a"]


@given(
    st.integers(1, 8).flatmap(
        lambda groups: st.tuples(
            st.integers(2, 30),
            st.integers(1, groups + 1),
            st.lists(st.floats(0, 5), min_size=groups, max_size=groups),
            st.integers(0, 99),
        )
    )
)
def test_a_group_of_lower_loss_than_a_survivor_survives_and_order_does_not_matter(drawn):
    items, keep, means, seed = drawn
    rng = np.random.default_rng(seed)
    losses = {f"g{i}": mean + 0.5 * rng.random(items) for i, mean in enumerate(means)}
    found = survivors(losses, keep)
    assert len(set(found)) == len(found) >= min(keep, len(losses))
    ranked = sorted(losses, key=lambda name: losses[name].mean())
    assert found[: min(keep, len(ranked))] == ranked[: min(keep, len(ranked))]
    assert [n for n in ranked if n in found] == found
    backwards = dict(reversed(losses.items()))
    assert survivors(backwards, keep) == found
    assert set(survivors(losses, keep + 1)) >= set(ranked[: min(keep + 1, len(ranked))])
    if len(losses) > keep:
        last = losses[ranked[keep - 1]]
        for name in ranked[keep:]:
            excess = losses[name] - last
            standard_error = np.sqrt(excess.var() / (items - 1))
            if not np.isclose(excess.mean(), standard_error, rtol=1e-6):
                assert (name in found) == (excess.mean() < standard_error)
