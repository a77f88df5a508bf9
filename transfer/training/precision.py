"""The precision in which a processor trains fastest, measured and not read from its flags.

A processor may compute bf16 at twice the speed of fp32, emulate it slower, or announce units that
end the process with an illegal instruction (a virtual machine that hides the sizes of AMX tiles).
So a short training is timed in a separate process, once per machine and version of torch.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from platformdirs import user_cache_path

from transfer.core.atomic_files import write_atomic

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["fp32", "bf16"]
WORTH = 1.2
"""How many times as fast as fp32 bf16 must be. A smaller ratio is within the noise of a busy
machine, so that results would change with the load."""
_CLOSE = 0.05  # largest difference of bf16 losses from those of fp32, share
_REPEATS, _STEPS = 5, 2
_TIMEOUT = 120.0  # seconds


def fastest(folder: Path | None = None) -> Precision:
    """The precision to train in on this machine's processor.

    The first call measures, which takes about 5 seconds; later calls read the result from
    ``folder``, by default the user's cache. Where it cannot be stored, every call measures.
    """
    cached = (folder or user_cache_path("crosstrain")) / f"precision-{_machine()}.json"
    try:
        return choose({name: float(v) for name, v in json.loads(cached.read_text()).items()})
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        measured = measure()
    if measured:  # else not even fp32 finished: the machine is busy, measure again next time
        with suppress(OSError):  # without a writable home, only the measurement is lost
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(cached, json.dumps(measured).encode())
    return choose(measured)


def choose(measured: dict[str, float]) -> Precision:
    """Decide by the result of `measure`: bf16 where it is accurate and enough faster."""
    if "bf16" not in measured or not measured["off"] <= _CLOSE:
        return "fp32"
    return "bf16" if measured["fp32"] >= WORTH * measured["bf16"] else "fp32"


def measure() -> dict[str, float]:
    """Time a short training in both precisions, in a separate process.

    Returns:
        ``fp32`` and ``bf16``: processor seconds per step; ``off``: difference of the losses, a
        share. ``bf16`` and ``off`` are missing where bf16 ended the process; the result is empty
        where the process ended before fp32 was measured.
    """
    command = [sys.executable, "-m", "transfer.training.precision"]
    root = str(Path(__file__).resolve().parents[2])
    try:
        process = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
        lines = process.stdout.splitlines()
    except subprocess.TimeoutExpired:
        lines = []
    measured: dict[str, float] = {}
    for line in lines:
        measured |= json.loads(line)
    return measured


def _machine() -> str:
    """Digest of what the speed depends on: processor, versions and the limits of oneDNN."""
    properties = [platform.machine(), version("torch"), os.environ.get("ONEDNN_MAX_CPU_ISA", "")]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        properties += sorted({line for line in lines if line.startswith(("model name", "flags"))})
    except OSError:
        properties.append(platform.processor())
    return hashlib.sha256("\n".join(properties).encode()).hexdigest()[:16]


class _Trial:
    """A small network on noise, trained step by step in one precision."""

    def __init__(self, precision: Precision) -> None:
        import torch

        torch.manual_seed(0)
        self.precision, self.losses = precision, list[float]()
        self.inputs = torch.randn(64, 16, 14, 14).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 10, (64,))
        self.network = _network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.01)

    def seconds(self) -> float:
        """Processor time of a step, over a few."""
        import torch

        start = time.process_time()
        for _ in range(_STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
                scores = self.network(self.inputs)
            loss = torch.nn.functional.cross_entropy(scores.float(), self.labels)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.losses.append(float(loss.detach()))
        return (time.process_time() - start) / _STEPS


def _network() -> "nn.Module":
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in ((16, 32), (32, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 10))


def main() -> None:
    """Time both precisions alternately, and print each result as soon as it is measured.

    The warm-up of bf16 comes after the result of fp32 is printed, because it may end this process.
    """
    import torch

    torch.set_num_threads(1)
    wide, short = _Trial("fp32"), _Trial("bf16")
    wide.seconds()
    print(json.dumps({"fp32": wide.seconds()}), flush=True)
    short.seconds()
    short.seconds()
    times = [(wide.seconds(), short.seconds()) for _ in range(_REPEATS)]
    fp32, bf16 = (min(seconds) for seconds in zip(*times, strict=True))
    off = abs(short.losses[-1] - wide.losses[-1]) / max(wide.losses[-1], 1e-6)
    print(json.dumps({"fp32": fp32, "bf16": bf16, "off": off}), flush=True)


if __name__ == "__main__":
    main()
