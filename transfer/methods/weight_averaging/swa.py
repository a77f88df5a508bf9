"""Stochastic weight averaging: the mean of the weights at several points of training."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from transfer.methods.building_blocks.averaging import copied, mean, reestimate
from transfer.training.method import FineTuning, Job, Trained


class SWA(FineTuning):
    """Fine-tuning, then short cycles of the learning rate whose ends are averaged.

    Izmailov et al., UAI 2018, with their cyclical rate: after ``1 - tail`` of the steps, the
    weights w_0 and those at the end of each of n cycles, w_1 .. w_n, give
    ``w = (w_0 + ... + w_n) / (n + 1)``. Batch-normalisation statistics are measured anew on the
    labelled items. A cycle rises to ``cycle_rate`` times fine-tuning's rates and falls to zero.
    """

    paper: ClassVar[str] = "Izmailov et al., 2018"
    tail: float = Field(0.5, gt=0, lt=1)
    """Share of the steps that cycles take."""
    cycles: int = Field(4, ge=1)
    """Number of cycles; fewer if there are not that many steps."""
    cycle_rate: float = Field(0.5, gt=0)
    """Peak rate of a cycle, as a share of fine-tuning's."""

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        network = job.fit(self, prepared, share=1 - self.tail)
        lower = [(parameters, rate * self.cycle_rate) for parameters, rate in prepared.rates]
        cycle = replace(prepared, rates=lower)
        n = max(1, min(self.cycles, round(self.tail * job.recipe.training.steps)))
        states = [copied(network)]
        for _ in range(n):
            network.requires_grad_(True)
            states.append(copied(job.fit(self, cycle, share=self.tail / n)))
        network.load_state_dict(mean(states))
        reestimate(network, job.labelled, job.recipe, job.seed)
        return Trained(network, prepared.transfers, notes={"averaged": float(len(states))})


METHOD = SWA
