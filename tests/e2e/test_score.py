"""`crosstrain score` in a project: interrupted, killed, and run to its end."""

import json
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import Project

pytestmark = pytest.mark.slow

COPIES = 30


@pytest.fixture
def project(trained: Project, tmp_path: Path, api: str) -> Project:
    """A trained project with 12,000 images and two files that are no images."""
    made = copy(trained, tmp_path / "project", api)
    for number in range(COPIES):
        shutil.copytree(made.folder / "data/small", made.folder / f"photos/{number:02d}")
    (made.folder / "photos/00/broken.png").write_bytes(b"\x89PNG")
    (made.folder / "photos/notes.txt").write_text("no picture")
    return made


def test_it_is_interrupted_killed_and_ends_as_if_it_had_not_been(project: Project) -> None:
    words = ("score", "photos", "scores.parquet", "--target", "small", "--batch", "64")

    def parts() -> list[Path]:
        return [*project.folder.glob(".scores.parquet.parts/*.parquet")]

    stopped = project.stop(signal.SIGINT, parts, *words)
    assert stopped.code == 130
    assert stopped.log[-1] == "crosstrain: interrupted; run again to continue from here"
    assert not any("Traceback" in line for line in stopped.log)
    kept = len(parts())
    killed = project.stop(signal.SIGKILL, lambda: len(parts()) > kept, *words)
    assert killed.code == -signal.SIGKILL
    assert not (project.folder / "scores.parquet").exists()
    summary = json.loads(project.run(*words, "--json").stdout)
    assert summary["reused"] >= 2048 * (kept + 1)
    assert summary["rows"] == 400 * COPIES + 2
    assert summary["errors"] == {"unreadable": 1, "wrong_type": 1}
    assert not parts()
    whole = json.loads(project.run(*words[:2], "whole.parquet", *words[3:], "--json").stdout)
    assert whole["reused"] == 0
    scores, expected = (project.folder / f"{n}.parquet" for n in ("scores", "whole"))
    assert scores.read_bytes() == expected.read_bytes()
    table = pd.read_parquet(scores)
    right = table["label"] == table["path"].str.split("/").str[1]
    assert right[table["error"].isna()].mean() > 0.5


def test_what_cannot_be_scored_is_told_by_exit_codes(project: Project) -> None:
    out = project.folder / "scores.parquet"
    refused = project.run("score", "nowhere", "scores.parquet", "--target", "small", code=3)
    assert "nowhere does not exist; expected a folder of files" in refused.stderr
    refused = project.run("score", "photos", "scores.parquet", "--target", "other", code=4)
    assert "crosstrain-other has no champion yet" in refused.stderr
    assert not out.exists() and not [*project.folder.glob(".scores*")]
