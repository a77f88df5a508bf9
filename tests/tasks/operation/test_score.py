"""A folder becomes one file, even after interruptions; finished parts are not scored again."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from tasks.operation.score import score, write
from tasks.runtime import progress
from tests.death import die_at
from tests.tasks.conftest import CLASSES, SIDE
from transfer.core.errors import CrosstrainError, DataRefusedError, NothingToDoError, SettingsError
from transfer.deployment.batch_scoring import Scorer
from transfer.models import predictor as predict

PART = 8


@pytest.fixture
def folder(tmp_path):
    """Twenty images in two folders, one of them damaged, and a text file."""
    root = tmp_path / "pictures"
    pixels = np.random.default_rng(3).integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
    for i, image in enumerate(pixels):
        file = root / "ab"[i % 2] / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    (root / "a/04.png").write_bytes(b"damaged")
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def predictor(make_model):
    return predict.load(make_model(1))


@pytest.fixture
def do(predictor, folder, tmp_path):
    """Score the folder; returns the result."""

    def run(out=tmp_path / "out.parquet", identity="first", source=folder, model=predictor):
        return write(Scorer(model, "trees", 1, 4), identity, source, out, PART)

    return run


def parts_of(out):
    return [*out.parent.glob(f".{out.name}.parts/*.parquet")]


def test_a_folder_becomes_a_file_and_nothing_else(do, tmp_path, folder):
    done = do()
    table = pd.read_parquet(done.out)
    assert len(table) == done.rows == 21
    assert done.errors == {"wrong_type": 2}
    assert sum(done.labels.values()) == 19
    assert done.labels == table["label"].value_counts().to_dict()
    assert set(table["path"][table["error"].notna()]) == {"notes.txt", "a/04.png"}
    assert done.reused == 0
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "out.parquet"}


def test_killed_at_any_step_and_run_again_it_is_the_same_file(do, tmp_path):
    expected = Path(do(tmp_path / "expected.parquet").out).read_bytes()
    reused = []
    for step in range(60):
        out = tmp_path / f"{step}.parquet"
        status = die_at(step, lambda out=out: do(out))
        if status == 0:
            assert out.read_bytes() == expected
            break
        assert status == -9
        finished = sum(pd.read_parquet(file).shape[0] for file in parts_of(out))
        reused.append(21 if out.exists() else finished)
        assert do(out).reused == reused[-1]
        assert out.read_bytes() == expected
        assert not [*tmp_path.glob(".*")]
    assert step > 8
    assert reused == sorted(reused)
    assert set(reused) == {0, 8, 16, 21}


def test_an_unchanged_folder_is_not_scored_again(do, folder):
    first = do()
    written = Path(first.out).stat().st_mtime_ns
    again = do()
    assert (again.reused, again.labels, again.errors) == (21, first.labels, first.errors)
    assert Path(first.out).stat().st_mtime_ns == written
    (folder / "notes.txt").unlink()
    assert do().rows == 20


class Stopped(BaseException):
    """Stands for an interrupt."""


@pytest.fixture
def cut_off(do, predictor, tmp_path, monkeypatch):
    """A scoring that was interrupted after its first part."""
    calls = []

    class Mortal(predict.Predictor):
        def predict_records(self, images):
            calls.append(len(images))
            if len(calls) == 4:
                raise Stopped
            return super().predict_records(images)

    with pytest.raises(Stopped):
        do(model=Mortal(predictor.card, predictor.networks))
    assert len(parts_of(tmp_path / "out.parquet")) == 1
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.usefixtures("cut_off")
def test_a_finished_part_is_taken_up_again(do, tmp_path):
    done = do()
    assert done.reused == PART
    again = do(tmp_path / "again.parquet")
    assert Path(done.out).read_bytes() == Path(again.out).read_bytes()


@pytest.mark.usefixtures("cut_off")
def test_of_another_model_no_part_is_taken_up(do):
    assert do(identity="second").reused == 0


@pytest.mark.usefixtures("cut_off")
def test_a_changed_image_is_scored_again(do, folder, predictor):
    Image.new("RGB", (SIDE, SIDE), "red").save(folder / "a/00.png")
    done = do()
    assert done.reused == 0
    table = pd.read_parquet(done.out).set_index("path")
    expected = predictor.predict_files([folder / "a/00.png"])[0]
    probabilities = table.loc["a/00.png", [f"p:{name}" for name in CLASSES]].to_numpy(float)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.usefixtures("cut_off")
def test_a_damaged_part_is_scored_again(do, tmp_path):
    (part,) = parts_of(tmp_path / "out.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    assert do().reused == 0


def test_two_processes_do_not_write_one_file(do, tmp_path):
    parts = tmp_path / ".out.parquet.parts"
    parts.mkdir()
    with FileLock(parts / "lock"), pytest.raises(CrosstrainError, match="another process"):
        do()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no readable item; expected a folder"),
        (["notes.txt", ".hidden.png"], "no readable item .1 hidden, 1 wrong_type"),
        (["a.png", "b/c.png"], "no readable item .2 wrong_type"),
    ],
)
def test_a_folder_without_a_readable_image_leaves_nothing(do, tmp_path, names, message):
    source = tmp_path / "empty"
    source.mkdir()
    for name in names:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("no picture")
    with pytest.raises(DataRefusedError, match=message):
        do(source=source)
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "empty"}


@pytest.mark.parametrize(
    ("source", "out", "error", "message"),
    [
        ("pictures", "out.csv", SettingsError, "ends in .parquet"),
        ("pictures", "pictures/out.parquet", SettingsError, "would be scored too"),
        ("way", "pictures/a/out.parquet", SettingsError, "would be scored too"),
        ("list.parquet", "list.parquet", SettingsError, "would be scored too"),
        ("pictures", "folder.parquet", SettingsError, "ends in .parquet"),
        ("pictures", "out.parquet", NothingToDoError, "crosstrain-plants has no champion yet"),
    ],
)
def test_what_makes_no_sense_is_refused(project, folder, tmp_path, source, out, error, message):
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "way").symlink_to(folder)
    pd.DataFrame({"path": ["pictures/a/00.png"]}).to_parquet(tmp_path / "list.parquet")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        score.fn(tmp_path / source, tmp_path / out, "plants", 4)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_source_that_is_not_there_leaves_nothing(do, tmp_path):
    with pytest.raises(DataRefusedError, match="nowhere does not exist"):
        do(tmp_path / "new/out.parquet", source=tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == {"pictures"}


def test_a_place_that_cannot_be_written_is_named(do, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CrosstrainError, match="cannot be written"):
        do(tmp_path / "file/out.parquet")


MEMORY = """
import json, resource, sys
from pathlib import Path
from tasks.operation.score import write
from transfer.deployment.batch_scoring import Scorer
from transfer.models import predictor
model, source, out = map(Path, sys.argv[1:])
write(Scorer(predictor.load(model), "trees", 1, 256), "", source, out)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.slow
def test_ten_times_the_images_need_hardly_more_memory(make_model, tmp_path):
    """20,000 images need at most 32 MiB more than 2,000."""
    peaks = []
    for n in (2_000, 20_000):
        folder = tmp_path / str(n)
        folder.mkdir()
        for i in range(n):
            (folder / f"{i:05d}.bmp").write_bytes(BMP)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, make_model(1), folder, tmp_path / f"{n}.parquet"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(pd.read_parquet(tmp_path / f"{n}.parquet")) == n
        peaks.append(json.loads(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 32, peaks


def _bmp():
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "green").save(file, "BMP")
    return file.getvalue()


BMP = _bmp()


def test_a_terminal_sees_a_bar_and_a_log_lines(monkeypatch, caplog):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.bar("score", 40) as advance:
            advance(30)
        terminal.flush()
        shown = os.read(ours, 10_000).decode()
        while "30/40" not in shown:
            shown += os.read(ours, 10_000).decode()
    os.close(ours)
    assert "score" in shown
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with caplog.at_level("INFO", "crosstrain"), progress.bar("score", 40) as advance:
        advance(30)
        advance(10)
    assert [line.split()[1:] for line in caplog.messages] == [
        ["30", "of", "40"],
        ["40", "of", "40"],
    ]
