"""Which precision a processor trains fastest in, measured and not read from its flags.

A processor may do bf16 at twice the speed of fp32, emulate it slower, or announce units that end
the process with an illegal instruction (a virtual machine that hides the sizes of AMX tiles). So
a short training is timed in a process of its own, once for a machine and version of torch.
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
"""How many times as fast as fp32 bf16 must be: less is within the noise of a busy machine, and
would let results change with it."""
_CLOSE = 0.05  # largest difference of bf16 losses from those of fp32, share
_ROUNDS, _STEPS = 5, 2
_PATIENCE = 120.0  # seconds


def fastest(folder: Path | None = None) -> Precision:
    """The precision to train in on this machine's processor.

    The first call measures, some 5 seconds; later ones read what is kept in ``folder``, by default
    the user's cache. Where nothing can be kept it is measured again.
    """
    kept = (folder or user_cache_path("crosstrain")) / f"precision-{_machine()}.json"
    try:
        return choose({name: float(v) for name, v in json.loads(kept.read_text()).items()})
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        told = measure()
    if told:  # else not even fp32 came to an end: the machine is busy, ask again next time
        with suppress(OSError):  # a home that cannot be written to costs the measurement alone
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, json.dumps(told).encode())
    return choose(told)


def choose(told: dict[str, float]) -> Precision:
    """Decide by what `measure` found: bf16 where it is sound and worth it."""
    if "bf16" not in told or not told["off"] <= _CLOSE:
        return "fp32"
    return "bf16" if told["fp32"] >= WORTH * told["bf16"] else "fp32"


def measure() -> dict[str, float]:
    """Time a short training in both precisions, in a process of its own.

    Returns:
        ``fp32`` and ``bf16``: processor seconds of a step; ``off``: difference of the losses, a
        share. The latter two are missing where bf16 ended the process; nothing is there where
        the process did not get that far.
    """
    command = [sys.executable, "-m", "transfer.training.precision"]
    root = str(Path(__file__).resolve().parents[2])
    try:
        told = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        lines = told.stdout.splitlines()
    except subprocess.TimeoutExpired:
        lines = []
    found: dict[str, float] = {}
    for line in lines:
        found |= json.loads(line)
    return found


def _machine() -> str:
    """Digest of what decides: processor, versions and what limits oneDNN."""
    told = [platform.machine(), version("torch"), os.environ.get("ONEDNN_MAX_CPU_ISA", "")]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += sorted({line for line in lines if line.startswith(("model name", "flags"))})
    except OSError:
        told.append(platform.processor())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


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
    """Time both precisions in turns, and print as soon as something is known.

    A warm-up of bf16 comes after fp32 was told: it may end this process.
    """
    import torch

    torch.set_num_threads(1)
    wide, short = _Trial("fp32"), _Trial("bf16")
    wide.seconds()
    print(json.dumps({"fp32": wide.seconds()}), flush=True)
    short.seconds()
    short.seconds()
    rounds = [(wide.seconds(), short.seconds()) for _ in range(_ROUNDS)]
    fp32, bf16 = (min(times) for times in zip(*rounds, strict=True))
    off = abs(short.losses[-1] - wide.losses[-1]) / max(wide.losses[-1], 1e-6)
    print(json.dumps({"fp32": fp32, "bf16": bf16, "off": off}), flush=True)


if __name__ == "__main__":
    main()
