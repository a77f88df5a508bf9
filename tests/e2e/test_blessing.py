"""What was recorded about a model can be checked later by anyone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import Project
from transfer.evaluation.stored_evaluation import StoredEvaluation
from transfer.evaluation.tables import EvaluateSettings

pytestmark = pytest.mark.slow

NAME = ("--target", "small")


@pytest.fixture(scope="module")
def blessed(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy(trained, tmp_path_factory.mktemp("blessed") / "project")


@pytest.fixture
def changed(blessed: Project, tmp_path: Path) -> Project:
    """A copy to change."""
    return copy(blessed, tmp_path / "project")


def checks(project: Project, code: int = 0) -> dict[str, tuple[str, str]]:
    verified = json.loads(project.run("bless", "--verify", *NAME, "--json", code=code).stdout)
    assert verified["holds"] == (code == 0)
    return {check["what"]: (check["status"], check["detail"]) for check in verified["checks"]}


def test_the_gain_is_computed_again_to_the_last_digit(blessed: Project) -> None:
    (folder,) = {file.parent for file in blessed.folder.glob("build/evaluate/*/evaluation.json")}
    stored, settings = StoredEvaluation.load(folder), blessed.folder / "params.yaml"
    evaluate = EvaluateSettings(replicates=200)
    assert "replicates: 200" in settings.read_text()
    assert stored.gain(evaluate) == stored.evaluation.gain


def test_a_record_that_holds(blessed: Project) -> None:
    by_name = checks(blessed)
    assert {status for status, _ in by_name.values()} == {"holds"}
    assert {"record", "model", "evaluation", "predictions today", "rule servable"} <= by_name.keys()
    shown = blessed.run("bless", "--verify", *NAME).stdout
    assert "the record of version 1 of crosstrain-small holds" in shown
    record = json.loads(blessed.run("bless", "1", *NAME).stdout)
    assert record["judged_by"]["rules"][0]["rule"] == "not_worse_than_scratch"
    assert record["who"].endswith("from a terminal")


def tamper_model(project: Project) -> None:
    for file in project.folder.glob(
        "mlruns/artifacts/models/*/artifacts/artifacts/model/card.json"
    ):
        file.write_text(file.read_text().replace('"weight": ', '"weight":  '))


def tamper_evaluation(project: Project) -> None:
    for file in project.folder.glob("mlruns/artifacts/*/artifacts/evaluation/evaluation.json"):
        file.write_text(file.read_text().replace('"verdict": "', '"verdict":  "'))


def tamper_ledger(project: Project) -> None:
    file = project.folder / "mlruns/ledger.jsonl"
    event = json.loads(file.read_text())
    file.write_text(json.dumps(event | {"blessing_sha256": "0" * 64}) + "\n")


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [(tamper_model, "model"), (tamper_evaluation, "evaluation"), (tamper_ledger, "record")],
)
def test_what_was_tampered_with_is_found(
    changed: Project, tamper: Callable[[Project], None], broken: str
) -> None:
    tamper(changed)
    by_name = checks(changed, code=5)
    assert [what for what, (status, _) in by_name.items() if status == "broken"] == [broken]


def test_a_model_whose_files_are_gone(changed: Project) -> None:
    shutil.rmtree(changed.folder / "mlruns/artifacts/models")
    by_name = checks(changed, code=5)
    assert by_name["model"][0] == by_name["predictions today"][0] == "broken"


def test_on_other_data_the_answers_are_not_asked_again(changed: Project) -> None:
    next((changed.folder / "data/small").rglob("*.png")).unlink()
    status, detail = checks(changed)["predictions today"]
    assert status == "not checked"
    assert "is another version now" in detail
    errors = changed.run("promote", "1", *NAME, code=3).stderr
    assert "was evaluated on other data" in errors


def test_history_tells_who_when_what_and_why(blessed: Project) -> None:
    shown = blessed.run("history", *NAME).stdout
    assert "version 1 promoted (champion before: none)" in shown
    assert "from a terminal" in shown
    assert "- servable: found answered" in shown
    events: list[dict[str, Any]] = json.loads(blessed.run("history", *NAME, "--json").stdout)
    assert [event["event"] for event in events] == ["promoted"]
    nothing = blessed.run("history", "--target", "nobody").stdout
    assert nothing == "nothing was ever promoted or refused for crosstrain-nobody\n"


def test_promoting_by_hand(changed: Project) -> None:
    short = (
        "--set",
        "adapt.training.steps=22",
        "--set",
        'promote.rules=[{"rule": "size", "max_megabytes": 0.001}]',
    )
    changed.run("retrain", *short)
    assert "version 2 refused" in changed.run("history", *NAME).stdout
    needs = changed.run("promote", "2", *NAME, "--force", code=2).stderr
    assert "--force needs --reason" in needs
    assert "has no effect" in changed.run("promote", "2", *NAME, "--reason", "x", code=2).stderr
    assert "never judged" not in changed.run("bless", "2", "--verify", *NAME).stdout
    forced = changed.run("promote", "2", *NAME, "--force", "--reason", "the fair").stdout
    assert "version 2 of crosstrain-small is champion" in forced
    back = changed.run("rollback", *NAME, "--reason", "too slow").stdout
    assert back == "crosstrain-small: version 1 is champion again; it was version 2\n"
    again = changed.run("promote", "2", *NAME).stdout
    assert "version 2 of crosstrain-small was not promoted" in again
    assert ": too slow" in again
    unknown = changed.run("promote", "9", *NAME, code=5).stderr
    assert "crosstrain-small has no version 9" in unknown
