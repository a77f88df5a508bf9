"""A pretraining by several processes of this machine; torchrun starts and watches them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

from tasks.training.cancellation import Stopped, TimeUpError
from tasks.training.pretrain_job import Pretraining
from transfer.core.errors import CrosstrainError, SettingsError


def run(
    work: Pretraining, processes: int, threads: int, on_step: Callable[[int, int], None]
) -> None:
    """Pretrain with ``processes`` processes of ``threads`` numeric threads each.

    Raises:
        SettingsError: the device is not a CPU, or a batch has fewer items than there are processes.
        Stopped: the training received the signal to stop.
        TimeUpError: its time was up.
        CrosstrainError: it diverged, or a process of it ended.
    """
    _check(work, processes)
    with TemporaryDirectory() as folder, TemporaryFile() as errors:
        description = Path(folder) / "pretraining.json"
        description.write_text(work.model_dump_json())
        with subprocess.Popen(
            _command(processes, description),
            env=_environment(threads),
            stdin=subprocess.PIPE,  # open as long as this process lives
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches only this process, which then stops them
            text=True,
        ) as child:
            last = _follow(child, on_step)
        _judge(child.returncode, last, errors)


def _check(work: Pretraining, processes: int) -> None:
    if work.device != "cpu":
        raise SettingsError(
            f"run.pretrain_processes is {processes} and run.device is {work.device!r}; several "
            "processes train on CPUs only: set run.pretrain_processes=1"
        )
    if work.settings.training.batch_size < processes:
        raise SettingsError(
            f"run.pretrain_processes is {processes} and pretrain.training.batch_size "
            f"{work.settings.training.batch_size}; expected at least one item per process"
        )


def _command(processes: int, description: Path) -> list[str]:
    torchrun = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
    each = ["--nproc-per-node", str(processes), "--local-addr", "127.0.0.1"]
    return [*torchrun, *each, "-m", "tasks.training.pretrain_worker", str(description)]


def _environment(threads: int) -> dict[str, str]:
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    own = {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": loopback}
    return {**os.environ, **own}


def _follow(child: "subprocess.Popen[str]", on_step: Callable[[int, int], None]) -> dict[str, Any]:
    """Report progress; returns the first reason to end that a process reported."""
    assert child.stdout is not None
    reason: dict[str, Any] = {}
    for line in child.stdout:
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if "done" in message:
            on_step(message["done"], message["steps"])
        else:
            reason = reason or message
    return reason


def _judge(code: int, reason: dict[str, Any], errors: IO[bytes]) -> None:
    if reason.get("stopped"):
        raise Stopped
    if reason.get("late"):
        raise TimeUpError
    if "error" in reason:
        raise CrosstrainError(reason["error"])
    if code:
        errors.seek(0)
        lines = errors.read().decode(errors="replace").splitlines()
        why = next((line.strip() for line in lines if "Error" in line or "exitcode" in line), "")
        raise CrosstrainError(
            f"a process of run.pretrain_processes ended ({why or f'exit code {code}'}); run again "
            "to continue from the last checkpoint"
        )
