"""Frozen-feature arms: features computed once, beside features computed in every epoch.

    python -m benchmarks.frozen [--epochs 30] [--rounds 3]

Frozen backbones and a linear head, on MNIST digits: the demo's small residual network, and
EfficientNet-Lite0 as an ImageNet package brings it, with new weights. "Recomputed" is the usual
loop: every batch goes through the frozen backbone, without gradients, before the head's step.
"Kept" is crosstrain's linear probe with one view and with eight augmented ones, the features
computed within the time. All take turns. Writes frozen.json and frozen.md.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks.loops.common import CLASSES, SPEC, digits, items
from benchmarks.measure import Took, in_turns, machine, middle, write
from transfer.data.items import TrainItems, normalisation
from transfer.methods.frozen_features.linear_probe import LinearProbe
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.network import BackboneSpec, Network, build
from transfer.models.parameter_transfer import Knowledge
from transfer.training.batches import batches, embed, to_input
from transfer.training.loop import fit
from transfer.training.recipe import Recipe, TrainingSettings

BATCH = 64


@dataclass(frozen=True)
class Setup:
    """A frozen backbone, and its training images."""

    backbone_spec: BackboneSpec
    train_items: TrainItems
    recipe: Recipe

    def network(self) -> Network:
        """The backbone with a new head."""
        return build(self.backbone_spec, spec=SPEC, classes=len(CLASSES), seed=0)


BODIES = {
    "residual network, width 16, 28 px": (2000, "resnet", {"width": 16, "pool": True}),
    "EfficientNet-Lite0, 64 px": (320, "efficientnet_lite0", {"size": 64}),
}
"""By the name in the table: how many images, and the backbone."""


def setup(pictures: int, name: str, options: dict[str, object], epochs: int) -> Setup:
    """A backbone with so many digits, and as many steps as the epochs have."""
    images, labels = digits()
    train_items = items(images[:pictures], labels[:pictures])
    training = TrainingSettings(steps=epochs * (pictures // BATCH), batch_size=BATCH)
    recipe = Recipe(
        training, AugmentPolicy(), normalisation(train_items, SPEC), len(CLASSES), spec=SPEC
    )
    return Setup(BackboneSpec(name=name, options=options), train_items, recipe)


def recomputed(setup: Setup) -> None:
    """Every batch through the backbone, then one step of the head."""
    network = setup.network().to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.head.parameters(), lr=0.01, fused=True)
    for rows in batches(len(setup.train_items), BATCH, 0, 0, setup.recipe.training.steps):
        with torch.no_grad():
            features = network.backbone(to_input(setup.train_items.records[rows], setup.recipe))
        loss = functional.cross_entropy(network.head(features), setup.train_items.labels[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def kept(setup: Setup, views: int) -> None:
    """Features once, then crosstrain's loop over them."""
    method, own = LinearProbe(views=views), setup.network()
    source = Knowledge(
        "source", CLASSES, own.state_dict(), setup.backbone_spec, setup.recipe.normal
    )
    prepared = method.prepare(setup.network(), source, CLASSES)
    network = prepared.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = views == 1
    features = embed(network, setup.train_items.records, 0 if plain else views, setup.recipe, 0)
    fit(method, prepared, setup.train_items, setup.recipe, seed=0, features=features)


def table(taken: Mapping[str, Mapping[str, Sequence[Took]]]) -> list[str]:
    """Medians of CPU-seconds by backbone, and how many times as fast as recomputing."""
    lines = ["| backbone | features | CPU-seconds | times as fast |", "|---|---|---|---|"]
    for backbone_spec, times in taken.items():
        figures = {name: middle(took) for name, took in times.items()}
        first = next(iter(figures.values()))
        lines += [
            f"| {backbone_spec} | {name} | {took.cpu:.2f} | {first.cpu / took.cpu:.1f} |"
            for name, took in figures.items()
        ]
    return lines


def measured(setup: Setup, rounds: int) -> dict[str, list[Took]]:
    """What each way takes, in turns."""
    work = {
        "recomputed in every epoch": lambda: recomputed(setup),
        "kept, one view": lambda: kept(setup, 1),
        "kept, eight augmented views": lambda: kept(setup, 8),
    }
    return in_turns(work, rounds)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hardware = machine()
    taken = {
        name: measured(setup(*backbone_spec, arguments.epochs), arguments.rounds)
        for name, backbone_spec in BODIES.items()
    }
    lines = [
        f"{hardware['processor']}, load {hardware['load']} before, one thread. "
        f"{arguments.epochs} epochs of "
        + " and ".join(f"{n:,} pictures" for n, *_ in BODIES.values())
        + f"; medians of {arguments.rounds} rounds in turns.",
        "",
        *table(taken),
    ]
    write(
        "frozen", {"machine": hardware, **vars(arguments), "taken": taken}, "\n".join([*lines, ""])
    )


if __name__ == "__main__":
    main()
