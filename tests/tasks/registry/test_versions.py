import json
import signal

import pytest

from tasks.registry import file_ledger, versions
from tasks.tracking import connection
from transfer.core.errors import CrosstrainError, ModelFileError, NothingToDoError, SettingsError

BLESSING = {"verdict": "positive", "rules": [{"rule": "scratch", "passed": True}]}


def promote(version, **more):
    return versions.promote("plants", version, reasons=["better"], blessing=BLESSING, **more)


def events(name="plants"):
    return [(e["event"], e["version"], e["champion_before"]) for e in versions.history(name)]


def aliases():
    return versions.champion("plants").aliases


def test_an_empty_folder_has_no_champion_and_stays_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert versions.champion("plants") is None
    assert versions.history("plants") == []
    with pytest.raises(NothingToDoError, match="nothing was tracked in this project yet"):
        versions.rollback("plants", "why not")
    assert not list(tmp_path.iterdir())


def test_first_promotion(three_versions):
    assert versions.champion("plants") is None
    done = promote(2)
    assert (done.version, done.replaced, done.moved) == (2, None, True)
    champion = versions.champion("plants")
    assert champion.version == 2
    assert champion.aliases == {"champion": 2, "challenger": 2}
    assert champion.figures == {"accuracy": 0.2}
    assert champion.data == {"plants": "2" * 32}
    assert champion.blessing == BLESSING
    assert champion.tags["blessing.verdict"] == "positive"
    assert events() == [("promoted", 2, None)]
    assert versions.champion("animals") is None


def test_the_record_is_an_artifact_of_the_run(three_versions):
    promote(1)
    run = versions.champion("plants").run_id
    (file,) = three_versions.glob(f"mlruns/artifacts/{run}/artifacts/blessing/*")
    assert file.name == "version-1-promoted.json"
    assert json.loads(file.read_text()) == BLESSING


def test_the_old_champion_becomes_the_previous_one(three_versions):
    promote(1)
    assert promote(2).replaced == 1
    assert aliases() == {"champion": 2, "previous": 1, "challenger": 2}
    promote(3)
    assert aliases() == {"champion": 3, "previous": 2, "challenger": 3}
    assert events() == [("promoted", 1, None), ("promoted", 2, 1), ("promoted", 3, 2)]


def test_promoting_the_champion_does_nothing_and_reports_it(three_versions):
    promote(1)
    promote(2)
    before = file_ledger.LEDGER.read_bytes(), aliases()
    done = promote(2)
    assert not done.moved
    assert "is already the champion" in done.message
    assert (file_ledger.LEDGER.read_bytes(), aliases()) == before


def test_a_forced_promotion_is_recorded(three_versions):
    promote(1, forced_reason="the demo is tomorrow")
    assert versions.champion("plants").tags["forced"] == "the demo is tomorrow"
    assert versions.history("plants")[0]["forced_reason"] == "the demo is tomorrow"
    promote(2)
    assert versions.champion("plants").tags["forced"] == ""
    assert versions.history("plants")[1]["forced_reason"] is None


def test_a_blank_reason_is_refused(three_versions):
    with pytest.raises(SettingsError, match="the reason for a forced promotion is blank"):
        promote(1, forced_reason=" ")
    with pytest.raises(SettingsError, match="the reason for a rollback is blank"):
        versions.rollback("plants", "")
    assert versions.champion("plants") is None


def test_a_champion_that_changed_since_judging_is_not_replaced(three_versions):
    promote(1, judged_against=None)
    with pytest.raises(CrosstrainError, match=r"judged against champion None, .* version 1 became"):
        promote(2, judged_against=None)
    assert aliases() == {"champion": 1, "challenger": 1}
    assert promote(2, judged_against=1).moved


def test_a_long_value_is_kept_in_the_record_only(three_versions):
    blessing = {"verdict": "none", "settings": "x" * 5000, "figures": {"gain": 0.1}}
    versions.promote("plants", 1, reasons=["first"], blessing=blessing)
    champion = versions.champion("plants")
    assert champion.blessing == blessing
    assert {k for k in champion.tags if k.startswith("blessing.")} == {
        "blessing.verdict",
        "blessing.reasons",
    }


def test_a_version_that_is_not_there(three_versions):
    with pytest.raises(CrosstrainError, match="plants has no version 9"):
        promote(9)
    assert file_ledger.interrupted() is None


