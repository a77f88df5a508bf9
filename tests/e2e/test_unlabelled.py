"""A target without a single label: adapted and chosen with the source's weights, or refused."""

import json
import subprocess
from collections import defaultdict
from functools import partial
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import LOG, Project, together
from transfer.evaluation.report_schema import Result

pytestmark = pytest.mark.slow

NAME = "crosstrain-small"
METHODS = ("source_only", "adabn", "entropy")
SETTINGS = (
    "target.labels_per_class=0",
    "adapt.unlabelled_methods=[adabn, entropy]",
    "adapt.seeds=[0, 1]",
)
SET = [word for setting in SETTINGS for word in ("--set", setting)]
Done = tuple[Project, "subprocess.CompletedProcess[str]"]


class Page(HTMLParser):
    """The visible text, and tags that were opened and not closed."""

    EMPTY = ("meta", "link", "br", "img", "image", "path", "use", "rect", "line", "input", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.texts.append(data)


@pytest.fixture(scope="module")
def runs(
    digit_project: Project, api: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Done, Done]:
    """A run without labels; and one whose target has a class that the source lacks."""
    root = tmp_path_factory.mktemp("unlabelled")
    matching = copy(digit_project, root / "known", api)
    strange = copy(digit_project, root / "strange", api)
    (strange.folder / "data/small/9").rename(strange.folder / "data/small/nine")
    done = together(
        [partial(matching.run, "retrain", *SET), partial(strange.run, "retrain", *SET, code=3)]
    )
    return (matching, done[0]), (strange, done[1])


@pytest.fixture(scope="module")
def adapted(runs: tuple[Done, Done]) -> Done:
    return runs[0]


@pytest.fixture(scope="module")
def result(adapted: Done) -> Result:
    return adapted[0].result()


def test_every_method_is_run_with_every_seed_and_nothing_is_from_scratch(
    adapted: Done, result: Result
) -> None:
    arms = [(arm.method, arm.seed) for arm in result.arms]
    assert sorted(arms) == sorted((method, seed) for method in METHODS for seed in (0, 1))
    assert all(arm.sources == ["large"] and arm.uses_source for arm in result.arms)
    steps = adapted[1].stderr.splitlines()
    assert all(LOG.fullmatch(line) for line in steps), adapted[1].stderr


def test_gains_are_over_the_source_as_it_is(result: Result) -> None:
    assert result.scratch.method == "source_only"
    singles = [arm.test for arm in result.arms if arm.method == "source_only"]
    assert result.scratch.single_mean == pytest.approx(np.mean(singles))
    assert result.scratch.accuracy > 0.3  # ten classes: the rows of its head are in their places
    assert "source" in result.sentence and "scratch" not in result.sentence


def test_there_are_no_validation_figures(adapted: Done, result: Result) -> None:
    for arm in result.arms:
        assert (arm.validation, arm.validation_low, arm.validation_high) == (None, None, None)
    assert result.foresight.advice == [] and result.foresight.methods.spearman is None
    target = result.data.target
    assert target.labelled == 0
    assert target.train + target.val + target.test + target.excluded == target.items
    stored = list(adapted[0].folder.glob("build/adapt/*/*.npz"))
    assert {path.name for path in stored} == {"label_free.npz"} and len(stored) == 6


def test_the_validator_chose_the_better_half_of_the_methods(result: Result) -> None:
    assert result.chosen.scheme == "agreement"
    assert set(result.schemes) == set(METHODS) - {a.partition("/")[0] for a in result.collapsed}
    assert all(0 <= score <= 1 for score in result.schemes.values())
    weights: dict[str, set[float]] = defaultdict(set)
    for arm in result.arms:
        weights[arm.method].add(round(arm.weight, 9))
    if not result.collapsed and not result.left_out:
        ranked = sorted(result.schemes, key=lambda name: -result.schemes[name])
        assert {name for name, of in weights.items() if of != {0.0}} == set(ranked[:2])
        assert {max(of) for name, of in weights.items() if name in ranked[:2]} == {0.25}


def test_validators_read_the_pool_and_the_sources_items(adapted: Done, result: Result) -> None:
    """Nothing is chosen on the target's validation split, so that it is in the pool as well."""
    (source,), target = result.data.sources, result.data.target
    for path in adapted[0].folder.glob("build/adapt/*/label_free.npz"):
        with np.load(path) as stored:
            assert len(stored["source_labels"]) == source.val
            assert len(stored["train_features"]) == source.train
            assert len(stored["logits"]) == target.train + target.val


def test_the_page_opens_and_says_that_no_item_is_labelled(adapted: Done, result: Result) -> None:
    page = Page((adapted[0].folder / "reports/retrain.html").read_text())
    assert page.open == []
    for words in (
        result.sentence,
        "No item of the target is labelled",
        "scored by the validator agreement",
        "Source network without adaptation, accuracy",
        "the source without adaptation is better",
    ):
        assert words in page.text, words
    for words in ("nan", "None"):
        assert words not in page.text.split()


def test_labels_and_training_from_scratch_are_not_reported(adapted: Done) -> None:
    """There are neither: the baseline is the source's network, and a validator decided."""
    page = Page((adapted[0].folder / "reports/retrain.html").read_text()).text
    printed = " ".join(adapted[1].stdout.split())
    for words in ("from scratch", "From scratch", "scratch ensemble"):
        assert words not in page and words not in printed, words
    for words in ("0 labels a class", "The choice used validation"):
        assert words not in page, words
    assert "source_only ensemble" in printed


def test_it_is_promoted_or_refused_by_the_rules_with_reasons(adapted: Done, result: Result) -> None:
    names = [rule.rule for rule in result.rules]
    assert "not_worse_than_scratch" in names and "loads_back" in names
    assert result.promoted == all(rule.passed for rule in result.rules)
    assert result.reasons and result.version == 1
    deciding = [rule for rule in result.rules if rule.passed == result.promoted]
    assert [reason.partition(":")[0] for reason in result.reasons] == [
        rule.rule for rule in deciding
    ]
    (back,) = [rule for rule in result.rules if rule.rule == "loads_back"]
    assert back.passed, back.found
    words = "Promoted:" if result.promoted else "Not promoted:"
    assert words in adapted[1].stdout and result.reasons[0].split(":")[0] in adapted[1].stdout


def test_mlflow_has_its_arms_without_a_validation_accuracy(adapted: Done, result: Result) -> None:
    from mlflow import MlflowClient

    store: Any = MlflowClient(f"sqlite:///{adapted[0].folder}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("crosstrain").experiment_id
    query = f"tags.mlflow.parentRunId = '{result.mlflow_run}'"
    children = {run.info.run_name: run for run in store.search_runs([experiment], query)}
    assert set(children) == {f"{method}/{seed}" for method in METHODS for seed in (0, 1)}
    for run in children.values():
        assert "validation_accuracy" not in run.data.metrics
        assert 0 <= run.data.metrics["test_accuracy"] <= 1


def test_the_terminal_and_the_report_command_tell_it(adapted: Done, result: Result) -> None:
    project, done = adapted
    assert " ".join(result.sentence.split()) in " ".join(done.stdout.split())
    assert json.loads(project.run("report", "--json").stdout) == json.loads(
        result.model_dump_json()
    )


# a class that no source knows


def test_a_class_that_no_source_knows_is_refused_in_one_line_that_names_it(
    runs: tuple[Done, Done],
) -> None:
    done = runs[1][1]
    lines = [line for line in done.stderr.splitlines() if not LOG.fullmatch(line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("crosstrain: small is to be used without labels")
    assert "large lacks nine" in lines[0] and "target.labels_per_class above 0" in lines[0]
    assert done.stdout == ""


def test_nothing_was_trained_and_nothing_was_registered(runs: tuple[Done, Done]) -> None:
    """What no arm could use in the end is refused before the source is pretrained on."""
    folder = runs[1][0].folder
    for step in ("pretrain", "adapt"):
        assert not list(folder.glob(f"build/{step}/*/stored.json"))
    assert not (folder / "mlruns").exists() and not (folder / "reports").exists()
