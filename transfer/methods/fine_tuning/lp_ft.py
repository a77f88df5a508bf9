"""Linear probe, then fine-tuning: the head is good before the backbone starts to move."""

from typing import ClassVar

from pydantic import Field

from transfer.methods.building_blocks.head_first import probe
from transfer.training.method import FineTuning, Job, Trained


class LinearProbeThenFineTune(FineTuning):
    """LP-FT (Kumar, Raghunathan, Jones, Ma and Liang, ICLR 2022).

    A random head sends large gradients into the backbone and distorts its features. So the head is
    trained first, on features of the frozen backbone (its batch normalisation in evaluation mode),
    and all parameters are then fine-tuned from that head, with discriminative learning rates and
    cross-entropy as in fine-tuning (batch normalisation in training mode). Both phases together
    take one budget; each has its own learning rate schedule and moving average.
    """

    paper: ClassVar[str] = "Kumar et al., 2022"
    probe_share: float = Field(0.3, gt=0, lt=1)
    """Share of the steps that train the head alone."""
    probe_rate: float = Field(1e-2, gt=0)
    """Peak learning rate of the head while the backbone is frozen."""
    views: int = Field(8, ge=1)
    """Augmented views of each training item whose features the first phase trains on."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head in the second phase."""

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        probe(job, prepared, rate=self.probe_rate, views=self.views, share=self.probe_share)
        return Trained(job.fit(self, prepared, share=1 - self.probe_share), prepared.transfers)


METHOD = LinearProbeThenFineTune
