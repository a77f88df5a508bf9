import base64
import inspect
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from tasks.track.serve_model import ServedModel
from transfer import predict


@pytest.fixture(scope="module")
def served(model):
    served = ServedModel()
    served.load_context(SimpleNamespace(artifacts={"model": str(model)}))
    return served


@pytest.fixture
def expected(model, pictures):
    return predict.load(model).predict_arrays(pictures[1])


def test_mlflow_passes_the_context_by_name():
    assert list(inspect.signature(ServedModel.load_context).parameters) == ["self", "context"]


def b64(file):
    return base64.b64encode(file.read_bytes()).decode()


BATCHES = {
    "uint8 array": lambda files, pixels: pixels,
    "array of other integers": lambda files, pixels: pixels.astype(np.int64),
    "nested lists": lambda files, pixels: pixels.tolist(),
    "list of arrays": lambda files, pixels: list(pixels),
    "paths": lambda files, pixels: files,
    "paths as text": lambda files, pixels: [str(f) for f in files],
    "series of paths": lambda files, pixels: pd.Series([str(f) for f in files]),
    "array of paths": lambda files, pixels: np.array([str(f) for f in files]),
    "bytes": lambda files, pixels: [f.read_bytes() for f in files],
    "base64": lambda files, pixels: [b64(f) for f in files],
    "data URIs": lambda files, pixels: [f"data:image/png;base64,{b64(f)}" for f in files],
    "paths and bytes": lambda files, pixels: [files[0], *(f.read_bytes() for f in files[1:])],
    "frame of paths": lambda files, pixels: pd.DataFrame({"image": [str(f) for f in files]}),
    "frame of bytes": lambda files, pixels: pd.DataFrame(
        {"image": [f.read_bytes() for f in files]}
    ),
    "frame of arrays": lambda files, pixels: pd.DataFrame({"image": list(pixels)}),
    "frame of lists": lambda files, pixels: pd.DataFrame({"image": pixels.tolist()}),
    "named inputs": lambda files, pixels: {"image": np.array([b64(f) for f in files])},
}


@pytest.mark.parametrize("form", BATCHES)
def test_every_form_of_a_batch_gets_the_same_answer(served, pictures, expected, form):
    answer = served.predict(None, BATCHES[form](*pictures))
    assert list(answer.columns) == ["acer", "été sauvage", "c#"]
    np.testing.assert_allclose(answer.to_numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        lambda file, pixels: pixels,
        lambda file, pixels: pixels.tolist(),
        lambda file, pixels: [pixels],
        lambda file, pixels: file,
        lambda file, pixels: str(file),
        lambda file, pixels: file.read_bytes(),
        lambda file, pixels: b64(file),
    ],
)
def test_a_single_image(served, pictures, expected, form):
    files, pixels = pictures
    answer = served.predict(None, form(files[0], pixels[0]))
    np.testing.assert_allclose(answer.to_numpy(), expected[:1], atol=1e-6)


def test_grey_arrays(served, model, pictures):
    grey = pictures[1][..., 0]
    expected = predict.load(model).predict_arrays(grey)
    for form in (grey, grey[..., None], list(grey), grey.tolist()):
        np.testing.assert_allclose(served.predict(None, form).to_numpy(), expected, atol=1e-6)
    one = served.predict(None, grey[0]).to_numpy()
    np.testing.assert_allclose(one, expected[:1], atol=1e-6)


def test_arrays_of_several_sizes(served, model):
    sizes = [(16, 16, 3), (20, 30, 3), (9, 12)]
    images = [np.full(size, 40 * i, np.uint8) for i, size in enumerate(sizes)]
    expected = [predict.load(model).predict_arrays(image[None])[0] for image in images]
    np.testing.assert_allclose(served.predict(None, images).to_numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((2, 16, 16)), "array of float64; expected whole numbers of 0 to 255"),
        ([[0.5, 0.1], [0.2, 0.3]], "array of float64"),
        (np.full((1, 9, 9), 256), "whole numbers of 0 to 255"),
        (np.full((1, 9, 9), -1), "whole numbers of 0 to 255"),
        (np.zeros((2, 2, 9, 9, 3), np.uint8), "5 dimensions"),
        (np.zeros(9, np.uint8), "1 dimensions"),
        (np.zeros((0, 9, 9), np.int64), "no images"),
        ([], "no images"),
        (pd.DataFrame({"image": []}), "no images"),
        (pd.DataFrame({"file": ["a.png"]}), r"columns \['file'\]; expected one named 'image'"),
        (["no-such-file.png"], "'no-such-file.png', is neither a file that exists nor base64"),
        (["x" * 100_000 + "!"], "neither a file that exists nor base64"),
        ([b"GIF?"], "item 0"),
        ([b""], "item 0"),
        ([None], "row 0 is NoneType"),
        (pd.Series([np.nan]), "whole numbers"),
        ([[1, 2], [3]], "inhomogeneous"),
        (7, "found int"),
        (None, "found NoneType"),
    ],
)
def test_what_is_no_image_is_refused_by_name(served, given, told):
    with pytest.raises(MlflowException, match=told) as caught:
        served.predict(None, given)
    assert caught.value.get_http_status_code() == 400
