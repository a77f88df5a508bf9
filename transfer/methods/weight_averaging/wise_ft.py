"""WiSE-FT: the average of the source's network with a new head and the network fine-tuned from
it."""

from typing import ClassVar

from pydantic import Field

from transfer.methods.building_blocks.averaging import copied, mixed, reestimate
from transfer.methods.building_blocks.head_first import probe
from transfer.training.method import FineTuning, Job, Trained


class WiseFT(FineTuning):
    """A linear probe, fine-tuning from there, and the average of both: ``(1 - alpha) w_0 + alpha
    w_1``.

    Wortsman et al., CVPR 2022 (robust fine-tuning of zero-shot models). Their zero-shot network is
    here w_0, the source's backbone with a head that is trained first, on cached features; w_1 is
    w_0 after fine-tuning.
    """

    paper: ClassVar[str] = "Wortsman et al., 2022"
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head while everything is fine-tuned."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Share of the fine-tuned network: 0 is the linear probe, 1 fine-tuning."""
    probe: float = Field(0.3, gt=0, lt=1)
    """Share of the steps that the linear probe takes."""
    probe_rate: float = Field(1e-2, gt=0)
    """Peak learning rate of the linear probe."""
    views: int = Field(8, ge=1)
    """Augmented views of each training item that the linear probe learns from."""

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        network = prepared.network
        probe(job, prepared, rate=self.probe_rate, views=self.views, share=self.probe)
        start = copied(network)
        end = copied(job.fit(self, prepared, share=1 - self.probe))
        network.load_state_dict(mixed([start, end], [1 - self.alpha, self.alpha]))
        if 0 < self.alpha < 1:
            reestimate(network, job.labelled, job.recipe, job.seed)
        return Trained(network, prepared.transfers, notes={"alpha": self.alpha})


METHOD = WiseFT
