"""A plain loop of PyTorch Lightning: the module of its documentation, DataLoader, PIL, fp32."""

import logging
import warnings
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from benchmarks.loops.common import Task, loader, loss, optimiser


class Module(lightning.LightningModule):
    """Network, loss, optimiser and schedule."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.network, self.criterion = task, task.network(), loss()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        value: Tensor = self.criterion(self.network(images), labels)
        return value

    def configure_optimizers(self) -> Any:
        optimise = optimiser(self.network)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimise, self.task.rate)
        return {
            "optimizer": optimise,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def train(task: Task) -> nn.Module:
    """Train the task's network."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(task.seed)
    module = Module(task)
    trainer = lightning.Trainer(
        max_epochs=task.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(task, workers=2))
    return module.network
