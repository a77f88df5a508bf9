"""Train once with one loop, in a process of its own, and print what it took as JSON.

python -m benchmarks.loops.one LOOP --epochs 6 --seed 0 --width 16 --pool 1 --threads 2
"""

import argparse
import importlib
import json

import numpy as np
import torch
from torch import nn

from benchmarks.loops.common import HELD_OUT, Task, digits
from benchmarks.measure import timed
from transfer.models.network import BackboneSpec


def main() -> None:
    """Parse, train, score the held-out images, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("loop")
    for name, value in (("epochs", 6), ("seed", 0), ("width", 16), ("pool", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loop = importlib.import_module(f"benchmarks.loops.{arguments.loop}")
    images, labels = digits()
    backbone_spec = BackboneSpec(
        name="resnet", options={"width": arguments.width, "pool": bool(arguments.pool)}
    )
    train_rows = slice(HELD_OUT, None)
    task = Task(
        images[train_rows],
        labels[train_rows],
        backbone_spec,
        arguments.epochs,
        arguments.batch,
        arguments.seed,
    )
    trained: list[nn.Module] = []
    took = timed(lambda: trained.append(loop.train(task)))
    (network,) = trained
    mean, std = task.mean_and_std()
    with torch.inference_mode():
        inputs = (torch.from_numpy(images[:HELD_OUT]).unsqueeze(1) / 255 - mean) / std
        predicted = network.eval()(inputs).argmax(1).numpy()
    right = float(np.mean(predicted == labels[:HELD_OUT]))
    print(json.dumps({"images": task.steps * task.batch, "right": right, **vars(took)}))


if __name__ == "__main__":
    main()
