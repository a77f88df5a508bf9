"""How near an export is to the model, on items that were not used for training.

Shapes: N items, K classes.
"""

import numpy as np
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.evaluation import comparison
from transfer.evaluation.report_schema import Gain
from transfer.evaluation.tables import EvaluateSettings
from transfer.metrics import classification

SAME = 1e-4
"""Largest difference of a probability that counts as rounding."""


class Parity(Section):
    """An export compared with the model that it was made from, on the same test items."""

    items: int
    """N."""
    accuracy: float
    """Of the export."""
    model_accuracy: float
    """Of the model."""
    gain: Gain
    """Accuracy of the export minus that of the model, paired; a drop is negative."""
    agreement: float
    """Share of items to which both give the same class."""
    largest: float
    """Largest difference of a probability."""
    mean: float
    """Mean absolute difference of a probability."""

    @property
    def is_same(self) -> bool:
        """Whether every decision is the same and every probability, to rounding."""
        return self.agreement == 1 and self.largest <= SAME

    def holds(self, margin: float) -> bool:
        """Whether the export is the same model, or shown to lose less accuracy than a margin.

        On a small test split the interval is wide even if the export is the same model.
        """
        return self.is_same or self.gain.low >= -margin


def parity(
    model: NDArray[np.floating],
    export: NDArray[np.floating],
    labels: NDArray[np.int64],
    settings: EvaluateSettings,
) -> Parity:
    """Compare probabilities (N, K) of a model and of its export, given labels (N,).

    Raises:
        CrosstrainError: the arguments do not fit together
        (`transfer.metrics.classification.check`).
    """
    difference = np.abs(model - export)
    gain = comparison.paired_gain(
        np.stack([export, model]).astype(np.float64),
        labels,
        np.array([1.0, 0.0]),
        np.array([0.0, 1.0]),
        methods=["export", "model"],
        seeds=[0, 0],
        level=settings.level,
        replicates=settings.replicates,
        seed=settings.seed,
    )
    return Parity(
        items=len(labels),
        accuracy=classification.accuracy(export, labels),
        model_accuracy=classification.accuracy(model, labels),
        gain=gain,
        agreement=float((model.argmax(1) == export.argmax(1)).mean()),
        largest=float(difference.max()),
        mean=float(difference.mean()),
    )
