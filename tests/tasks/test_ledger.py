import json

import pytest

from tasks import ledger
from transfer.errors import CrosstrainError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_events_come_back_in_order():
    assert ledger.read() == []
    events = [{"id": "a", "name": "été"}, {"id": "b", "name": "x\ny"}]
    assert [ledger.append(event) for event in events] == [True, True]
    assert ledger.read() == events


def test_an_event_is_written_once_for_its_id():
    ledger.append({"id": "a", "n": 1})
    before = ledger.LEDGER.read_bytes()
    assert not ledger.append({"id": "a", "n": 2})
    assert ledger.LEDGER.read_bytes() == before


@pytest.mark.parametrize("torn", [b"{", b'{"id": "b"', b'{"id": "b"}'])
def test_an_incomplete_last_line_is_not_an_event_and_is_written_over(torn):
    ledger.append({"id": "a"})
    with ledger.LEDGER.open("ab") as file:
        file.write(torn)
    assert ledger.read() == [{"id": "a"}]
    assert ledger.append({"id": "b"})
    assert [json.loads(line) for line in ledger.LEDGER.read_text().splitlines()] == [
        {"id": "a"},
        {"id": "b"},
    ]


def test_a_damaged_line_is_named():
    ledger.append({"id": "a"})
    with ledger.LEDGER.open("a") as file:
        file.write("oops\n")
    with pytest.raises(CrosstrainError, match=r"line 2 of mlruns/ledger\.jsonl is not JSON"):
        ledger.append({"id": "b"})


def test_a_plan_is_there_from_begin_to_finish():
    ledger.append({"id": "a"})
    assert ledger.interrupted() is None
    plan = {"event": {"id": "b"}, "aliases": [["champion", 2], ["previous", None]]}
    ledger.begin(plan)
    assert ledger.interrupted() == plan
    ledger.finish(plan)
    assert ledger.interrupted() is None
    assert [path.name for path in ledger.JOURNAL.parent.iterdir()] == ["ledger.jsonl"]


def test_a_half_written_plan_was_not_begun():
    ledger.append({"id": "a"})
    ledger.JOURNAL.with_suffix(".part").write_text('{"event": ')
    assert ledger.interrupted() is None
    ledger.begin({"event": {}})
    assert ledger.interrupted() == {"event": {}}
