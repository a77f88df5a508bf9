"""A plain loop of skorch: NeuralNetClassifier, its DataLoader, PIL, fp32."""

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from benchmarks.loops.common import DECAY, RATE, SMOOTHING, Pictures, Task


def train(task: Task) -> nn.Module:
    """Train the task's network."""
    torch.manual_seed(task.seed)
    schedule = LRScheduler(
        torch.optim.lr_scheduler.LambdaLR, lr_lambda=task.rate, step_every="batch"
    )
    net = NeuralNetClassifier(
        task.network(),
        criterion=nn.CrossEntropyLoss,
        criterion__label_smoothing=SMOOTHING,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=DECAY,
        lr=RATE,
        max_epochs=task.epochs,
        batch_size=task.batch,
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,
        iterator_train__num_workers=2,
        train_split=None,
        callbacks=[schedule],
        verbose=0,
        classes=list(range(10)),
    )
    net.partial_fit(Pictures(task), y=None)
    trained: nn.Module = net.module_
    return trained
