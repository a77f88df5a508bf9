"""The evidence on a challenger: predictions on the current test split, and measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError
from transfer.evaluation import comparison
from transfer.evaluation.report_schema import Gain
from transfer.metrics import classification

ChampionState = Literal["none", "same", "loaded", "unloadable"]


@dataclass(frozen=True)
class Evidence:
    """The data that promotion rules read. N test items, K classes.

    Raises:
        CrosstrainError: the predictions do not fit the labels or one another, there are predictions
            of a champion that is not ``loaded``, or no predictions of a ``loaded`` one.
    """

    labels: NDArray[np.int64]
    """(N,)"""
    chosen: NDArray[np.floating]
    """(N, K) probabilities of the challenger."""
    scratch_gain: Gain
    """Gain of the challenger over the baseline."""
    champion: NDArray[np.floating] | None
    """(N, K) probabilities of the champion, on the same items and in the same order of classes."""
    champion_state: ChampionState
    """none: there is no champion; same: the champion is the challenger; loaded: its predictions are
    in this evidence; unloadable: it could not be loaded."""
    load_back_difference: float | None
    """Largest absolute difference of a probability between the challenger and its copy loaded back
    from the registry; None when it was not loaded back."""
    serving_error: str | None = None
    """Error of a prediction request to the model served in a process of its own; '' when it
    succeeded, None when no request was made."""
    milliseconds: float | None = None
    """Median time of a request for one item in that process; None when no request was made."""
    megabytes: float | None = None
    """Size of the model's files, 10^6 bytes; None when unknown."""
    baseline: str = "scratch"
    """Baseline of the gain: a key of `transfer.evaluation.comparison.BASELINES`."""
    class_names: Sequence[str] = ()
    """K names; empty: messages use class numbers."""
    level: float = 0.95
    """Confidence level of the intervals."""
    replicates: int = 2000
    """Number of bootstrap replicates."""
    seed: int = 0
    """Random seed of the bootstrap."""
    bins: int = 15
    """Number of bins of the expected calibration error."""

    def __post_init__(self) -> None:
        """Refuse evidence that contradicts itself."""
        classification.check(self.chosen, self.labels)
        if (self.champion is not None) != (self.champion_state == "loaded"):
            given = "no predictions" if self.champion is None else "predictions"
            raise CrosstrainError(
                f"found {given} of a champion that is {self.champion_state!r}; expected "
                "predictions if and only if it is 'loaded'"
            )
        if self.champion is not None and self.champion.shape != self.chosen.shape:
            raise CrosstrainError(
                f"found predictions {self.champion.shape} of the champion and {self.chosen.shape} "
                "of the challenger; expected the same items and classes"
            )

    def against_champion(self, items: NDArray[np.bool_] | slice = slice(None)) -> Gain:
        """Gain over the champion, by accuracy; on all items by the metric of the scratch gain.

        Args:
            items: mask (N,) or slice of the items to use.
        """
        assert self.champion is not None
        all_items = isinstance(items, slice)
        return comparison.paired_gain(
            np.stack([self.chosen[items], self.champion[items]]),
            self.labels[items],
            np.array([1.0, 0.0]),
            np.array([0.0, 1.0]),
            methods=["challenger", "champion"],
            seeds=[0, 0],
            metric=self.scratch_gain.metric if all_items else "accuracy",
            level=self.level,
            replicates=self.replicates,
            seed=self.seed,
        )
