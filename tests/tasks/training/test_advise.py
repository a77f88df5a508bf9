"""Advice on the sources of a run: stored, ranked, and what the run then trains on."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.runtime.artifacts import Source
from tasks.store import content_store
from tasks.training import advise
from tests.tasks import small
from tests.transfer import tiny
from transfer.arms import pretrain
from transfer.models.parameter_transfer import Knowledge
from transfer.transferability.advisor import Advice

TOLD = small.settings()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A target and two sources, of which one is noise, in a store of their own."""
    folder = tmp_path_factory.mktemp("advised")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        target = small.target(TOLD)
        noise = small.source("noise", target, TOLD, seed=3, noise=True)
        return folder, target, [noise, small.source("large", target, TOLD)]


@pytest.fixture
def target(made, monkeypatch):
    monkeypatch.chdir(made[0])
    return made[1]


@pytest.fixture
def sources(made):
    return made[2]


def package(name, source_name):
    """Weights without items, stored under the name that their card gives them."""
    state = tiny.state(tiny.network(1, seed=4))
    known = Knowledge(source_name, (), state, tiny.BODY, tiny.NORMAL, fixed_normal=True)
    ref = content_store.result(
        "unpack",
        lambda out: pretrain.keep(known, out),
        inputs={},
        settings={"name": source_name},
        code=["transfer.modalities.image.networks.pretrained"],
    )
    return Source(name, ref, None, trained_here=False)


def ask(sources, target, told=TOLD):
    return advise.advise.fn(sources, target, told, small.MACHINE)


def test_what_helps_is_ranked_before_noise(target, sources):
    found = advise.load(ask(sources, target))
    assert [(one.name, one.rank) for one in found] == [("large", 1), ("noise", 2)]
    assert found[0].logme > found[1].logme
    for one in found:
        assert one.relation == "same" and one.leep is not None
        assert one.a_distance is not None and 0 <= one.a_distance <= 2


def test_a_second_call_takes_what_is_stored(target, sources):
    first, again = ask(sources, target), ask(sources, target)
    assert again.reused and again.path == first.path and again.digest == first.digest
    assert advise.load(again) == advise.load(first)


def test_other_sources_or_another_split_are_asked_anew(target, sources):
    first = ask(sources, target)
    fewer = ask(sources[1:], target)
    other = small.target(small.settings(split={"test": 0.3, "seed": 1}))
    assert len({first.path, fewer.path, ask(sources, other).path}) == 3
    assert [one.name for one in advise.load(fewer)] == ["large"]


def test_without_labels_there_is_no_advice(target, sources):
    blind = small.settings(target={"labels_per_class": 0})
    ref = ask(sources, small.target(blind), blind)
    assert advise.load(ref) == []
    for keep in (None, 1):
        assert advise.promising(sources, ref, keep) == sources


def test_without_a_source_there_is_no_advice(target):
    assert advise.load(ask([], target)) == []


def test_weights_without_items_have_no_distances_and_no_head(target, sources):
    found = {one.name: one for one in advise.load(ask([*sources, package("zoo", "zoo")], target))}
    assert set(found) == {"large", "noise", "zoo"}
    zoo = found["zoo"]
    assert (zoo.a_distance, zoo.mmd, zoo.leep, zoo.nce) == (None, None, None, None)


def test_advice_names_a_source_as_the_run_does(target, sources):
    """Not as the card of its weights does, or it could never be chosen."""
    given = [*sources, package("lite", "imagenet-lite")]
    ref = ask(given, target)
    assert {one.name for one in advise.load(ref)} == {"large", "noise", "lite"}
    for keep in (1, 2, 3):
        assert len(advise.promising(given, ref, keep)) == keep


def test_the_log_names_the_most_promising_first(target, sources, caplog):
    with caplog.at_level(logging.INFO, logger="crosstrain"):
        ask(sources, target)
        ask(sources[1:], target)
    told = [line for line in caplog.messages if "promising" in line]
    assert told == ["most promising first: large, noise"]


# promising


@pytest.fixture
def advised(tmp_path, monkeypatch):
    """Advice that ranks three sources d, a, c; and four sources in the order a to d."""
    monkeypatch.chdir(tmp_path)
    told = {"a_distance": None, "mmd": None, "logme": 0.0, "h_score": 0.0, "leep": None}
    told |= {"nce": None, "knn": 0.5, "relation": "same"}
    ranked = [
        Advice.model_validate({**told, "name": n, "rank": i + 1}) for i, n in enumerate("dac")
    ]
    text = "[" + ", ".join(one.model_dump_json() for one in ranked) + "]"
    ref = content_store.result(
        "advise",
        lambda out: (out / "advice.json").write_text(text),
        inputs={},
        settings={},
        code=["transfer.transferability.advisor"],
    )
    nowhere = replace(ref, path=Path("nowhere"))
    return ref, [Source(name, nowhere, None) for name in "abcd"]


@pytest.mark.parametrize(
    ("keep", "names"), [(1, "d"), (2, "ad"), (3, "acd"), (9, "acd"), (None, "abcd")]
)
def test_the_best_by_rank_are_kept_in_the_order_given(advised, keep, names):
    ref, sources = advised
    found = advise.promising(sources, ref, keep)
    assert "".join(one.name for one in found) == names
