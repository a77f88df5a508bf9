"""Reptile: the source's body is meta-learned on few-shot tasks of the source, then fine-tuned."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from transfer.arrays import SourceItems
from transfer.meta import MEMORY, Plan
from transfer.method import Job, Method, Prepared, Trained, given, receive, stage_rates
from transfer.network import Network
from transfer.weights import Knowledge


class Reptile(Method):
    """First-order meta-learning (Nichol, Achiam and Schulman, 2018), then fine-tuning.

    See `transfer.meta` for the formula. The episodes are further pretraining on the source: they
    cost none of the target's steps, and all folds and seeds share them.
    """

    paper: ClassVar[str] = "Nichol, Achiam and Schulman, 2018"
    reads_source: ClassVar[bool] = True

    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head."""
    body_rate: float = Field(0.5, gt=0, le=1)
    """Rate of the last stage, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""
    meta: Plan = Plan()
    """The episodes before fine-tuning."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        rates = stage_rates(network, self.learning_rate, self.body_rate, self.decay)
        return Prepared(network, rates, transfers)

    def train(self, job: Job) -> Trained:
        ready = self.prepare(job.network(), job.knowledge, job.class_names)
        body = ready.network.backbone
        learned = MEMORY.of(body, _source(job), self.meta, job.recipe)
        body.load_state_dict(learned.state)
        network = job.fit(Method(), ready)  # the target alone: no batches of the source
        told = f"{self.meta.episodes} episodes, {learned.images} images of the source seen"
        return Trained(network, ready.transfers, notes={"meta_learning": told})


def _source(job: Job) -> SourceItems:
    if job.source is None:
        raise ValueError("this method reads the source's items and was given none")
    knowledge = given(job.knowledge)
    return replace(job.source, normal=knowledge.normal) if knowledge.fixed_normal else job.source


METHOD = Reptile
