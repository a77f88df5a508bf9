"""The result of a run: the schema of ``reports/retrain.json``.

Shares and scores are fractions in 0..1; intervals are at the level in ``level``.
"""

from typing import Literal

from transfer.core.config import Section
from transfer.metrics.classification import ReliabilityBin
from transfer.transferability.advisor import Advice, RankCorrelation

Verdict = Literal["positive", "none", "negative"]


class Gain(Section):
    """A paired difference of a test metric, with its interval over items and seeds."""

    metric: str
    point: float
    low: float
    high: float


class SourceGain(Section):
    """Gain of one source: its best model, chosen on validation, minus the baseline."""

    name: str
    gain: Gain
    verdict: Verdict
    members: list[str]
    """Names of the arms of that model."""
    adds: Gain | None
    """The best model on validation among all arms, minus the best among the arms without this
    source (leave one source out). None where every arm uses it."""


class Oracle(Section):
    """The result of choosing on the test split itself; for comparison only, never used."""

    group: str
    """The method that is best on the test split, with all its seeds averaged."""
    accuracy: float
    gap: float
    """Its accuracy minus that of the model chosen on validation."""


class Scratch(Section):
    """The baseline of all gains: the uniform ensemble of its seeds, on the test split."""

    method: str
    """scratch; or source_only, the source's network as it is, where the target has no label."""
    accuracy: float
    low: float
    high: float
    single_mean: float
    """Mean accuracy of its single seeds."""


class Chosen(Section):
    """The model chosen on validation, on the test split."""

    scheme: str
    members: list[str]
    """Names of its arms."""
    weights: list[float]
    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float
    brier: float
    ece: float
    """Expected calibration error after temperature scaling, 15 equal-mass bins."""


class ArmResult(Section):
    """One method and seed. ``validation`` is out-of-fold; ``test`` is read once, at the end."""

    method: str
    group: str
    """The method, with its source in a run of several sources; all seeds share it."""
    seed: int
    sources: list[str]
    """Knowledge sources that it uses."""
    uses_source: bool
    finalist: bool
    """False where it was stopped after its first seed."""
    validation: float | None
    """None where the target has no label to validate on."""
    validation_low: float | None
    validation_high: float | None
    test: float
    test_low: float
    test_high: float
    steps: int
    """Optimiser steps of the final model, the same for every arm that trains a backbone."""
    seconds: float
    """Wall time of its training, seconds; 0 in an evaluation, which has no times."""
    temperature: float
    parameters: int
    """Number of values in one of its networks, including statistics of normalisation."""
    notes: list[dict[str, float | str]]
    """Figures that its method recorded for each network."""
    weight: float
    """Its weight in the chosen model; 0 when it is not a member."""


class ClassFigures(Section):
    """One class of the target on the test split."""

    name: str
    items: int
    precision: float
    recall: float
    f1: float


class RuleOutcome(Section):
    """The outcome of one promotion rule: the measured value and the expected one."""

    rule: str
    passed: bool
    found: str
    expected: str


class DatasetRecord(Section):
    """State of a dataset when the run used it."""

    name: str
    path: str
    md5: str
    """MD5 of the file or folder, as DVC computes it."""
    items: int
    rejects: int
    classes: list[str]
    train: int
    labelled: int
    val: int
    test: int
    excluded: int
    revision: str = ""
    """The requested older version of the data; empty for the current data of the run."""


class Data(Section):
    """All datasets."""

    sources: list[DatasetRecord]
    target: DatasetRecord


class Foresight(Section):
    """Predictions made before the arms were trained, and how they correlate with the results."""

    advice: list[Advice]
    """Measures of each source by its features of the labelled items, best first."""
    sources: RankCorrelation
    """Correlation of the advisor's rank of a source with its transfer gain on the test split."""
    methods: RankCorrelation
    """Correlation of a method's validation log loss and test accuracy, both of its first seed."""


class Seconds(Section):
    """Wall time of this run, seconds; a reused step costs milliseconds."""

    total: float
    between: float
    """Time in which no step was running: orchestration."""
    steps: dict[str, float]
    """Time of each step; steps may overlap."""
    reused: list[str]
    """Steps whose stored result was used."""


class TimeBudget(Section):
    """The time budget of the run, and what was left out because of it."""

    seconds: float
    """The requested time budget, seconds."""
    spent: float
    """Time used until this was written, seconds."""
    share: float
    """Share of the optimiser steps in the settings that every training ran; 1: all of them."""
    left_out: dict[str, str]
    """Reason by name of each arm, source or search that was left out."""

    @property
    def ran_out(self) -> bool:
        """Whether a run without a budget would have done more."""
        return self.share < 1 or bool(self.left_out)


class Evaluation(Section):
    """Results that depend on data only, not on times or a registry; same inputs, same bytes."""

    target: str
    metric: str
    level: float
    seeds: list[int]
    test_items: int
    labels_per_class: int | None
    verdict: Verdict
    sentence: str
    """The verdict in one sentence."""
    gain: Gain
    """Gain of the chosen model over the baseline."""
    sources: list[SourceGain]
    foresight: Foresight
    left_out: list[str]
    """Sources that validation would have used, with a negative verdict on the test split."""
    scratch: Scratch
    chosen: Chosen
    oracle: Oracle
    arms: list[ArmResult]
    classes: list[ClassFigures]
    confusion: list[list[int]]
    """Rows are true classes, columns predicted ones, in the order of ``classes``."""
    reliability: list[ReliabilityBin]
    schemes: dict[str, float]
    """Cross-fitted validation log loss of each compared ensemble scheme; where the target has no
    label, the validator's score of each method, higher is better."""
    collapsed: dict[str, str]
    """Reason by name of each arm that was excluded because it predicts few classes for nearly all
    items."""


class Result(Evaluation):
    """The whole run, as written to ``reports/retrain.json``."""

    schema_version: Literal[2] = 2
    promoted: bool
    """True when this run's model is the champion after the run."""
    reasons: list[str]
    rules: list[RuleOutcome]
    model: str
    """Registered name, ``crosstrain-<target>``."""
    version: int | None
    """Registered version of this model, if it was registered."""
    mlflow_run: str
    data: Data
    seconds: Seconds
    budget: TimeBudget | None = None
    """None for a run without a time budget."""
    settings_digest: str
    code_revision: str
