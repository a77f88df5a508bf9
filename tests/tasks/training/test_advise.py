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

SETTINGS = small.settings()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A target and two sources, of which one is noise, in a store of their own."""
    folder = tmp_path_factory.mktemp("advised")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        target = small.target(SETTINGS)
        noise = small.source("noise", target, SETTINGS, seed=3, noise=True)
        return folder, target, [noise, small.source("large", target, SETTINGS)]


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
    knowledge = Knowledge(source_name, (), state, tiny.BODY, tiny.NORMAL, fixed_normal=True)
    ref = content_store.result(
        "unpack",
        lambda out: pretrain.keep(knowledge, out),
        inputs={},
        settings={"name": source_name},
        code=["transfer.modalities.image.networks.pretrained"],
    )
    return Source(name, ref, None, trained_here=False)


def ask(sources, target, settings=SETTINGS):
    return advise.advise.fn(sources, target, settings, small.MACHINE)


def test_what_helps_is_ranked_before_noise(target, sources):
    ranked = advise.load(ask(sources, target))
    assert [(advice.name, advice.rank) for advice in ranked] == [("large", 1), ("noise", 2)]
    assert ranked[0].logme > ranked[1].logme
    for advice in ranked:
        assert advice.relation == "same" and advice.leep is not None
        assert advice.a_distance is not None and 0 <= advice.a_distance <= 2


def test_a_second_call_takes_what_is_stored(target, sources):
    first, again = ask(sources, target), ask(sources, target)
    assert again.reused and again.path == first.path and again.digest == first.digest
    assert advise.load(again) == advise.load(first)


def test_other_sources_or_another_split_are_asked_again(target, sources):
    first = ask(sources, target)
    fewer = ask(sources[1:], target)
    other = small.target(small.settings(split={"test": 0.3, "seed": 1}))
    assert len({first.path, fewer.path, ask(sources, other).path}) == 3
    assert [advice.name for advice in advise.load(fewer)] == ["large"]


def test_without_labels_there_is_no_advice(target, sources):
    blind = small.settings(target={"labels_per_class": 0})
    ref = ask(sources, small.target(blind), blind)
    assert advise.load(ref) == []
    for keep in (None, 1):
        assert advise.promising(sources, ref, keep) == sources


def test_without_a_source_there_is_no_advice(target):
    assert advise.load(ask([], target)) == []


def test_weights_without_items_have_no_distances_and_no_head(target, sources):
    by_name = {
        advice.name: advice
        for advice in advise.load(ask([*sources, package("zoo", "zoo")], target))
    }
    assert set(by_name) == {"large", "noise", "zoo"}
    zoo = by_name["zoo"]
    assert (zoo.a_distance, zoo.mmd, zoo.leep, zoo.nce) == (None, None, None, None)


def test_advice_names_a_source_as_the_run_does(target, sources):
    """Not as the card of its weights does, or it could never be chosen."""
    given = [*sources, package("lite", "imagenet-lite")]
    ref = ask(given, target)
    assert {advice.name for advice in advise.load(ref)} == {"large", "noise", "lite"}
    for keep in (1, 2, 3):
        assert len(advise.promising(given, ref, keep)) == keep


def test_the_log_names_the_most_promising_first(target, sources, caplog):
    with caplog.at_level(logging.INFO, logger="crosstrain"):
        ask(sources, target)
        ask(sources[1:], target)
    lines = [line for line in caplog.messages if "promising" in line]
    assert lines == ["most promising first: large, noise"]


# promising


@pytest.fixture
def advised(tmp_path, monkeypatch):
    """Advice that ranks three sources d, a, c; and four sources in the order a to d."""
    monkeypatch.chdir(tmp_path)
    measures = {"a_distance": None, "mmd": None, "logme": 0.0, "h_score": 0.0, "leep": None}
    measures |= {"nce": None, "knn": 0.5, "relation": "same"}
    ranked = [
        Advice.model_validate({**measures, "name": n, "rank": i + 1}) for i, n in enumerate("dac")
    ]
    text = "[" + ", ".join(advice.model_dump_json() for advice in ranked) + "]"
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
    kept = advise.promising(sources, ref, keep)
    assert "".join(advice.name for advice in kept) == names
