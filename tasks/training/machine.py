"""What this machine offers: device, precision, number of arms at once."""

import os

import torch

from transfer.core.errors import SettingsError
from transfer.settings.project import RunSettings
from transfer.training.precision import Precision, fastest
from transfer.training.recipe import Machine

MANY = 64
"""Arms at once that leave each of them one core."""


def resolve(settings: RunSettings) -> Machine:
    """Decide device and precision; the first time on a machine, its processor is measured.

    Raises:
        SettingsError: the machine lacks the device that was asked for.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    device: str = settings.device
    if device == "auto":
        device = next(name for name, is_available in available.items() if is_available)
    if not available[device]:
        raise SettingsError(
            f"run.device is {device!r} and this machine has none; use run.device=auto"
        )
    precision = settings.precision
    return Machine(device, _fastest(device) if precision == "auto" else precision)


def _fastest(device: str) -> Precision:
    """On a processor by measurement; on CUDA bf16 where the device has it."""
    if device == "cpu":
        return fastest()
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def cores() -> int:
    """Processor cores of this machine."""
    return os.cpu_count() or 1


def workers(settings: RunSettings, machine: Machine) -> int:
    """Arms to train at once: one per core on a CPU, where a small network cannot use more; one
    on a GPU. The machines of a cluster are unknown: the cluster decides, and an arm there takes
    one core."""
    if settings.workers:
        return settings.workers
    if settings.cluster:
        return MANY
    return cores() if machine.device == "cpu" else 1


def share_cores(workers_at_once: int) -> None:
    """Limit this thread's numeric threads, so that concurrent arms do not fight for cores."""
    torch.set_num_threads(max(1, cores() // workers_at_once))


def leave_cores(arms: int) -> None:
    """Limit this thread's numeric threads to the cores that arms of one core each leave free."""
    torch.set_num_threads(max(1, cores() - arms))


def threads_each(arms: int, processes: int) -> int:
    """Numeric threads of each of the processes that share the cores that those arms leave free."""
    return max(1, (cores() - arms) // processes)
