"""fastai's Learner with our data set; its vision part needs torchvision and is not used."""

import torch
from fastai.basics import DataLoader, DataLoaders, Learner
from fastai.callback.schedule import ParamScheduler
from torch import nn

from benchmarks.loops.common import DECAY, RATE, Pictures, Task, loss


def train(task: Task) -> nn.Module:
    """Train the task's network with fastai's own AdamW and this schedule."""
    torch.manual_seed(task.seed)
    pictures = Pictures(task)
    train_loader = DataLoader(pictures, bs=task.batch, shuffle=True, drop_last=True, num_workers=2)
    first_item = DataLoader(
        torch.utils.data.Subset(pictures, [0]), bs=1, num_workers=0
    )  # it wants some
    data = DataLoaders(train_loader, first_item, device=torch.device("cpu"))
    learner = Learner(data, task.network(), loss_func=loss(), lr=RATE, wd=DECAY)
    with learner.no_bar(), learner.no_logging():
        learner.fit(
            task.epochs,
            cbs=ParamScheduler({"lr": lambda done: RATE * task.rate(done * task.steps)}),
        )
    trained: nn.Module = learner.model
    return trained
