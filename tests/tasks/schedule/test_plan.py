"""Which arms a run trains of its settings and sources, and which go on after their first seed."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tasks.runtime.artifacts import ArmRef, Divided, Ref, Source
from tasks.schedule import plan
from tasks.training.arm_files import files
from tests.transfer import stored, tiny
from transfer.arms import pretrain
from transfer.arms.budget_policy import Standing
from transfer.arms.plan import ArmPlan
from transfer.core.errors import DataRefusedError, SettingsError
from transfer.data.manifest import Manifest, columns
from transfer.models.parameter_transfer import Knowledge
from transfer.settings.project import Settings

COLUMNS = columns("image")

SPLIT = Ref(Path("build/split"), "s" * 64, 0.0, reused=False)


def ref(folder):
    return Ref(folder, folder.name, 1.0, reused=False)


@pytest.fixture
def target(tmp_path):
    """A scanned target with three classes of trees."""
    folder = tmp_path / "scan"
    folder.mkdir()
    items = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    Manifest("hedge", "image", tiny.CLASSES, items).save(folder)
    return Divided(ref(folder), SPLIT)


@pytest.fixture
def source(tmp_path, target):
    """Make a knowledge source with a card."""

    def make(name, classes=("fagus",), *, items=True, here=True):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        given = Knowledge(name, classes, {}, tiny.BODY, tiny.NORMAL)
        pretrain.keep(given, folder)
        return Source(name, ref(folder), target if items else None, trained_here=here)

    return make


def settings(methods=("linear_probe", "fine_tune"), cap=10, **adapt):
    target = {"path": "data/digits", "labels_per_class": cap}
    return Settings.model_validate({"adapt": {"methods": methods, **adapt}, "target": target})


def labels(plans):
    return [group.label for group in plans]


# plans


def test_before_any_source_is_known_what_needs_none_is_planned(target):
    planned = plan.plans(settings(), target, [])
    assert planned == [ArmPlan("scratch", (), "scratch")]


def test_a_method_that_combines_sources_waits_for_them(target, source):
    methods = ["fusion", "linear_probe"]
    assert labels(plan.plans(settings(methods), target, [])) == ["scratch"]
    sources = [source("oaks"), source("elms")]
    assert ArmPlan("fusion", ("oaks", "elms"), "fusion") in plan.plans(
        settings(methods), target, sources
    )


def test_with_sources_what_uses_them_is_planned_and_scratch_is_not_planned_again(target, source):
    single = [source("oaks")]
    assert labels(plan.plans(settings(), target, single)) == ["linear_probe", "fine_tune"]
    two = [*single, source("elms")]
    assert labels(plan.plans(settings(), target, two)) == [
        "linear_probe/oaks",
        "linear_probe/elms",
        "fine_tune/oaks",
        "fine_tune/elms",
    ]


def test_both_calls_together_plan_every_group_once(target, source):
    chosen = settings(["fusion", "linear_probe", "fine_tune", "scratch"])
    sources = [source("oaks"), source("elms"), source("imagenet", (), items=False, here=False)]
    both = labels([*plan.plans(chosen, target, []), *plan.plans(chosen, target, sources)])
    assert len(set(both)) == len(both)


@pytest.mark.parametrize("tune", [False, True])
def test_a_package_is_frozen_unless_the_settings_say_otherwise(target, source, tune):
    sources = [source("oaks"), source("imagenet", (), items=False, here=False)]
    names = labels(plan.plans(settings(tune_packages=tune), target, sources))
    assert "linear_probe/imagenet" in names
    assert ("fine_tune/imagenet" in names) == tune


def test_a_source_covers_the_target_where_its_card_has_all_of_its_classes(target, source):
    sources = [source("more", (*tiny.CLASSES, "fagus")), source("fewer", tiny.CLASSES[:2])]
    names = labels(plan.plans(settings(["source_only", "fine_tune"]), target, sources))
    assert [label for label in names if label.startswith("source_only")] == ["source_only/more"]


def test_without_labels_methods_are_those_that_need_none(target, source):
    unlabelled = settings(cap=0, unlabelled_methods=["adabn", "entropy"])
    assert plan.plans(unlabelled, target, []) == []
    sources = [source("more", tiny.CLASSES), source("fewer", tiny.CLASSES[:2])]
    assert labels(plan.plans(unlabelled, target, sources)) == ["source_only", "adabn", "entropy"]


@pytest.mark.parametrize("items", [True, False])
def test_without_labels_a_source_with_items_must_know_all_classes(target, source, items):
    classes = tiny.CLASSES[:2] if items else tiny.CLASSES
    with pytest.raises(SettingsError, match="can use what oaks offers"):
        plan.plans(settings(cap=0), target, [source("oaks", classes, items=items)])


def test_what_lacks_a_class_is_refused_before_anything_is_trained(target, tmp_path):
    folder = tmp_path / "fewer"
    folder.mkdir()
    table = Manifest.load(target.scan.path).items
    Manifest("oaks", "image", tiny.CLASSES[:2], table).save(folder)
    fewer = Divided(ref(folder), target.split)
    with pytest.raises(DataRefusedError, match="oaks lacks corylus"):
        plan.check(settings(cap=0), {"oaks": fewer}, target)
    plan.check(settings(cap=0), {"oaks": fewer, "all": target}, target)


def test_a_package_that_is_not_there_is_refused_before_anything_is_trained(target, monkeypatch):
    asked = settings().model_copy(update={"pretrained": ("mobilenet_v2",)})
    image = SimpleNamespace(available=lambda: {"mobilenet_v2": "pip install it"})
    monkeypatch.setattr(plan.modalities, "of", lambda settings: image)
    with pytest.raises(SettingsError, match="mobilenet_v2: pip install it"):
        plan.check(asked, {}, target)


def test_a_backbone_of_several_datasets_is_planned_with_their_names(target, source):
    joint = replace(source("both", tiny.CLASSES, items=False), parts=("oaks", "elms"))
    planned = plan.plans(settings(["fine_tune"]), target, [source("oaks", tiny.CLASSES), joint])
    assert [(group.label, group.parts) for group in planned] == [
        ("fine_tune/oaks", ()),
        ("fine_tune/both", ("oaks", "elms")),
    ]
    arm = ArmRef(planned[1], 0, 5, Ref(Path("arm"), "digest", 0.0, False))
    (file,) = files([arm])
    assert file.uses("elms") and file.uses("both") and not file.uses("ash")


# who goes on


def arm(root, label, right, sources=()):
    method = label.split("/")[0]
    file = stored.arm(root, method, stored.logits(right, seed=len(label)), label=label)
    return ArmRef(ArmPlan(method, sources, label), 0, 5, ref(file.folder))


@pytest.fixture
def tried(tmp_path):
    """First seeds of two methods on two sources."""
    return [
        arm(tmp_path, "fine_tune/oaks", 0.6, ("oaks",)),
        arm(tmp_path, "linear_probe/oaks", 1.0, ("oaks",)),
        arm(tmp_path, "linear_probe/noise", 0.0, ("noise",)),
    ]


def test_the_promising_go_on_and_the_others_stay_as_no_finalists(tried):
    going_on, stopped = plan.finalists(tried, settings(finalists=1))
    assert going_on == [ArmPlan("linear_probe", ("oaks",), "linear_probe/oaks")]
    assert [(trained.plan.label, trained.seed, trained.finalist) for trained in stopped] == [
        ("fine_tune/oaks", 0, False),
        ("linear_probe/noise", 0, False),
    ]
    assert [trained.ref for trained in stopped] == [tried[0].ref, tried[2].ref]


@pytest.mark.parametrize("keep", range(1, 6))
def test_every_group_goes_on_or_is_stopped(tried, keep):
    going_on, stopped = plan.finalists(tried, settings(finalists=keep))
    both = [*labels(going_on), *(trained.plan.label for trained in stopped)]
    assert sorted(both) == sorted(trained.plan.label for trained in tried)
    assert len(going_on) == min(keep, 3)


def test_groups_that_are_level_go_on_together(tmp_path, tried):
    logits = np.load(tried[1].ref.path / "oof.npz")["logits"]
    file = stored.arm(tmp_path, "l2_sp", logits, label="l2_sp/oaks")
    same = ArmRef(ArmPlan("l2_sp", ("oaks",), "l2_sp/oaks"), 0, 5, ref(file.folder))
    going_on, _ = plan.finalists([*tried, same], settings(finalists=1))
    assert labels(going_on) == ["linear_probe/oaks", "l2_sp/oaks"]


def test_the_groups_that_go_on_are_logged(tried, caplog):
    with caplog.at_level(logging.INFO, logger="crosstrain"):
        plan.finalists(tried, settings(finalists=1))
    assert caplog.messages == ["going on with 1 of 3: linear_probe/oaks"]


@pytest.mark.parametrize("changes", [{}, {"finalists": 1, "cap": 0}], ids=["all", "no labels"])
def test_where_nothing_is_to_be_stopped_or_nothing_to_judge_by_all_go_on(tried, changes):
    """Without labels there are no out-of-fold scores."""
    for trained in tried:
        (trained.ref.path / "oof.npz").unlink()
    going_on, stopped = plan.finalists(tried, settings(**changes))
    assert labels(going_on) == [trained.plan.label for trained in tried]
    assert stopped == []


# in what order, where time is short


def ranked(methods, sources, target, names=()):
    chosen = settings(methods)
    planned = [*plan.plans(chosen, target, []), *plan.plans(chosen, target, sources)]
    return labels(plan.ordered(planned, chosen, names))


def test_promising_is_a_trained_backbone_then_what_costs_little_then_the_others(target, source):
    methods = ["linear_probe", "fine_tune", "l2_sp", "lda"]
    names = ranked(methods, [source("oaks")], target)
    assert names == ["fine_tune", "linear_probe", "lda", "l2_sp"]
    assert plan.likely(settings(methods)).method == "fine_tune"
    assert plan.likely(settings(["linear_probe"])).method == "linear_probe"


def test_the_advisors_best_source_goes_first_and_what_takes_all_last(target, source):
    sources = [source("oaks"), source("elms")]
    names = ranked(["fine_tune", "linear_probe", "fusion"], sources, target, ["elms", "oaks"])
    assert names == [
        "fine_tune/elms",
        "linear_probe/elms",
        "fine_tune/oaks",
        "linear_probe/oaks",
        "fusion",
    ]


def test_what_did_best_on_validation_in_the_last_run_goes_first(
    target, source, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    last = json.loads((Path(__file__).parents[1] / "reports/retrain.json").read_text())
    for row in last["arms"]:  # the test split says the opposite
        best = row["method"] == "l2_sp"
        row.update(validation=1.0 if best else 0.5, test=0.0 if best else 1.0)
    Path("reports").mkdir()
    methods = ["linear_probe", "fine_tune", "l2_sp"]
    for name, first in (("digits", "l2_sp"), ("another", "fine_tune")):
        Path("reports/retrain.json").write_text(json.dumps({**last, "target": name}))
        assert ranked(methods, [source("oaks" + name)], target)[0] == first
    Path("reports/retrain.json").write_text("{")
    assert ranked(methods, [source("elms")], target)[0] == "fine_tune"


def test_after_the_first_seeds_validation_ranks(tried):
    order = ["linear_probe/oaks", "fine_tune/oaks", "linear_probe/noise"]
    assert plan.by_validation(tried, settings()) == order
    assert plan.by_validation(tried, settings(finalists=1)) == order[:1]
    for arm in tried:
        (arm.ref.path / "oof.npz").unlink()
    assert plan.by_validation(tried, settings(cap=0)) == [arm.plan.label for arm in tried]
    assert plan.by_validation([], settings()) == []


def test_arms_stand_in_the_order_of_a_run_without_a_budget(tried):
    planned = [arm.plan for arm in tried]
    done = {
        (p.label, seed): replace(tried[0], plan=p, seed=seed) for p in planned for seed in (0, 1)
    }
    standing = Standing((0, 1), (planned[2].label, planned[0].label), (planned[1].label,))
    arms = plan.decided(planned, done, standing)
    assert [(arm.name, arm.finalist) for arm in arms] == [
        ("fine_tune/oaks/0", True),
        ("fine_tune/oaks/1", True),
        ("linear_probe/noise/0", True),
        ("linear_probe/noise/1", True),
        ("linear_probe/oaks/0", False),
    ]
