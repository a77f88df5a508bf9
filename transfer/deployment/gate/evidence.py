"""What a challenger is judged by: predictions on the current test split and what came of them."""

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
    """What the rules are judged on. N test items, K classes.

    Raises:
        CrosstrainError: the predictions do not fit the labels or one another, or there are
            predictions of a champion that is not ``loaded``, or none of one that is.
    """

    labels: NDArray[np.int64]
    """(N,)"""
    chosen: NDArray[np.floating]
    """(N, K) probabilities of the challenger."""
    scratch_gain: Gain
    """Challenger minus the baseline."""
    champion: NDArray[np.floating] | None
    """(N, K) probabilities of the champion, on the same items and in the same order of classes."""
    champion_state: ChampionState
    """none: there is none; same: it is the challenger itself; loaded: it predicted; unloadable."""
    loaded_back: float | None
    """Largest absolute difference of a probability between the challenger and the copy that was
    loaded back from the registry; None when that was not done."""
    served: str | None = None
    """What went wrong when it was asked as a server is asked, in a process of its own; '' nothing,
    None when it was not asked."""
    milliseconds: float | None = None
    """Median time of a request for one item in that process; None when it was not asked."""
    megabytes: float | None = None
    """Size of the model's files, 10^6 bytes; None when unknown."""
    baseline: str = "scratch"
    """What the gain is over: a key of `transfer.evaluation.comparison.BASELINES`."""
    class_names: Sequence[str] = ()
    """K names; empty: classes are called by number."""
    level: float = 0.95
    """Of the intervals."""
    replicates: int = 2000
    """Of the bootstrap."""
    seed: int = 0
    """Of the bootstrap."""
    bins: int = 15
    """Of the expected calibration error."""

    def __post_init__(self) -> None:
        """Refuse evidence that contradicts itself."""
        classification.check(self.chosen, self.labels)
        if (self.champion is not None) != (self.champion_state == "loaded"):
            found = "no predictions" if self.champion is None else "predictions"
            raise CrosstrainError(
                f"found {found} of a champion that is {self.champion_state!r}; expected "
                "predictions exactly when it is 'loaded'"
            )
        if self.champion is not None and self.champion.shape != self.chosen.shape:
            raise CrosstrainError(
                f"found predictions {self.champion.shape} of the champion and {self.chosen.shape} "
                "of the challenger; expected the same items and classes"
            )

    def against_champion(self, items: NDArray[np.bool_] | slice = slice(None)) -> Gain:
        """Accuracy, or the metric of the scratch gain where all items count, minus the champion's.

        Args:
            items: which of the N.
        """
        assert self.champion is not None
        whole = isinstance(items, slice)
        return comparison.paired_gain(
            np.stack([self.chosen[items], self.champion[items]]),
            self.labels[items],
            np.array([1.0, 0.0]),
            np.array([0.0, 1.0]),
            methods=["challenger", "champion"],
            seeds=[0, 0],
            metric=self.scratch_gain.metric if whole else "accuracy",
            level=self.level,
            replicates=self.replicates,
            seed=self.seed,
        )
