"""No adaptation at all: the baseline that every use of unlabelled items has to beat."""

from typing import ClassVar

from transfer.methods.building_blocks.semi_supervised import check_classes, end
from transfer.training.method import Job, Method, Trained, receive


class SourceOnly(Method):
    """The source's network as it is: its backbone, and its head's rows of the shared classes.

    Its error on the target is what Ben-David et al., Machine Learning 2010, bound. Inputs are
    standardised as for every other method. Nothing is trained and no label is read; the pool is
    only used to detect a collapse.
    """

    paper: ClassVar[str] = "Ben-David et al., 2010"
    reads_pool: ClassVar[bool] = True
    new_classes: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False

    def train(self, job: Job) -> Trained:
        """Take over the source's network.

        Raises:
            CrosstrainError: the source lacks a class of the target.
        """
        check_classes(job)
        network = job.network()
        return end(network, receive(network, job.knowledge, job.class_names), job)


METHOD = SourceOnly
