"""A first phase that trains the head alone, for methods that continue from that head.

Shapes: N items, D features, K classes.
"""

from torch import Tensor
from torch.nn import functional

from transfer.training.method import Batch, Job, Method, Prepared


class HeadAlone(Method):
    """Cross-entropy of the head's scores (N, K) of features (N, D)."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        scores = prepared.network.head(batch.inputs)
        return {"cross_entropy": functional.cross_entropy(scores, batch.targets)}


def probe(job: Job, prepared: Prepared, *, rate: float, views: int, share: float) -> None:
    """Train the head of a prepared network in place, its backbone frozen, weights and statistics.

    Afterwards the same parameters train as before.

    Args:
        job: provides the items and the training loop.
        prepared: the network of the phase that follows.
        rate: peak learning rate of the head.
        views: augmented views of each training item whose features are kept.
        share: of the training budget's steps.
    """
    network = prepared.network
    training = [parameter for parameter in network.parameters() if parameter.requires_grad]
    head = list(network.head.parameters())
    alone = Prepared(network, [(head, rate)], [], frozen=[network.backbone], views=views)
    job.fit(HeadAlone(), alone, share=share)
    for parameter in training:
        parameter.requires_grad_(True)
