import json

import pytest

from tasks.registry import file_ledger
from transfer.core.errors import CrosstrainError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_events_come_back_in_order():
    assert file_ledger.read() == []
    events = [{"id": "a", "name": "été"}, {"id": "b", "name": "x\ny"}]
    assert [file_ledger.append(event) for event in events] == [True, True]
    assert file_ledger.read() == events


def test_an_event_is_written_once_for_its_id():
    file_ledger.append({"id": "a", "n": 1})
    before = file_ledger.LEDGER.read_bytes()
    assert not file_ledger.append({"id": "a", "n": 2})
    assert file_ledger.LEDGER.read_bytes() == before


@pytest.mark.parametrize("torn", [b"{", b'{"id": "b"', b'{"id": "b"}'])
def test_an_incomplete_last_line_is_not_an_event_and_is_written_over(torn):
    file_ledger.append({"id": "a"})
    with file_ledger.LEDGER.open("ab") as file:
        file.write(torn)
    assert file_ledger.read() == [{"id": "a"}]
    assert file_ledger.append({"id": "b"})
    assert [json.loads(line) for line in file_ledger.LEDGER.read_text().splitlines()] == [
        {"id": "a"},
        {"id": "b"},
    ]


def test_a_damaged_line_is_named():
    file_ledger.append({"id": "a"})
    with file_ledger.LEDGER.open("a") as file:
        file.write("oops\n")
    with pytest.raises(CrosstrainError, match=r"line 2 of mlruns/ledger\.jsonl is not JSON"):
        file_ledger.append({"id": "b"})


def test_a_plan_is_there_from_begin_to_finish():
    file_ledger.append({"id": "a"})
    assert file_ledger.interrupted() is None
    plan = {"event": {"id": "b"}, "aliases": [["champion", 2], ["previous", None]]}
    file_ledger.begin(plan)
    assert file_ledger.interrupted() == plan
    file_ledger.finish(plan)
    assert file_ledger.interrupted() is None
    assert [path.name for path in file_ledger.JOURNAL.parent.iterdir()] == ["ledger.jsonl"]


def test_a_half_written_plan_was_not_begun():
    file_ledger.append({"id": "a"})
    file_ledger.JOURNAL.with_suffix(".part").write_text('{"event": ')
    assert file_ledger.interrupted() is None
    file_ledger.begin({"event": {}})
    assert file_ledger.interrupted() == {"event": {}}
