"""Small networks: one after another, two at once, or stacked into one by `torch.func.vmap`.

    python -m benchmarks.arms [--rounds 5]

An arm of the demo: a residual network of width 12, 32 images of 28 x 28 a step. All take turns,
in one process. "Stacked" computes the loss and gradients of all networks in one call, without an
optimiser, and so has less to do than the others. Writes arms.json and arms.md.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from benchmarks.loops.common import SPEC
from benchmarks.measure import in_turns, machine, middle, write
from transfer.models.network import BackboneSpec, Network, build

BODY = BackboneSpec(name="resnet", options={"width": 12, "pool": True})
BATCH, STEPS = 32, 10


def _network(seed: int) -> Network:
    network = build(BODY, spec=SPEC, classes=10, seed=seed)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _batch() -> tuple[Tensor, Tensor]:
    images = torch.randn(BATCH, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(0, 10, (BATCH,))


def _trainer(seed: int) -> Callable[[], None]:
    network, (images, labels) = _network(seed), _batch()
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)

    def work() -> None:
        torch.set_num_threads(1)
        for _ in range(STEPS):
            loss = functional.cross_entropy(network(images), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    return work


def _stacked(count: int) -> Callable[[], None]:
    networks = [_network(seed) for seed in range(count)]
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # vmap cannot update statistics in place
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
            if isinstance(module, nn.ReLU):
                module.inplace = False
    state, buffers = stack_module_state(networks)  # type: ignore[arg-type]
    images, labels = _batch()

    def loss(parameters: dict[str, Tensor], held: dict[str, Tensor]) -> Tensor:
        scores = functional_call(networks[0], (parameters, held), (images,))
        return functional.cross_entropy(scores, labels)

    step = vmap(grad(loss))

    def work() -> None:
        for _ in range(STEPS):
            step(state, buffers)

    return work


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    arms = [_trainer(seed) for seed in range(4)]

    def at_once(workers: int) -> Callable[[], None]:
        def work() -> None:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda arm: arm(), arms))

        return work

    hardware = machine()
    work = {
        "4 networks, one after another": at_once(1),
        "4 networks, two at once, a thread each": at_once(2),
        "4 networks, stacked": _stacked(4),
    }
    taken = in_turns(work, rounds)
    figures: dict[str, Any] = {name: middle(times) for name, times in taken.items()}
    first = figures["4 networks, one after another"]
    images_seen = 4 * STEPS * BATCH
    lines = [
        f"{hardware['processor']}, {hardware['cores']} cores, load {hardware['load']} before; "
        f"medians of {rounds} rounds in turns.",
        "",
        "| | pictures a second | pictures a CPU-second | times as fast |",
        "|---|---|---|---|",
        *(
            f"| {name} | {images_seen / took.wall:.0f} | {images_seen / took.cpu:.0f} | "
            f"{first.wall / took.wall:.2f} |"
            for name, took in figures.items()
        ),
    ]
    write("arms", {"machine": hardware, "rounds": rounds, "taken": taken}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
