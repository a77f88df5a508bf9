"""Where an export goes, what of it is written down, and that what is refused goes nowhere."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tasks.operation import export
from tasks.operation.export import Subject
from tasks.runtime.artifacts import Dataset, Ref
from tasks.tracking import connection, run_files
from tests.transfer.deployment.export import models
from transfer.core.errors import DataRefusedError, ExportRefusedError, NothingToDoError
from transfer.deployment.export import export as library
from transfer.deployment.export.export import ExportSettings
from transfer.evaluation.tables import EvaluateSettings
from transfer.models import checkpoint
from transfer.models.predictor import Card
from transfer.settings.project import Settings


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A stored result of `convert`: an 8-bit export that was calibrated on dark images, lossy."""
    folder = tmp_path_factory.mktemp("converted")
    model = models.trained(folder / "model")
    (folder / "stored").mkdir()
    library.export(
        model,
        folder / "stored",
        format="onnx-int8",
        name="plants",
        version=1,
        pool=models.dark(),
        test=models.held_out(),
        settings=ExportSettings(calibration=16),
        evaluate=EvaluateSettings(replicates=200),
    )
    return Ref(folder / "stored", "", 0.0, False), model


def test_an_export_is_placed_with_its_report_and_page(converted, tmp_path):
    ref, _ = converted
    report = export.place.fn(ref, tmp_path / "out", 1.0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.int8.onnx",
        "model.int8.onnx.json",
        "model.int8.onnx.md",
    ]
    written = json.loads((tmp_path / "out/model.int8.onnx.json").read_text())
    assert written == json.loads(report.model_dump_json())
    assert (tmp_path / "out/model.int8.onnx").read_bytes() == (
        ref.path / "model.int8.onnx"
    ).read_bytes()
    assert library.sentence(report) in (tmp_path / "out/model.int8.onnx.md").read_text()


def test_what_is_refused_goes_nowhere(converted, tmp_path):
    ref, _ = converted
    with pytest.raises(ExportRefusedError, match="is refused"):
        export.place.fn(ref, tmp_path / "out", 0.01)
    assert not (tmp_path / "out").exists()


def test_a_refusal_leaves_an_earlier_export_as_it_was(converted, tmp_path):
    ref, _ = converted
    out = tmp_path / "out"
    export.place.fn(ref, out, 1.0)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ExportRefusedError):
        export.place.fn(ref, out, 0.01)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.operation import export
from tasks.runtime.artifacts import Ref
rename, left = Path.replace, [int(sys.argv[3])]
def replace(self, target):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(self, target)
Path.replace = replace
export.place.fn(Ref(Path(sys.argv[1]), "", 0.0, False), Path(sys.argv[2]), 1.0)
"""


def test_a_killed_placing_leaves_whole_files_only(converted, tmp_path):
    ref, _ = converted
    words = [sys.executable, "-c", KILLED, str(ref.path), str(tmp_path / "out"), "0"]
    code = subprocess.run(words, env=os.environ, capture_output=True, check=False).returncode
    assert code == -signal.SIGKILL
    assert not (tmp_path / "out/model.int8.onnx").exists()
    report = export.place.fn(ref, tmp_path / "out", 1.0)
    assert (tmp_path / "out" / report.file).stat().st_size == report.engines[-1].bytes


def subject(model, run="", data=None):
    card = checkpoint.load_card(model, Card)
    if data:
        card = card.model_copy(update={"data": data})
    return Subject("plants", 2, run, model, card, Settings())


def test_the_champions_run_has_the_files_and_its_version_the_figures(
    three_versions, converted, tmp_path
):
    ref, model = converted
    out = tmp_path / "out"
    report = export.place.fn(ref, out, 1.0)
    store = connection.client()
    run = store.get_model_version("plants", "2").run_id
    for _ in range(2):
        export.record.fn(subject(model, run), report, out)
    kept = run_files.folder_of(run, "exports")
    assert {path.name for path in kept.iterdir()} == {path.name for path in out.iterdir()}
    assert (kept / report.file).read_bytes() == (out / report.file).read_bytes()
    tags = store.get_model_version("plants", "2").tags
    assert tags["export.onnx-int8.sha256"] == report.sha256
    assert float(tags["export.onnx-int8.drop"]) == pytest.approx(-report.parity.gain.point)
    assert float(tags["export.onnx-int8.drop_high"]) >= float(tags["export.onnx-int8.drop"])


def test_data_of_another_version_is_refused_with_the_way_out(converted, tmp_path):
    _, model = converted
    made = subject(model, data={"plants": "a" * 32})
    export._check_version(made, Dataset("plants", tmp_path, "a" * 32))
    with pytest.raises(DataRefusedError, match="--changed-data"):
        export._check_version(made, Dataset("plants", tmp_path, "b" * 32))


def test_without_a_champion_there_is_nothing_to_export(project):
    with pytest.raises(NothingToDoError, match="has no champion yet"):
        export.champion("plants")


def test_backbones_made_of_parts_count_as_code(converted):
    _, model = converted
    card = checkpoint.load_card(model, Card)
    (first, second) = card.members
    fused = first.backbone_spec.model_copy(
        update={"name": "fused", "options": {"parts": [{"name": "mobilenet_v2"}]}}
    )
    card = card.model_copy(
        update={"members": (first.model_copy(update={"backbone_spec": fused}), second)}
    )
    assert export._loaded_modules(card) == [
        "transfer.modalities.image.modality",
        "transfer.modalities.image.backbones.mobilenet_v2",
        "transfer.modalities.image.backbones.resnet",
        "transfer.models.fused",
    ]
