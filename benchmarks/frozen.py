"""Frozen-feature arms: features computed once, beside features computed in every epoch.

    python -m benchmarks.frozen [--epochs 30] [--items 2000]

A frozen residual network of width 16 and a linear head, on MNIST digits. "Recomputed" is the
usual loop: every batch goes through the frozen body, without gradients, before the head's step.
"Kept" is crosstrain's linear probe with one view and with eight augmented ones, the features
computed within the time. All take turns. Writes frozen.json and frozen.md.
"""

import argparse

import torch
from torch.nn import functional

from benchmarks.loops.common import CLASSES, digits, items
from benchmarks.measure import in_turns, machine, middle, write
from transfer.arrays import TrainItems, normalisation
from transfer.feed import batches, embed, to_input
from transfer.fit import fit
from transfer.methods.linear_probe import LinearProbe
from transfer.modalities.image.augment import AugmentPolicy
from transfer.network import Body, Network, build
from transfer.recipe import Budget, Recipe
from transfer.weights import Knowledge

BATCH = 64
BODY = Body(name="resnet", options={"width": 16, "pool": True})


def _network() -> Network:
    return build(BODY, channels=1, classes=len(CLASSES), seed=0)


def recomputed(seen: TrainItems, recipe: Recipe) -> None:
    """Every batch through the body, then one step of the head."""
    network = _network().to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.head.parameters(), lr=0.01, fused=True)
    for rows in batches(len(seen), BATCH, 0, 0, recipe.budget.steps):
        with torch.no_grad():
            features = network.backbone(to_input(seen.images[rows], recipe))
        loss = functional.cross_entropy(network.head(features), seen.labels[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def kept(seen: TrainItems, recipe: Recipe, views: int) -> None:
    """Features once, then crosstrain's loop over them."""
    method = LinearProbe(views=views)
    own = _network()
    source = Knowledge("source", CLASSES, own.state_dict(), BODY, recipe.normal)
    prepared = method.prepare(_network(), source, CLASSES)
    network = prepared.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = views == 1
    features = embed(network, seen.images, 0 if plain else views, recipe, 0)
    fit(method, prepared, seen, recipe, seed=0, features=features)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = digits()
    seen, told = items(images[: asked.items], labels[: asked.items]), machine()
    steps = asked.epochs * (asked.items // BATCH)
    budget = Budget(steps=steps, batch_size=BATCH)
    recipe = Recipe(budget, AugmentPolicy(), normalisation(seen), len(CLASSES))
    taken = in_turns(
        {
            "recomputed in every epoch": lambda: recomputed(seen, recipe),
            "kept, one view": lambda: kept(seen, recipe, 1),
            "kept, eight augmented views": lambda: kept(seen, recipe, 8),
        },
        asked.rounds,
    )
    figures = {name: middle(times) for name, times in taken.items()}
    first = figures["recomputed in every epoch"]
    lines = [
        f"{told['processor']}, load {told['load']} before, one thread. {asked.items} pictures, "
        f"{asked.epochs} epochs; medians of {asked.rounds} rounds in turns.",
        "",
        "| features | CPU-seconds | times as fast |",
        "|---|---|---|",
        *(
            f"| {name} | {took.cpu:.2f} | {first.cpu / took.cpu:.1f} |"
            for name, took in figures.items()
        ),
    ]
    write("frozen", {"machine": told, **vars(asked), "taken": taken}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
