"""What is chosen of measured times, that they are measured once, and a process that dies."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.training import precision

SECONDS = st.floats(1e-6, 1e3)


@given(SECONDS, SECONDS)
def test_bf16_is_chosen_where_it_is_clearly_faster(fp32, bf16):
    chosen = precision.choose({"fp32": fp32, "bf16": bf16, "off": 0.0})
    assert (chosen == "bf16") == (fp32 >= precision.WORTH * bf16)


@pytest.mark.parametrize(
    "measured",
    [
        {},
        {"fp32": 1.0},
        {"fp32": 1.0, "bf16": 0.1, "off": 0.5},
        {"fp32": 1.0, "bf16": 0.1, "off": float("nan")},
    ],
    ids=[
        "nothing measured",
        "bf16 ended the process",
        "bf16 computes wrongly",
        "bf16 gives NaN",
    ],
)
def test_fp32_is_what_is_left(measured):
    assert precision.choose(measured) == "fp32"


def test_the_machine_is_measured_once(tmp_path, monkeypatch):
    times = []

    def measured():
        times.append(1)
        return {"fp32": 2.0, "bf16": 1.0, "off": 0.001}

    monkeypatch.setattr(precision, "measure", measured)
    assert [precision.fastest(tmp_path) for _ in range(3)] == ["bf16"] * 3
    assert len(times) == 1
    (kept,) = tmp_path.iterdir()
    for damaged in ("", "[]", '{"fp32": 1, "bf16": 2}', '{"bf16": "x", "off": 0}'):
        kept.write_text(damaged)
        assert precision.fastest(tmp_path) == "bf16"
    assert len(times) == 5
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    precision.fastest(tmp_path)
    assert len(times) == 6


def test_what_was_not_measured_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "measure", dict)
    assert precision.fastest(tmp_path / "cache") == "fp32"
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(precision, "measure", lambda: {"fp32": 1.0})
    (tmp_path / "file").write_text("")
    assert precision.fastest(tmp_path / "file") == "fp32"


def test_a_process_that_dies_after_fp32_leaves_its_time(monkeypatch):
    died = f"import os; print({json.dumps({'fp32': 0.5})!r}, flush=True); os.kill(os.getpid(), 4)"
    real = subprocess.run

    def run(command, **options):
        return real([sys.executable, "-c", died], **options)

    monkeypatch.setattr(subprocess, "run", run)
    assert precision.measure() == {"fp32": 0.5}


def test_this_machine_is_measured():
    measured = precision.measure()
    assert measured["fp32"] > 0
    assert ("bf16" in measured) == ("off" in measured)
    assert precision.choose(measured) in ("fp32", "bf16")
