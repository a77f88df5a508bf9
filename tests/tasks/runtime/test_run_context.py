"""What a run works with reaches worker processes as it is, and knows its pretrainings and time."""

import math
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from tasks.runtime.artifacts import Divided, Ref
from tasks.runtime.run_context import RunContext, TimeLimit
from tests.tasks import small

NOW = 1_000_000.0


def divided(name):
    return Divided(*(Ref(Path(kind, name), name, 1.0, reused=False) for kind in ("scan", "split")))


def context(names, **changes):
    sources = {name: divided(name) for name in names}
    settings, limit = small.settings(**changes), TimeLimit(NOW)
    return RunContext(sources, divided("small"), small.SPEC, 2, settings, small.MACHINE, 2, limit)


def test_it_is_the_same_in_another_process_and_nothing_changes_it():
    made = context(["oaks"])
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.folds = 3


def test_every_source_is_pretrained_on_and_all_together_where_that_is_asked_for():
    assert list(context(["oaks", "elms"]).pretrainings) == ["oaks", "elms"]
    joint = context(["oaks", "elms"], pretrain={"jointly": True}).pretrainings
    assert list(joint) == ["oaks", "elms", "oaks and elms"]
    assert list(joint["oaks and elms"]) == ["oaks", "elms"]
    assert list(context(["oaks"], pretrain={"jointly": True}).pretrainings) == ["oaks"]


@pytest.mark.parametrize(("labels", "labelled"), [(None, True), (10, True), (0, False)])
def test_a_target_of_no_label_is_known(labels, labelled):
    assert context([], target={"labels_per_class": labels}).labelled == labelled


def test_what_is_left_of_the_time(monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW + 40)
    assert TimeLimit(NOW, 120).left() == 80
    assert TimeLimit(NOW).left() == math.inf
    assert TimeLimit(NOW).spent() == 40
