"""The separate process that a version predicts in: started ahead or not, one prediction each."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.tracking import load_back_check
from transfer.core.errors import ModelFileError

SMALL = """
import json, os, sys, time
text = sys.stdin.read()
if text:
    job = json.loads(text)
    open(job["answer"], "w").write(str(os.getpid()))
    time.sleep(job.get("sleep", 0))
    sys.exit(job.get("fault"))
"""
START = """
import sys
from pathlib import Path
from tasks.tracking import load_back_check
load_back_check.SCRIPT = Path(sys.argv[1])
load_back_check.start_ahead()
print(load_back_check._waiting[0].pid)
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    file = tmp_path / "small.py"
    file.write_text(SMALL)
    monkeypatch.setattr(load_back_check, "SCRIPT", file)
    monkeypatch.setattr(load_back_check, "_waiting", [])
    return file


def ask(folder, timeout=30.0, **more):
    """Id of the process that predicted."""
    file = folder / "answer"
    load_back_check._predict("version 1 of plants", {"answer": str(file), **more}, timeout)
    return int(file.read_text())


def test_a_process_that_was_started_ahead_predicts_once(tmp_path):
    load_back_check.start_ahead()
    load_back_check.start_ahead()
    (process,) = load_back_check._waiting
    assert ask(tmp_path) == process.pid
    assert ask(tmp_path) not in (process.pid, os.getpid())


def test_an_error_is_reported_with_its_last_line(tmp_path):
    message = "version 1 of plants does not load and predict in a separate process: no such"
    with pytest.raises(ModelFileError, match=message):
        ask(tmp_path, fault="first\nno such")


def test_a_waiting_process_that_died_is_replaced(tmp_path):
    load_back_check.start_ahead()
    (process,) = load_back_check._waiting
    process.kill()
    process.wait()
    assert ask(tmp_path) != process.pid


def test_a_process_that_takes_too_long_is_ended(tmp_path):
    load_back_check.start_ahead()
    (process,) = load_back_check._waiting
    with pytest.raises(ModelFileError, match="gave no predictions in 1 s"):
        ask(tmp_path, timeout=1.0, sleep=60)
    assert process.returncode == -9


def test_an_unused_process_ends_with_the_one_that_started_it(script):
    command = [sys.executable, "-c", START, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    waited, pid = time.monotonic() + 20, int(done.stdout)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < waited
        time.sleep(0.05)


def test_the_real_process_ends_quietly_without_input():
    answer = Path(load_back_check.__file__).with_name("predict_worker.py")
    command = [sys.executable, "-P", str(answer)]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
