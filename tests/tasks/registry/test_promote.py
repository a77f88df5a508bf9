import pytest

from tasks.registry import versions
from tasks.registry.judge import Judged
from tasks.registry.promote import Consent, settle
from transfer.core.errors import ChampionChangedError, ModelFileError, SettingsError

REASONS = ["servable: found answered"]


def judged(version, champion=None, *, promote=True, served=""):
    blessing = {"verdict": "positive", "evidence": {"served": served}}
    return Judged("plants", version, champion, promote, REASONS, [], blessing)


def decide(*args, **kwargs):
    return settle.fn(*args, **kwargs)


def events():
    return [(e["event"], e["version"], e["forced_reason"]) for e in versions.history("plants")]


def test_what_holds_is_promoted_and_what_does_not_is_refused(three_versions):
    assert decide(judged(1), "ada").promoted
    assert not decide(judged(2, 1, promote=False), "ada").promoted
    assert versions.champion("plants").version == 1
    assert [e["event"] for e in versions.history("plants")] == ["promoted", "refused"]
    assert versions.champion("plants").blessing["who"] == "ada"


def test_the_champion_itself_is_left_alone(three_versions):
    decide(judged(1), "ada")
    assert decide(judged(1, 1), "ada").promoted
    assert len(versions.history("plants")) == 1


@pytest.mark.parametrize("given", [True, False])
def test_a_person_has_the_last_word_on_what_holds(three_versions, given):
    outcome = decide(judged(1), "ada", Consent(given, "bob", "I looked"))
    assert outcome.promoted == given
    assert outcome.reasons[0] == f"{'agreed' if given else 'not agreed'}, bob: I looked"
    (event,) = versions.history("plants")
    assert event["reasons"] == outcome.reasons


def test_force_overrules_the_rules_and_shows(three_versions):
    decide(judged(1), "ada")
    assert decide(judged(2, 1, promote=False), "ada", forced_reason="the fair").promoted
    decide(judged(3, 2), "ada", forced_reason="not needed")
    assert events() == [
        ("promoted", 1, None),
        ("promoted", 2, "the fair"),
        ("promoted", 3, None),
    ]


def test_force_needs_a_reason_and_a_model_that_answers(three_versions):
    with pytest.raises(SettingsError, match="the reason for a forced promotion is blank"):
        decide(judged(1, promote=False), "ada", forced_reason=" ")
    with pytest.raises(ModelFileError, match="version 1 of plants does not answer: no torch"):
        decide(judged(1, promote=False, served="no torch"), "ada", forced_reason="the fair")
    assert versions.champion("plants") is None


def test_a_champion_that_came_meanwhile_stops_it(three_versions):
    decide(judged(1), "ada")
    with pytest.raises(ChampionChangedError, match="judged against champion None"):
        decide(judged(2), "bob")
    assert versions.champion("plants").version == 1
