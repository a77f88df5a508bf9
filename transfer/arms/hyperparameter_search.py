"""Hyper-parameters of a method, searched on out-of-fold predictions; the only file that imports
optuna.

The tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Akiba et al., KDD 2019) draws
each number log-uniformly around its default. The default is always tried first, so that the result
is never worse on validation than the default.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from transfer.core.errors import SettingsError
from transfer.training.method import Method

REACH = 4.0
"""How many times smaller and larger than its default a number may become."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search."""

    method: Method
    loss: float
    """The lowest loss of all trials, in nats."""
    tried: int
    default_loss: float


def space(method: Method) -> dict[str, tuple[float, float]]:
    """The interval of each number that is searched: real, above 0, within the field's bounds."""
    intervals = {}
    for name, field in type(method).model_fields.items():
        value = getattr(method, name)
        if isinstance(value, float) and value > 0:
            low, high = value / REACH, value * REACH
            for bound in field.metadata:
                low, high = _within(bound, value, low, high)
            intervals[name] = (low, high)
    return intervals


def _within(bound: Any, value: float, low: float, high: float) -> tuple[float, float]:
    """Cut an interval at a bound; an open bound is excluded."""
    if isinstance(bound, Le):
        return low, min(high, float(bound.le))  # type: ignore[arg-type]
    if isinstance(bound, Lt):
        edge = float(bound.lt)  # type: ignore[arg-type]
        return low, min(high, edge - (edge - value) / REACH)
    if isinstance(bound, Ge):
        return max(low, float(bound.ge)), high  # type: ignore[arg-type]
    if isinstance(bound, Gt):
        edge = float(bound.gt)  # type: ignore[arg-type]
        return max(low, edge + (value - edge) / REACH), high
    return low, high


def search(
    method: Method, loss: Callable[[Method], float], *, trials: int, seed: int = 0
) -> SearchResult:
    """Find the settings of lowest loss.

    Args:
        method: with the default settings of the search.
        loss: validation loss of an arm with these settings, infinite where training diverged;
            never of the test split.
        trials: how many settings are tried beside the default.
        seed: of the sampler.

    Raises:
        SettingsError: optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise SettingsError(
            "adapt.trials is above 0, which needs optuna; install crosstrain[search] or set it to 0"
        ) from error
    bounds = space(method)
    default = loss(method)
    best, lowest = method, default
    if not bounds:
        return SearchResult(method, default, 0, default)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.add_trial(_default_trial(optuna, method, bounds, default))
    for _ in range(trials):
        trial = study.ask()
        drawn = {
            n: trial.suggest_float(n, low, high, log=True) for n, (low, high) in bounds.items()
        }
        tried = type(method)(**{**method.model_dump(), **drawn})
        value = loss(tried)
        failed = optuna.trial.TrialState.FAIL if not math.isfinite(value) else None
        study.tell(trial, None if failed else value, state=failed)
        if value < lowest:
            best, lowest = tried, value
    return SearchResult(best, lowest, trials, default)


def _default_trial(
    optuna: Any, method: Method, bounds: dict[str, tuple[float, float]], loss: float
) -> Any:
    """The default settings as a finished trial."""
    return optuna.trial.create_trial(
        params={name: getattr(method, name) for name in bounds},
        distributions={
            name: optuna.distributions.FloatDistribution(low, high, log=True)
            for name, (low, high) in bounds.items()
        },
        value=loss,
    )
