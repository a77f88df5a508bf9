import base64
import inspect
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from tasks.tracking.serve_model import ServedModel
from tests.tasks.conftest import CLASSES
from transfer.models import predictor


def loaded(model):
    """A model folder as MLflow loads it, with the library of this checkout."""
    library = Path(predictor.__file__).parents[2]
    served = ServedModel()
    places = {"model": str(model), "library.zip": str(library)}
    served.load_context(SimpleNamespace(artifacts=places))
    return served


@pytest.fixture(scope="module")
def served(model):
    return loaded(model)


@pytest.fixture
def expected(model, images):
    return predictor.load(model).predict_arrays(images[1])


def test_mlflow_passes_the_context_by_name():
    assert list(inspect.signature(ServedModel.load_context).parameters) == ["self", "context"]


def shares(answers):
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def b64(file):
    return base64.b64encode(file.read_bytes()).decode()


BATCHES = {
    "uint8 array": lambda files, pixels: pixels,
    "array of other integers": lambda files, pixels: pixels.astype(np.int64),
    "nested lists": lambda files, pixels: pixels.tolist(),
    "list of arrays": lambda files, pixels: list(pixels),
    "paths": lambda files, pixels: files,
    "series of paths": lambda files, pixels: pd.Series(files),
    "array of paths": lambda files, pixels: np.array(files),
    "bytes": lambda files, pixels: [f.read_bytes() for f in files],
    "base64": lambda files, pixels: [b64(f) for f in files],
    "data URIs": lambda files, pixels: [f"data:image/png;base64,{b64(f)}" for f in files],
    "base64 in lines": lambda files, pixels: [
        base64.encodebytes(f.read_bytes()).decode() for f in files
    ],
    "paths and bytes": lambda files, pixels: [files[0], *(f.read_bytes() for f in files[1:])],
    "frame of paths": lambda files, pixels: pd.DataFrame({"image": files}),
    "frame of bytes": lambda files, pixels: pd.DataFrame(
        {"image": [f.read_bytes() for f in files]}
    ),
    "frame of arrays": lambda files, pixels: pd.DataFrame({"image": list(pixels)}),
    "frame of lists": lambda files, pixels: pd.DataFrame({"image": pixels.tolist()}),
    "named inputs": lambda files, pixels: {"image": np.array([b64(f) for f in files])},
}


@pytest.mark.parametrize("form", BATCHES)
def test_every_form_of_a_batch_gets_the_same_answer(served, images, expected, form):
    answers = served.predict(None, BATCHES[form](*images))
    np.testing.assert_allclose(shares(answers), expected, atol=1e-6)
    np.testing.assert_allclose(shares(answers).sum(axis=1), 1, atol=1e-6)


def test_an_answer_names_the_class_its_probability_and_the_model(served, images, expected):
    answers = served.predict(None, images[1])
    assert len(answers) == 5
    for answer, row in zip(answers, expected, strict=True):
        assert list(answer) == ["label", "probability", "probabilities", "model", "version"]
        assert list(answer["probabilities"]) == list(CLASSES)
        assert answer["label"] == CLASSES[row.argmax()]
        assert answer["probability"] == answer["probabilities"][answer["label"]]
        assert [np.float32(p) for p in answer["probabilities"].values()] == row.tolist()
        assert (answer["model"], answer["version"]) == (None, None)
    assert json.loads(json.dumps(answers)) == answers


def test_a_registered_model_names_itself(model, images, tmp_path):
    folder = tmp_path / "artifacts"
    shutil.copytree(model, folder / "model")
    (folder / "registered.json").write_text('{"model": "crosstrain-plants", "version": 3}')
    answer = loaded(folder / "model").predict(None, images[1])[0]
    assert (answer["model"], answer["version"]) == ("crosstrain-plants", 3)


