"""An export is measured on the test split, and refused when it is not shown to be good enough."""

import hashlib
import json

import numpy as np
import onnx
import pytest
import torch

from tests.transfer import tiny
from tests.transfer.deployment.export import models
from transfer.core.errors import DataRefusedError, ExportRefusedError
from transfer.data.items import TestItems
from transfer.deployment.export import export as library
from transfer.deployment.export import onnx_file
from transfer.deployment.export.export import ExportSettings
from transfer.evaluation.tables import EvaluateSettings
from transfer.metrics import classification
from transfer.models import predictor


def export(folder, out, format, **changes):
    out.mkdir()
    told = {
        "format": format,
        "name": "crosstrain-hedge",
        "version": 4,
        "pool": models.pool(),
        "test": models.held_out(300),
        "settings": ExportSettings(calibration=32),
        "evaluate": EvaluateSettings(replicates=300),
    }
    return library.export(folder, out, **{**told, **changes})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.trained(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def reports(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return {f: (folder / f, export(model, folder / f, f)) for f in ("onnx", "onnx-int8")}


@pytest.mark.parametrize("format", ["onnx", "onnx-int8"])
def test_the_report_is_true_of_the_file(reports, model, format):
    folder, report = reports[format]
    content = (folder / report.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == report.sha256
    assert library.load(folder) == report
    test = models.held_out(300)
    images, labels = test.records.numpy(), test.labels.numpy()
    mine = predictor.load(model).predict_records(images)
    theirs = onnx_file.ask(folder / report.file, 1)(images)
    assert report.parity.items == 300
    assert report.parity.accuracy == classification.accuracy(theirs, labels)
    assert report.parity.model_accuracy == classification.accuracy(mine, labels)
    assert report.parity.largest == pytest.approx(np.abs(mine - theirs).max(), abs=1e-5)
    assert (report.networks, report.class_names) == (3, tiny.CLASSES)


def test_an_exact_export_is_the_model(reports):
    _, report = reports["onnx"]
    assert report.parity.is_same and report.parity.largest < 1e-5
    assert report.calibrated_on == 0
    library.judge(report, 0.0)


def test_eight_bits_are_smaller_and_say_on_how_much_they_were_calibrated(reports):
    folder, report = reports["onnx-int8"]
    names = [engine.name for engine in report.engines]
    assert names == ["torch", "onnx", "onnx-int8"]
    _, exact, small = report.engines
    assert small.bytes == (folder / report.file).stat().st_size < exact.bytes
    assert report.calibrated_on == 32
    told = {p.key: p.value for p in onnx.load(folder / report.file).metadata_props}
    assert (told["calibrated_on"], told["format"]) == ("32", "onnx-int8")
    assert json.loads(told["class_names"]) == list(tiny.CLASSES)


def test_the_page_has_a_row_for_every_engine(reports):
    _, report = reports["onnx-int8"]
    page = library.page(report)
    for engine in report.engines:
        times = [f"{one.milliseconds:.2f}" for one in engine.latencies]
        assert f"| {engine.name} | {engine.bytes / 1e6:.2f} | {' | '.join(times)} |" in page
    assert "3 networks in one graph" in page and "onnxruntime" in page


def test_an_export_that_loses_much_is_refused(model, tmp_path):
    report = export(model, tmp_path / "dark", "onnx-int8", pool=models.dark())
    assert report.parity.gain.point < -0.2
    with pytest.raises(ExportRefusedError, match=r"model\.int8\.onnx .* is refused") as caught:
        library.judge(report, 0.01)
    assert caught.value.exit_code == 5
    assert library.sentence(report) in str(caught.value) and "export.margin" in str(caught.value)
    library.judge(report, 1.0)


def test_nothing_to_measure_on_or_to_calibrate_on_is_refused(model, tmp_path):
    none = models.held_out(3)
    none = TestItems(none.records[:0], none.labels[:0], none.ids[:0])
    with pytest.raises(DataRefusedError, match="found 0 test items and 48 training items"):
        export(model, tmp_path / "out", "onnx", test=none)


@pytest.mark.parametrize(("n", "most"), [(48, 32), (5, 32), (32, 32), (1, 8)])
def test_calibration_items_are_spread_over_the_split(n, most):
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1)
    rows = library.spaced(images, most).ravel()
    assert len(rows) == len(set(rows.tolist())) == min(n, most)
    assert rows[0] == 0 and (len(rows) == 1 or rows[-1] == n - 1)
    assert np.diff(rows).max(initial=0) <= -(-n // min(n, most)) + 1
