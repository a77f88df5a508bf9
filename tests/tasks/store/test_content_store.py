"""The same key gives the stored result; any other key is computed, and stored completely."""

import importlib
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from tasks.runtime import paths
from tasks.store import content_store
from tests.death import die_at

CODE = ["transfer.core.errors"]
KEY_PARTS = {"inputs": {"scan": "a" * 64}, "settings": {"width": 4, "shape": [1, 2]}, "code": CODE}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Work:
    """Writes two files and counts how often it was done, also across processes."""

    def __init__(self, text="rows"):
        self.text = text

    def __call__(self, out):
        assert list(out.iterdir()) == []
        with Path("count").open("a") as count:
            count.write(".")
        (out / "deep").mkdir()
        (out / "deep" / "table.txt").write_text(self.text)
        (out / "big.bin").write_bytes(bytes(100_000))

    @property
    def times(self):
        return len(Path("count").read_text()) if Path("count").exists() else 0


def run(work=None, step="scan", **changes):
    return content_store.result(step, work or Work(), **{**KEY_PARTS, **changes})


def is_complete(ref):
    return (
        (ref.path / "deep" / "table.txt").read_text() == "rows"
        and (ref.path / "big.bin").read_bytes() == bytes(100_000)
        and content_store.digest_of(ref.path)[0] == ref.digest
    )


def test_a_result_is_computed_once_and_then_reused():
    first, again = run(), run()
    assert Work().times == 1
    assert (first.reused, again.reused) == (False, True)
    assert (first.path, first.digest, first.seconds) == (again.path, again.digest, again.seconds)
    assert first.path.parent == paths.BUILD / "scan"
    assert is_complete(first)


def test_an_edit_of_the_step_itself_is_computed_anew(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    text = "def compute(out):\n    (out / 'x').write_text('1')\n"
    (project / "some_step.py").write_text(text)
    compute = importlib.import_module("some_step").compute
    assert [content_store.result("scan", compute, **KEY_PARTS).reused for _ in range(2)] == [
        False,
        True,
    ]
    (project / "some_step.py").write_text(f"{text}# another word\n")
    assert not content_store.result("scan", compute, **KEY_PARTS).reused


def test_the_store_says_what_is_there_and_computes_nothing():
    place = content_store.address("scan", Work.__module__, **KEY_PARTS)
    assert content_store.lookup(place) is None and not place.parent.exists()
    ref = run()
    assert ref.path == place
    assert content_store.lookup(place) == replace(ref, reused=True)
    assert content_store.computed(place, Work()).reused and Work().times == 1
    flip_a_byte(place)
    assert content_store.lookup(place) is None


def test_the_store_answers_while_a_result_is_being_computed():
    def compute(out):
        assert content_store.lookup(out.with_name(out.name[1:-5])) is None
        Work()(out)

    assert not run(compute).reused


def test_the_order_of_names_makes_no_difference():
    run(inputs={"a": "1", "b": "2"})
    assert run(inputs={"b": "2", "a": "1"}).reused


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "split"},
        {"inputs": {"scan": "b" * 64}},
        {"inputs": {"scan": "a" * 64, "more": ""}},
        {"inputs": {}},
        {"settings": {"width": 5, "shape": [1, 2]}},
        {"settings": {"width": 4, "shape": [2, 1]}},
        {"settings": {"width": 4}},
        {"settings": {"width": "4", "shape": [1, 2]}},
        {"code": ["transfer.core.config"]},
        {"code": ["transfer.core.errors", "transfer.core.config"]},
    ],
    ids=str,
)
def test_a_change_of_any_part_of_the_key_computes_anew(changes):
    run()
    other = run(**changes)
    assert not other.reused and Work().times == 2
    assert run().reused and run(**changes).reused
    assert Work().times == 2


def test_settings_that_are_no_plain_values_are_refused():
    with pytest.raises(TypeError, match="JSON"):
        run(settings={"path": Path("x")})


def flip_a_byte(folder):
    content = bytearray((folder / "big.bin").read_bytes())
    content[50_000] ^= 1
    (folder / "big.bin").write_bytes(content)