@pytest.mark.parametrize(
    "form",
    [
        lambda file, pixels: pixels,
        lambda file, pixels: pixels.tolist(),
        lambda file, pixels: [pixels],
        lambda file, pixels: file,
        lambda file, pixels: file.read_bytes(),
        lambda file, pixels: b64(file),
        lambda file, pixels: np.array(b64(file)),
    ],
)
def test_a_single_image(served, images, expected, form):
    files, pixels = images
    answers = served.predict(None, form(files[0], pixels[0]))
    np.testing.assert_allclose(shares(answers), expected[:1], atol=1e-6)


def test_grey_arrays(served, model, images):
    grey = images[1][..., 0]
    expected = predictor.load(model).predict_arrays(grey)
    for form in (grey, grey[..., None], list(grey), grey.tolist()):
        np.testing.assert_allclose(shares(served.predict(None, form)), expected, atol=1e-6)
    single = shares(served.predict(None, grey[0]))
    np.testing.assert_allclose(single, expected[:1], atol=1e-6)


def test_arrays_of_several_sizes(served, model):
    sizes = [(16, 16, 3), (20, 30, 3), (9, 12)]
    images = [np.full(size, 40 * i, np.uint8) for i, size in enumerate(sizes)]
    expected = [predictor.load(model).predict_arrays(image[None])[0] for image in images]
    np.testing.assert_allclose(shares(served.predict(None, images)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "message"),
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
        (["no such file.png"], "item 0, 'no such file.png', is not base64"),
        (["x" * 100_000 + "!"], "is not base64"),
        ([base64.b64encode(b"text").decode()], "item 0: wrong_type"),
        (["YWJjZA"], "not base64 .Incorrect padding"),
        (["é"], "not base64"),
        (["data:image/png,abc"], "not base64"),
        ([b"GIF?"], "item 0"),
        ([b""], "item 0"),
        ([None], "item 0 is NoneType"),
        (np.array(None), "found NoneType"),
        (np.array(7.5), "array of float64|found float"),
        ([{"image": "YWJj"}], "item 0 is dict"),
        (pd.Series([np.nan]), "whole numbers"),
        ([[1, 2], [3]], "several sizes"),
        (7, "found int"),
        (None, "found NoneType"),
    ],
)
def test_an_input_that_is_not_an_image_is_refused_by_name(served, batch, message):
    with pytest.raises(MlflowException, match=message) as caught:
        served.predict(None, batch)
    assert caught.value.get_http_status_code() == 400
    caught.value.message = f"Failed to predict data '{batch}'"  # what the scoring server does
    assert re.search(message, json.loads(caught.value.serialize_as_json())["message"])


@pytest.mark.parametrize(
    "form", [str, lambda file: np.array([str(file)]), lambda file: [str(file)]]
)
def test_a_text_is_never_the_name_of_a_file(served, images, form):
    """The answer to a file name is the same whether the file exists or not."""
    there, gone = images[0][0], images[0][0].with_name("blüte x.png")
    messages = []
    for file in (there, gone):
        with pytest.raises(MlflowException) as caught:
            served.predict(None, form(file))
        messages.append(caught.value.message.replace(str(file)[:60], "…"))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("n", [1, 40])
def test_the_threads_of_the_caller_stay_as_they_were(served, images, n):
    before = torch.get_num_threads()
    served.predict(None, np.repeat(images[1][:1], n, axis=0))
    with pytest.raises(MlflowException):
        served.predict(None, [None] * n)
    assert torch.get_num_threads() == before


def test_a_text_that_is_a_file_and_base64_is_base64(served, images, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "abcd").write_bytes(images[0][0].read_bytes())
    with pytest.raises(MlflowException, match="item 0: wrong_type"):
        served.predict(None, ["abcd"])


def nested(inner):
    return st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["image", "x"]), inner, max_size=2
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    nested,
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_answered_or_refused(served, content):
    for form in (
        lambda: content,
        lambda: np.array(content),
        lambda: pd.DataFrame({"image": content}),
    ):
        try:
            batch = form()
        except Exception:  # then a server does not get as far as the model
            continue
        try:
            assert all(answer["label"] in CLASSES for answer in served.predict(None, batch))
        except MlflowException as error:
            assert error.get_http_status_code() == 400
