import pytest

from tasks.registry import versions
from tasks.registry.judge import Judgement
from tasks.registry.promote import Consent, promote_or_refuse
from transfer.core.errors import ChampionChangedError, ModelFileError, SettingsError

REASONS = ["servable: found answered"]


def judgement(version, champion=None, *, promote=True, served=""):
    blessing = {"verdict": "positive", "evidence": {"served": served}}
    return Judgement("plants", version, champion, promote, REASONS, [], blessing)


def decide(*args, **kwargs):
    return promote_or_refuse.fn(*args, **kwargs)


def events():
    return [(e["event"], e["version"], e["forced_reason"]) for e in versions.history("plants")]


def test_a_version_that_passes_is_promoted_and_one_that_fails_is_refused(three_versions):
    assert decide(judgement(1), "ada").promoted
    assert not decide(judgement(2, 1, promote=False), "ada").promoted
    assert versions.champion("plants").version == 1
    assert [e["event"] for e in versions.history("plants")] == ["promoted", "refused"]
    assert versions.champion("plants").blessing["who"] == "ada"


def test_the_champion_itself_is_left_alone(three_versions):
    decide(judgement(1), "ada")
    assert decide(judgement(1, 1), "ada").promoted
    assert len(versions.history("plants")) == 1


@pytest.mark.parametrize("given", [True, False])
def test_a_person_decides_about_a_version_that_passes(three_versions, given):
    outcome = decide(judgement(1), "ada", Consent(given, "bob", "I looked"))
    assert outcome.promoted == given
    assert outcome.reasons[0] == f"{'agreed' if given else 'not agreed'}, bob: I looked"
    (event,) = versions.history("plants")
    assert event["reasons"] == outcome.reasons


def test_a_forced_promotion_overrules_the_rules_and_is_recorded(three_versions):
    decide(judgement(1), "ada")
    assert decide(judgement(2, 1, promote=False), "ada", forced_reason="the fair").promoted
    decide(judgement(3, 2), "ada", forced_reason="not needed")
    assert events() == [
        ("promoted", 1, None),
        ("promoted", 2, "the fair"),
        ("promoted", 3, None),
    ]


def test_force_needs_a_reason_and_a_model_that_can_be_served(three_versions):
    with pytest.raises(SettingsError, match="the reason for a forced promotion is blank"):
        decide(judgement(1, promote=False), "ada", forced_reason=" ")
    with pytest.raises(ModelFileError, match="version 1 of plants cannot be served: no torch"):
        decide(judgement(1, promote=False, served="no torch"), "ada", forced_reason="the fair")
    assert versions.champion("plants") is None


def test_a_champion_that_changed_since_judging_stops_the_promotion(three_versions):
    decide(judgement(1), "ada")
    with pytest.raises(ChampionChangedError, match="judged against champion None"):
        decide(judgement(2), "bob")
    assert versions.champion("plants").version == 1