DAMAGE = {
    "a byte": flip_a_byte,
    "cut short": lambda f: os.truncate(f / "big.bin", 99_999),
    "emptied": lambda f: (f / "big.bin").write_bytes(b""),
    "a file is gone": lambda f: (f / "deep" / "table.txt").unlink(),
    "a file too many": lambda f: (f / "more.txt").write_text(""),
    "a file renamed": lambda f: (f / "big.bin").rename(f / "bag.bin"),
    "a folder is gone": lambda f: shutil.rmtree(f / "deep"),
    "no record": lambda f: (f / content_store.RECORD).unlink(),
    "an empty record": lambda f: (f / content_store.RECORD).write_text(""),
    "half a record": lambda f: os.truncate(f / content_store.RECORD, 40),
    "a record of nothing": lambda f: (f / content_store.RECORD).write_text("null"),
    "a record of another kind": lambda f: (f / content_store.RECORD).write_text("[]"),
    "a record without files": lambda f: (f / content_store.RECORD).write_text('{"seconds": 1}'),
    "nothing but the folder": lambda f: (shutil.rmtree(f), f.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_is_computed_anew(damage):
    ref = run()
    DAMAGE[damage](ref.path)
    again = run()
    assert not again.reused and Work().times == 2
    assert again.digest == ref.digest and is_complete(again)
    assert run().reused


def test_the_digest_is_that_of_the_content():
    one, same, other = run(step="a"), run(step="b"), run(Work("other"), step="c")
    assert one.digest == same.digest != other.digest
    shutil.copytree(one.path, "copy")
    assert content_store.digest_of(Path("copy"))[0] == one.digest
    Path("copy/deep/table.txt").rename("copy/table.txt")
    assert content_store.digest_of(Path("copy"))[0] != one.digest


def test_the_record_lists_every_file_and_the_time():
    def slow(out):
        time.sleep(0.05)
        Work()(out)

    ref = run(slow)
    record = json.loads((ref.path / content_store.RECORD).read_text())
    assert set(record["files"]) == {"deep/table.txt", "big.bin"}
    assert record["digest"] == ref.digest
    assert 0.05 <= ref.seconds == record["seconds"] < 5


def test_a_computation_that_fails_leaves_nothing_to_be_found():
    def fails(out):
        Work()(out)
        raise RuntimeError("no more disk")

    with pytest.raises(RuntimeError, match="no more disk"):
        run(fails)
    assert [p for p in (paths.BUILD / "scan").iterdir() if not p.name.startswith(".")] == []
    assert not run().reused
    assert run().reused


def test_a_killed_computation_leaves_no_stored_result():
    def dies(out):
        Work()(out)
        os.kill(os.getpid(), signal.SIGKILL)

    assert die_at(10**6, lambda: run(dies)) == -signal.SIGKILL
    assert Work().times == 1
    ref = run()
    assert not ref.reused and is_complete(ref)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_process_killed_at_any_step_of_storing_leaves_no_damage(damaged, tmp_path):
    for step in range(60):
        folder = tmp_path / f"life{step}"
        folder.mkdir()
        os.chdir(folder)
        if damaged:
            flip_a_byte(run().path)
        before = Work().times
        status = die_at(step, run)
        after = run()
        assert is_complete(after)
        assert run().reused
        assert Work().times - before <= 2
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step >= 6


def test_two_processes_that_want_one_result_compute_it_once():
    def slow(out):
        time.sleep(0.3)
        Work()(out)

    children = []
    for _ in range(3):
        if not (child := os.fork()):
            status = 1
            try:
                status = 0 if is_complete(run(slow)) else 2
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert Work().times == 1


def test_threads_that_want_one_result_compute_it_once():
    def slow(out):
        time.sleep(0.1)
        Work()(out)

    with ThreadPoolExecutor(4) as pool:
        refs = list(pool.map(lambda _: run(slow), range(4)))
    assert Work().times == 1
    assert sorted(ref.reused for ref in refs) == [False, True, True, True]
    assert len({ref.digest for ref in refs}) == 1


def test_different_results_are_computed_at_once():
    meet = Barrier(4, timeout=60)

    def together(out):
        meet.wait()
        Work()(out)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: run(together, settings={"i": i}), range(4)))
    assert Work().times == 4
