"""A pretraining by processes of torchrun: the network of one process; a death ends all of them."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.data.split import split_source
from tasks.runtime.artifacts import Divided
from tasks.training import torchrun
from tasks.training.cancellation import Stop, Stopped
from tasks.training.pretrain import pretrain
from tasks.training.pretrain_job import Pretraining
from tests.tasks import small
from transfer.arms.pretrain import load_card
from transfer.core.errors import CrosstrainError, SettingsError
from transfer.models import checkpoint

ENDLESS = 100_000


@pytest.fixture
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def prepared(**changes):
    """A run with a small source, split."""
    settings = small.settings(**changes)
    big = small.scanned("big", 90, 2)
    into = small.target(settings)
    part = Divided(big, split_source.fn(big, into, settings.source, 2))
    return small.context(into, settings, {"big": part})


def pretrained(context, stop=None):
    return pretrain.fn("big", context, 0, stop or Stop.of_run())


def ranks():
    """Processes of the trainings that this one started."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "tasks.training.pretrain_worker" in process.cmdline()
        and "torch.distributed.run" not in process.cmdline()
    ]


def when_kept(action):
    """Do something once, when a checkpoint is there."""

    def watch():
        while not [p for p in Path("build/partial").glob("pretrain/*") if p.suffix != ".tmp"]:
            time.sleep(0.05)
        action()

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.slow
def test_two_processes_give_the_source_of_one_within_rounding(_here, tmp_path, monkeypatch):
    """Weights within 1e-4 of the largest of their tensor, after 60 steps."""
    context = prepared(run={"pretrain_processes": 2})
    two = pretrained(context).knowledge
    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    context = prepared()
    single = pretrained(context).knowledge
    assert two.path.name == single.path.name  # `run` is in no key
    cards = [
        load_card(tmp_path / place / ref.path) for place, ref in (("", two), ("alone", single))
    ]
    assert cards[0].validation_accuracy == cards[1].validation_accuracy
    np.testing.assert_allclose(cards[0].history["loss"], cards[1].history["loss"], rtol=1e-4)
    alone = checkpoint.load_state(tmp_path / "alone" / single.path)
    for name, tensor in checkpoint.load_state(tmp_path / two.path).items():
        apart = (tensor.double() - alone[name].double()).abs().max()
        assert float(apart) <= 1e-4 * float(alone[name].double().abs().max()), name


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_next_run_goes_on(_here):
    endless = {"training": {"steps": ENDLESS, "batch_size": 16}, "look_every": ENDLESS}
    run = {"pretrain_processes": 2, "checkpoint_seconds": 0.2}
    context = prepared(pretrain=endless, run=run)
    when_kept(lambda: os.kill(ranks()[1].pid, signal.SIGKILL))
    with pytest.raises(CrosstrainError, match=r"^pretrain big: a process .*run again"):
        pretrained(context)
    assert ranks() == [] and not list(Path("build/pretrain").glob("*/stored.json"))
    (kept,) = [p for p in Path("build/partial/pretrain").iterdir() if p.suffix != ".tmp"]
    before = checkpoint.Keeper(kept).load()["step"]
    stop = Stop.of_run()
    threading.Timer(15, stop.set).start()
    with pytest.raises(Stopped):
        pretrained(context, stop)
    assert ranks() == [] and checkpoint.Keeper(kept).load()["step"] > before > 0


def test_what_several_processes_cannot_do_is_a_settings_error(tmp_path):
    work = Pretraining(
        name="big",
        parts=(),
        backbone_spec=small.settings().backbone.backbone_spec,
        settings=small.settings().pretrain,
        device="cuda",
        precision="fp32",
        out=tmp_path,
        checkpoint=tmp_path / "kept",
        checkpoint_seconds=1,
        stop=tmp_path / "stop",
    )
    with pytest.raises(SettingsError, match="on CPUs only"):
        torchrun.run(work, 2, 1, lambda done, steps: None)
    with pytest.raises(SettingsError, match="one item per process"):
        torchrun.run(work.model_copy(update={"device": "cpu"}), 17, 1, lambda done, steps: None)
