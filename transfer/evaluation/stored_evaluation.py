"""A stored evaluation: every arm's predictions on the test split, and the figures from them.

Shapes: A arms, N test items, K classes.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import ModelFileError
from transfer.evaluation import comparison
from transfer.evaluation.report_schema import Evaluation, Gain
from transfer.evaluation.tables import EvaluateSettings
from transfer.selection import ensemble

FILES = ("evaluation.json", "predictions.npz")


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation and the predictions it was computed from."""

    evaluation: Evaluation
    ids: list[str]
    labels: NDArray[np.int64]
    """(N,)"""
    probabilities: NDArray[np.float64]
    """(A, N, K)"""
    digest: str
    """SHA-256 of the content of both files."""

    @classmethod
    def load(cls, folder: Path) -> "StoredEvaluation":
        """Read ``evaluation.json`` and ``predictions.npz``.

        Raises:
            ModelFileError: a file is missing, or is not of this version.
        """
        try:
            contents = [(folder / name).read_bytes() for name in FILES]
            with np.load(folder / FILES[1], allow_pickle=False) as stored:
                arrays = stored["ids"].tolist(), stored["labels"], stored["probabilities"]
            evaluation = Evaluation.model_validate_json(contents[0])
        except (OSError, ValueError, KeyError) as error:
            raise ModelFileError(
                f"{folder} holds no evaluation of this version ({type(error).__name__}: {error}); "
                "expected evaluation.json and predictions.npz; train again to make them"
            ) from error
        return cls(evaluation, *arrays, hashlib.sha256(b"".join(contents)).hexdigest())

    @property
    def class_names(self) -> list[str]:
        """K names."""
        return [row.name for row in self.evaluation.classes]

    @cached_property
    def mixed(self) -> NDArray[np.float64]:
        """Probabilities (N, K) of the chosen model."""
        return ensemble.combine(self.probabilities, self._chosen)

    @property
    def _chosen(self) -> NDArray[np.float64]:
        return np.array([arm.weight for arm in self.evaluation.arms])

    def gain(self, settings: EvaluateSettings) -> Gain:
        """Gain of the chosen model over the baseline, recomputed from the predictions."""
        arms, method = self.evaluation.arms, self.evaluation.scratch.method
        baseline = np.array([arm.method == method for arm in arms], float)
        return comparison.paired_gain(
            self.probabilities,
            self.labels,
            self._chosen,
            baseline / baseline.sum(),
            methods=[arm.group for arm in arms],
            seeds=[arm.seed for arm in arms],
            metric=settings.metric,
            level=settings.level,
            replicates=settings.replicates,
            seed=settings.seed,
        )