def test_a_refusal_leaves_the_champion(three_versions):
    promote(1)
    for _ in range(2):
        versions.refuse("plants", 2, ["worse than scratch"], {"verdict": "negative"})
    assert aliases() == {"champion": 1, "challenger": 2}
    assert events() == [("promoted", 1, None), ("refused", 2, 1)]
    tags = connection.client().get_model_version("plants", "2").tags
    assert tags["refusal.reasons"] == "worse than scratch"
    assert tags["refusal.verdict"] == "negative"


def test_rollback_swaps_and_swaps_back(three_versions):
    promote(1)
    promote(2)
    assert versions.rollback("plants", "it is slow").version == 1
    assert aliases() == {"champion": 1, "previous": 2, "challenger": 2}
    assert versions.rollback("plants", "it was not").version == 2
    assert [e["reasons"] for e in versions.history("plants")[2:]] == [
        ["it is slow"],
        ["it was not"],
    ]
    assert events()[2:] == [("rolled back", 1, 2), ("rolled back", 2, 1)]


def test_rollback_needs_a_previous_champion_with_complete_files(three_versions):
    promote(1)
    with pytest.raises(NothingToDoError, match="needs a champion and a previous one"):
        versions.rollback("plants", "try")
    promote(2)
    (versions.model_folder("plants", 1) / "card.json").unlink()
    with pytest.raises(ModelFileError, match="version 1 of plants has no readable files"):
        versions.rollback("plants", "try")
    assert aliases()["champion"] == 2


def test_a_promotion_killed_at_any_step_happens_completely_or_not_at_all(
    three_versions, deaths, monkeypatch
):
    promote(1)
    outcomes = []
    for copy in deaths(three_versions, "promote", 2, "better"):
        monkeypatch.chdir(copy)
        champion = int(connection.client().get_registered_model("plants").aliases["champion"])
        assert champion in (1, 2)
        outcome = versions.champion("plants").aliases
        if outcome["champion"] == 1:
            assert (outcome, events()) == (
                {"champion": 1, "challenger": 1},
                [("promoted", 1, None)],
            )
            promote(2)
        assert aliases() == {"champion": 2, "previous": 1, "challenger": 2}
        assert events() == [("promoted", 1, None), ("promoted", 2, 1)]
        assert file_ledger.interrupted() is None
        assert not promote(2).moved
        outcomes.append((champion, outcome["champion"]))
    assert set(outcomes) == {(1, 1), (1, 2), (2, 2)}


def test_a_rollback_killed_between_two_aliases_is_completed(three_versions, at_once):
    promote(1)
    promote(2)
    job = {"folder": str(three_versions), "action": "rollback", "arguments": ["slow"]}
    assert at_once({**job, "die_at": 3}) == [-signal.SIGKILL]
    assert connection.client().get_registered_model("plants").aliases["previous"] == 2
    assert aliases() == {"champion": 1, "previous": 2, "challenger": 2}
    assert events()[2:] == [("rolled back", 1, 2)]


def test_promotions_at_the_same_time_follow_one_another(three_versions, at_once):
    promote(1)
    job = {"folder": str(three_versions), "action": "promote"}
    codes = at_once(*({**job, "arguments": [v, f"{n}"]} for n in range(2) for v in (2, 3)))
    assert codes == [0, 0, 0, 0]
    history = events()
    assert len(history) in (3, 4, 5)  # promoting the champion again adds nothing
    assert [before for _, _, before in history[1:]] == [version for _, version, _ in history[:-1]]
    assert aliases()["champion"] == history[-1][1]
    assert aliases()["previous"] == history[-2][1]


def test_a_rollback_is_remembered_until_the_version_is_promoted_again(three_versions):
    promote(1)
    promote(2)
    assert versions.rolled_back("plants", 2) is None
    versions.rollback("plants", "it is slow")
    assert versions.rolled_back("plants", 2).endswith(": it is slow")
    assert versions.rolled_back("plants", 1) is None
    versions.rollback("plants", "it was not")
    assert versions.rolled_back("plants", 2) is None
    assert versions.rolled_back("plants", 1).endswith(": it was not")
    promote(1, forced_reason="all the same")
    assert versions.rolled_back("plants", 1) is None


def test_history_names_the_user(three_versions):
    promote(1, who="ada@host")
    versions.refuse("plants", 2, ["worse"], {"verdict": "negative", "who": "ada"}, who="ada@host")
    record = {"verdict": "negative", "who": "bob", "evidence": {"milliseconds": 3}}
    versions.refuse("plants", 2, ["worse"], record, who="bob@host")
    assert [event["who"] for event in versions.history("plants")] == ["ada@host", "ada@host"]
