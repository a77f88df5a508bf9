"""Reptile: the backbone is meta-learned on few-shot tasks of the source, then fine-tuned."""

from dataclasses import replace
from typing import ClassVar

from transfer.data.items import SourceItems
from transfer.methods.building_blocks.reptile_loop import MEMORY, Plan
from transfer.training.method import FineTuning, Job, Method, Trained, given


class Reptile(FineTuning):
    """First-order meta-learning (Nichol, Achiam and Schulman, 2018), then fine-tuning.

    See `transfer.methods.building_blocks.reptile_loop` for the formula. The episodes are further
    pretraining on the source: they cost none of the target's steps, and all folds and seeds share
    them.
    """

    paper: ClassVar[str] = "Nichol, Achiam and Schulman, 2018"
    reads_source: ClassVar[bool] = True

    meta: Plan = Plan()
    """The episodes before fine-tuning."""

    def train(self, job: Job) -> Trained:
        ready = self.prepare(job.network(), job.knowledge, job.class_names)
        backbone = ready.network.backbone
        learned = MEMORY.of(backbone, _source(job), self.meta, job.recipe)
        backbone.load_state_dict(learned.state)
        network = job.fit(Method(), ready)  # the target alone: no batches of the source
        summary = f"{self.meta.episodes} episodes, {learned.items} items of the source"
        return Trained(network, ready.transfers, notes={"meta_learning": summary})


def _source(job: Job) -> SourceItems:
    if job.source is None:
        raise ValueError("this method reads the source's items and was given none")
    knowledge = given(job.knowledge)
    return replace(job.source, normal=knowledge.normal) if knowledge.fixed_normal else job.source


METHOD = Reptile
