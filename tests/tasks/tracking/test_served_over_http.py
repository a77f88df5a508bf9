"""A real `mlflow models serve`, started once for all tests; wrong input gets a 4xx."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tasks.registry import versions
from tests.tasks.conftest import CLASSES, SIDE
from tests.tasks.tracking.test_models import ABSENT, BARE
from transfer.models import predictor

PIXELS = np.random.default_rng(7).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
SECRET = "abcd"
"""A text that is base64, and the name of an image file in the server's folder."""


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def bomb():
    """A small PNG file whose header announces 3600 million pixels."""
    header = struct.pack(">II", 60_000, 60_000) + png(PIXELS[0])[24:29]
    check = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return png(PIXELS[0])[:16] + header + check + png(PIXELS[0])[33:]


FILES = [b64(png(pixels)) for pixels in PIXELS]


@pytest.fixture(scope="module")
def url(three_registered, tmp_path_factory):
    """The champion, version 2, behind a server that has only what the version carries.

    Its working folder contains a broken ``transfer`` and an image file.
    """
    folder = tmp_path_factory.mktemp("serving")
    project = Path(shutil.copytree(three_registered, folder / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        versions.promote("plants", 2, reasons=["first"], blessing={})
    (project / "transfer").mkdir()
    (project / "transfer/__init__.py").write_text("raise RuntimeError('another transfer')")
    (project / SECRET).write_bytes(png(PIXELS[0]))
    (folder / "sitecustomize.py").write_text(BARE.format(absent=ABSENT))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    mlflow = Path(sys.executable).with_name("mlflow")
    words = ["models", "serve", "-m", "models:/plants@champion", "-p", port]
    process = subprocess.Popen(
        [mlflow, *words, "--env-manager", "local"],
        cwd=project,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db",
            "PATH": f"{mlflow.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",
        },
        stdout=(log := (folder / "log.txt").open("w")),
        stderr=log,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait(address, process, folder / "log.txt")
        yield f"{address}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        log.close()


def wait(address, process, log):
    end = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{address}/ping").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(log.read_text())


def post(url, content, kind="application/json"):
    body = content if isinstance(content, str | bytes) else json.dumps(content)
    return httpx.post(url, content=body, headers={"Content-Type": kind}, timeout=120)


@pytest.fixture(scope="module")
def expected(make_model):
    return predictor.load(make_model(2)).predict_arrays(PIXELS)


FRAME = {"columns": ["image"], "data": [[file] for file in FILES]}
QUESTIONS = {
    "base64": {"inputs": FILES},
    "instances": {"instances": [{"image": file} for file in FILES]},
    "named": {"inputs": {"image": FILES}},
    "frame": {"dataframe_split": FRAME},
    "records": {"dataframe_records": [{"image": file} for file in FILES]},
    "data URIs": {"inputs": [f"data:image/png;base64,{file}" for file in FILES]},
    "arrays": {"inputs": PIXELS.tolist()},
    "column of arrays": {
        "dataframe_split": {"columns": ["image"], "data": [[pixels] for pixels in PIXELS.tolist()]}
    },
}


@pytest.mark.parametrize("form", QUESTIONS)
def test_every_form_gets_classes_probabilities_and_the_version(url, expected, form):
    done = post(url, QUESTIONS[form])
    assert done.status_code == 200, done.text
    answers = done.json()["predictions"]
    shares = [[answer["probabilities"][name] for name in CLASSES] for answer in answers]
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    for answer, row in zip(answers, expected, strict=True):
        assert answer["label"] == CLASSES[row.argmax()]
        assert answer["probability"] == max(answer["probabilities"].values())
        assert (answer["model"], answer["version"]) == ("plants", 2)


def test_a_table_is_answered(url, expected):
    done = post(url, "image\n" + "\n".join(FILES), "text/csv")
    assert [a["label"] for a in done.json()["predictions"]] == [
        CLASSES[row.argmax()] for row in expected
    ]


def test_a_single_image_of_many_bytes_is_answered(url):
    noise = np.random.default_rng(1).integers(0, 256, (1500, 1500, 3), np.uint8)
    content = b64(png(noise))
    assert len(content) > 9_000_000
    done = post(url, {"dataframe_split": {"columns": ["image"], "data": [[content]]}})
    assert done.status_code == 200, done.text[:500]
    assert len(done.json()["predictions"]) == 1


def test_requests_at_once_get_their_own_answers(url, expected):
    def ask(row):
        return post(url, {"inputs": [FILES[row % 5]]}).json()["predictions"][0]["probabilities"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    shares = [list(answer.values()) for answer in answers]
    np.testing.assert_allclose(shares, expected[np.arange(40) % 5], atol=1e-6)


WRONG = {
    "no base64": ({"inputs": ["!!"]}, "item 0, '!!', is not base64"),
    "base64 cut short": ({"inputs": [FILES[0][:-1]]}, "is not base64"),
    "not an image": ({"inputs": [b64(b"text")]}, "item 0: wrong_type"),
    "the second not an image": ({"inputs": [FILES[0], b64(b"text")]}, "item 1: wrong_type"),
    "a truncated image": ({"inputs": [b64(png(PIXELS[0])[:400])]}, "item 0: truncated"),
    "an empty text": ({"inputs": [""]}, "item 0: empty"),
    "a bomb": ({"inputs": [b64(bomb())]}, "item 0: too_many_pixels"),
    "NaN": ('{"inputs": [[[NaN, 1.0], [2.0, 3.0]]]}', "expected whole numbers of 0 to 255"),
    "floats": ({"inputs": [[[0.5, 0.25]]]}, "expected whole numbers of 0 to 255"),
    "too bright": ({"inputs": [[[256]]]}, "expected whole numbers of 0 to 255"),
    "two channels": ({"inputs": np.zeros((1, 9, 9, 2), int).tolist()}, "wrong_type"),
    "a single number": ({"inputs": 7}, "found int"),
    "nothing": ({"inputs": None}, "found NoneType"),
    "no image": ({"inputs": []}, "found no images"),
    "an empty frame": ({"dataframe_split": {"columns": ["image"], "data": []}}, "found no images"),
    "a wrong column": ({"instances": [{"file": FILES[0]}]}, "expected one named 'image'"),
    "a wrong key": ({"pictures": FILES}, "dataframe_split"),
    "a chat": ({"messages": []}, "expected one named 'image'"),
    "rows of several lengths": ({"inputs": [[1, 2], [3]]}, "inhomogeneous"),
    "a list": ("[1]", "Received a list"),
    "no JSON": ("{'inputs': 1}", "valid JSON"),
    "no body": ("", "valid JSON"),
    "bytes": (b"\xff\xfe", "valid JSON"),
    "a server's file": ({"inputs": ["/etc/passwd"]}, "item 0, '/etc/passwd', is not base64"),
    "a server's image": ({"inputs": [SECRET]}, "item 0: wrong_type"),
    "a server's image, in a frame": (
        {"dataframe_records": [{"image": SECRET}]},
        "item 0: wrong_type",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_a_client_error_with_a_message(url, name):
    body, message = WRONG[name]
    done = post(url, body)
    assert done.status_code == 400, done.text
    answer = done.json()
    assert message in answer["message"]
    assert "stack_trace" not in answer
    assert "Traceback" not in done.text
    assert len(done.text) < 1500


def test_a_refusal_does_not_repeat_the_input(url):
    files = [b64(bytes(100_000))] * 3
    assert len(post(url, {"inputs": files}).text) < 500


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "application/x-www-form-urlencoded"])
def test_another_content_type_is_refused(url, kind):
    assert post(url, png(PIXELS[0]), kind).status_code == 415
