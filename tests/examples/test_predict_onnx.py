"""The example that needs neither torch nor crosstrain decodes and answers as `predict` does."""

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.transfer import tiny
from tests.transfer.deployment.export import models
from tests.transfer.models.test_predictor import members
from transfer.deployment.export import onnx_file
from transfer.deployment.export.contract import contract
from transfer.deployment.export.inference_graph import Whole
from transfer.modalities.image.decoding.decode import decode, to_tensor
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.models import predictor

EXAMPLE = Path(__file__).parents[2] / "examples" / "predict_onnx.py"
ORIENTATION = ExifTags.Base.Orientation


def example():
    spec = importlib.util.spec_from_file_location("predict_onnx", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smooth(height, width, channels=3):
    """A picture that is not alike at its ends, so that a turn or another crop shows."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(9 * rows + 2 * i) * np.cos(5 * columns * (i + 1)) for i in range(channels)]
    return (127 + 120 * np.stack(waves, 2)).astype(np.uint8)


def content(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return content(Image.fromarray(smooth(40, 23)), "JPEG", exif=exif, quality=95)


def files():
    """Contents of odd pictures by what is odd about them."""
    wide, tall = Image.fromarray(smooth(19, 60)), Image.fromarray(smooth(71, 20))
    grey = Image.fromarray(smooth(33, 30, 1)[:, :, 0])
    alpha = smooth(30, 41, 4)
    deep = smooth(25, 31, 1)[:, :, 0].astype(np.uint16) * 257
    real = (smooth(24, 24, 1)[:, :, 0] / 255).astype(np.float32)
    palette = wide.quantize(17)
    told = {
        "wide": content(wide),
        "tall": content(tall),
        "tiny": content(wide.resize((5, 3))),
        "square": content(wide.resize((12, 12))),
        "grey": content(grey),
        "RGBA": content(Image.fromarray(alpha)),
        "LA": content(Image.fromarray(alpha).convert("LA")),
        "palette": content(palette),
        "transparent palette": content(palette, transparency=3),
        "GIF": content(palette, "GIF"),
        "16 bit": content(Image.fromarray(deep)),
        "16 bit, transparent": content(Image.fromarray(deep), transparency=int(deep[0, 0])),
        "1 bit": content(grey.convert("1")),
        "CMYK": content(wide.convert("CMYK"), "JPEG", quality=95),
        "float": content(Image.fromarray(real), "TIFF"),
        "WebP": content(tall, "WEBP", lossless=True),
        "BMP": content(wide, "BMP"),
    }
    return told | {f"EXIF {turn}": turned(turn) for turn in range(2, 9)}


FILES = files()


def undecided(network, normal, images):
    """A network of random weights that finds all classes alike over these pictures."""
    network.eval()
    with torch.no_grad():
        scores = network(normal.apply(torch.from_numpy(images) / 255))
        network.head.bias -= scores.mean(0)
    return network


@pytest.fixture(scope="module", params=[(1, "crop"), (3, "crop"), (3, "pad"), (3, "stretch")])
def pair(request, tmp_path_factory):
    """A model of crosstrain's, and the example with its export."""
    channels, how = request.param
    folder, parts = tmp_path_factory.mktemp("pair"), members(channels)
    spec = ImageSpec(size=tiny.SIDE, channels=channels, fit=how)
    seen = np.stack([to_tensor(decode(data, ImageLimits()), spec) for data in FILES.values()])
    networks = [
        [
            undecided(tiny.network(3, channels, 10 * i + n), m.normal, seen)
            for n in range(m.networks)
        ]
        for i, m in enumerate(parts)
    ]
    sharp = [m.model_copy(update={"temperature": 0.01}) for m in parts]
    models.of(folder / "model", sharp, networks, channels=channels, fit=how)
    model = predictor.load(folder / "model")
    told = contract(model.card, 1)
    blank = np.zeros((2, channels, model.card.spec.size, model.card.spec.size), np.uint8)
    onnx_file.write(Whole(model), blank, folder / "model.onnx", told)
    return model, example().Model(folder / "model.onnx", 1), folder


@pytest.mark.parametrize("kind", FILES)
def test_an_odd_picture_gets_the_answer_of_predict(pair, tmp_path, kind):
    model, standalone, _ = pair
    file = tmp_path / "picture"
    file.write_bytes(FILES[kind])
    expected = model.predict_files([file])
    np.testing.assert_allclose(standalone.predict([file]), expected, atol=1e-5)


def test_the_pictures_get_different_answers(pair):
    model, *_ = pair
    found = model.predict_bytes(list(FILES.values()))
    assert np.ptp(found, axis=0).max() > 0.05


def test_fitted_pixels_are_the_same_bytes(pair):
    model, standalone, _ = pair
    theirs = example()
    for data in FILES.values():
        mine = to_tensor(decode(data, model.card.limits), model.card.spec)
        assert np.array_equal(
            theirs.fit(theirs.decode(data, standalone.input), standalone.input), mine
        )


def asked(folder, *words):
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print('modules', *sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-I", "-c", code, str(EXAMPLE), str(folder / "model.onnx"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_runs_by_itself_without_torch_or_crosstrain(pair, tmp_path):
    model, _, folder = pair
    for name in ("wide", "grey"):
        (tmp_path / name).write_bytes(FILES[name])
    done = asked(folder, "--json", str(tmp_path / "wide"), str(tmp_path / "grey"))
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.partition("modules")[2].split())
    assert "onnxruntime" in loaded and not loaded & {"torch", "transfer", "tasks", "pandas"}
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = model.predict_files([tmp_path / "wide", tmp_path / "grey"])
    for row, probabilities in zip(rows, expected, strict=True):
        found = [row["probabilities"][name] for name in model.class_names]
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        assert row["label"] == model.class_names[int(probabilities.argmax())]


@pytest.mark.parametrize("data", [b"", FILES["wide"][:60]], ids=["empty", "cut short"])
def test_what_is_no_picture_ends_with_its_name(pair, tmp_path, data):
    _, _, folder = pair
    (tmp_path / "broken.png").write_bytes(data)
    done = asked(folder, str(tmp_path / "broken.png"))
    assert done.returncode == 1 and "broken.png: " in done.stderr
    assert "Traceback" not in done.stderr
