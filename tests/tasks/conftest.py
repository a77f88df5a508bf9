"""A project folder with an empty MLflow store, made once and copied, and a small real model."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.tracking import connection, models, runs

CLASSES = ("acer", "été sauvage", "c#")
SIDE = 16


@pytest.fixture(scope="session")
def blank_project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blank")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connection.experiment_id(connection.client())
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, blank_project):
    """The working folder of a new project, with a store."""
    folder = tmp_path / "project"
    shutil.copytree(blank_project, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """Write a model folder of two members with random weights, which differ by seed."""

    def make(seed: int) -> Path:
        from transfer.modalities.backbone import BackboneSpec
        from transfer.modalities.image.spec import ImageLimits, ImageSpec
        from transfer.modalities.normalisation import Normalisation
        from transfer.models.checkpoint import save_model
        from transfer.models.network import build
        from transfer.models.predictor import Card, Member, tensor_name

        backbone_spec = BackboneSpec(name="resnet", options={"width": 4, "pool": True})
        spec = ImageSpec(size=SIDE, channels=3)
        state = {
            tensor_name(member, 0, key): tensor
            for member in (0, 1)
            for key, tensor in build(
                backbone_spec, spec=ImageSpec(size=SIDE, channels=3), classes=3, seed=seed + member
            )
            .state_dict()
            .items()
        }
        card = Card(
            target="plants",
            class_names=CLASSES,
            spec=spec,
            limits=ImageLimits(),
            members=tuple(
                Member(
                    arm=f"scratch/{m}",
                    weight=w,
                    temperature=1.5,
                    networks=1,
                    backbone_spec=backbone_spec,
                    normal=Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)),
                )
                for m, w in ((0, 0.25), (1, 0.75))
            ),
            data={"plants": "a" * 32},
            settings_digest="b" * 64,
        )
        folder = tmp_path_factory.mktemp("model") / f"seed{seed}"
        folder.mkdir()
        save_model(folder, card, state)
        return folder

    return make


@pytest.fixture(scope="session")
def model(make_model):
    return make_model(1)


@pytest.fixture
def images(tmp_path):
    """Five image files, and the same pixels as an array (N, H, W, C)."""
    from PIL import Image

    pixels = np.random.default_rng(7).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    files = [tmp_path / f"blüte {i}.png" for i in range(5)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    return files, pixels


@pytest.fixture(scope="session")
def three_registered(blank_project, make_model, tmp_path_factory):
    """A project with one run and three registered versions of ``plants``; none is champion."""
    folder = tmp_path_factory.mktemp("versions") / "project"
    shutil.copytree(blank_project, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run = runs.log_run(runs.RunRecord("key", "run", {}, {}, {}, [], [], {}))
        for seed in (1, 2, 3):
            tags = {"figure.accuracy": f"0.{seed}", "data.plants": f"{seed}" * 32}
            models.register("plants", make_model(seed), f"model {seed}", run, tags)
    return folder


@pytest.fixture
def three_versions(tmp_path, monkeypatch, three_registered):
    """The working folder: a copy of `three_registered`."""
    folder = tmp_path / "project"
    shutil.copytree(three_registered, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture(scope="session")
def at_once(blank_project):
    """Run jobs in separate processes at the same time; see `mortal`. Returns their exit codes."""
    script = Path(__file__).with_name("mortal.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(blank_project)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
    ) as process:

        def run(*jobs):
            process.stdin.write(json.dumps(jobs) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


@pytest.fixture
def deaths(at_once, tmp_path):
    """Run an action in copies of a project, killed before its 1st, 2nd... step, until it finishes.

    Yields each copy in which the action was killed.
    """

    def run(project, action, *arguments):
        for step in range(40):
            copy = shutil.copytree(project, tmp_path / f"death{step}")
            job = {"folder": str(copy), "action": action, "arguments": arguments}
            code = at_once({**job, "die_at": step})
            if code == [0]:
                assert step > 5
                return
            assert code == [-signal.SIGKILL]
            yield copy

    return run
