"""What is chosen where nothing was asked for, and what is refused."""

import os

import pytest
import torch

from tasks.training import machine
from transfer.core.errors import SettingsError
from transfer.settings.project import RunSettings
from transfer.training.precision import fastest
from transfer.training.recipe import Machine


def test_the_cpu_is_always_there():
    assert machine.resolve(RunSettings(device="cpu")) == Machine("cpu", fastest())
    assert machine.resolve(RunSettings(device="cpu", precision="bf16")) == Machine("cpu", "bf16")


def test_auto_takes_what_there_is():
    resolved = machine.resolve(RunSettings())
    if torch.cuda.is_available():
        sound = torch.cuda.is_bf16_supported()
        assert resolved == Machine("cuda", "bf16" if sound else "fp32")
    elif torch.backends.mps.is_available():
        assert resolved == Machine("mps", "fp32")
    else:
        assert resolved == Machine("cpu", fastest())


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        assert machine.resolve(RunSettings(device=device)).device == device
        return
    with pytest.raises(SettingsError, match=f"run.device is '{device}'.*use run.device=auto"):
        machine.resolve(RunSettings(device=device))


def test_arms_at_once_are_one_a_core_on_a_cpu_and_one_on_a_gpu():
    assert machine.workers(RunSettings(), Machine("cpu")) == os.cpu_count()
    assert machine.workers(RunSettings(), Machine("cuda")) == 1
    assert machine.workers(RunSettings(workers=3), Machine("cuda")) == 3


def test_arms_and_pretraining_share_the_cores():
    before = torch.get_num_threads()
    try:
        machine.share_cores(1)
        assert torch.get_num_threads() == os.cpu_count()
        machine.share_cores(10_000)
        assert torch.get_num_threads() == 1
        machine.leave_cores(0)
        assert torch.get_num_threads() == os.cpu_count()
        machine.leave_cores(10_000)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
