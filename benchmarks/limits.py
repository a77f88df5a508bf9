"""What this machine can do at most: convolutions, matrix products, copies of memory.

    python -m benchmarks.limits fp32|bf16

Prints JSON: 10^9 operations a processor second of a 3x3 convolution (forward, batch 128, 28 x 28,
channels last, the best of 16 to 128 channels) and of a matrix product (the best of 512 to 2048),
and GB/s of a copy. Each precision is asked for in a process of its own, by `ask`: one may end it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 5


def best(work: Callable[[], object], amount: float, times: int) -> float:
    """10^9 of ``amount`` a processor second, in the best of a few rounds."""
    work()
    fastest = 0.0
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(times):
            work()
        fastest = max(fastest, amount * times / (time.process_time() - start) / 1e9)
    return fastest


def convolution(dtype: torch.dtype) -> float:
    """The best rate of a 3x3 convolution."""
    rates = []
    for channels in (16, 32, 64, 128):
        pixels = torch.randn(128, channels, 28, 28, dtype=dtype)
        images = pixels.contiguous(memory_format=torch.channels_last)
        kernel = torch.randn(channels, channels, 3, 3, dtype=dtype)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        amount = 2.0 * images.numel() * channels * 9
        rates.append(best(lambda i=images, k=kernel: functional.conv2d(i, k, padding=1), amount, 4))
    return max(rates)


def product(dtype: torch.dtype) -> float:
    """The best rate of a matrix product."""
    rates = []
    for side in (512, 1024, 2048):
        left, right = torch.randn(2, side, side).to(dtype)
        rates.append(best(lambda a=left, b=right: a @ b, 2.0 * side**3, 4))
    return max(rates)


def copy() -> float:
    """GB/s read and written by a copy of 256 MB."""
    there = torch.ones(64_000_000)
    here = torch.empty_like(there)
    return best(lambda: here.copy_(there), 8.0 * there.numel(), 2)


def ask(precision: str) -> dict[str, float]:
    """What a process of its own finds; less where it was ended by an illegal instruction."""
    command = [sys.executable, "-m", "benchmarks.limits", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rates: dict[str, float] = {}
    for line in done.stdout.splitlines():
        rates |= json.loads(line)
    return rates


def main() -> None:
    """Measure one precision on one thread."""
    torch.set_num_threads(1)
    dtype = PRECISIONS[sys.argv[1]]
    with torch.inference_mode():
        print(json.dumps({"convolution": convolution(dtype)}), flush=True)
        print(json.dumps({"copy": copy()}), flush=True)
        print(json.dumps({"product": product(dtype)}), flush=True)


if __name__ == "__main__":
    main()
