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
    """What one source is worth: its best model, chosen on validation, minus scratch."""

    name: str
    gain: Gain
    verdict: Verdict
    members: list[str]
    """Arms of that model, by name."""
    adds: Gain | None
    """What validation chose among all arms, minus what it chose among those that do without this
    source: leave one source out. None where no arm does without it."""


class Oracle(Section):
    """What choosing on the test split would have claimed; nobody may use it."""

    group: str
    """The method that is best there, all its seeds averaged."""
    accuracy: float
    gap: float
    """Its accuracy minus that of the model that was chosen honestly."""


class Scratch(Section):
    """What gains are measured against: the uniform ensemble of its seeds, on the test split."""

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
    """Arms, by name."""
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
    """One method and seed. ``validation`` is out of fold; ``test`` was read once, at the end."""

    method: str
    group: str
    """The method, and its source in a run of several: what its seeds share."""
    seed: int
    sources: list[str]
    """Knowledge sources that it takes anything from."""
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
    """Optimiser steps of the final model, the same for every arm that trains a body."""
    seconds: float
    """Wall time of its training; 0 in an evaluation, which knows no clock."""
    temperature: float
    parameters: int
    """Numbers in one of its networks, statistics of normalisation among them."""
    notes: list[dict[str, float | str]]
    """What its method has to say of each network it made."""
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
    """One promotion rule, what it found and what it expected."""

    rule: str
    held: bool
    found: str
    expected: str


class DatasetRecord(Section):
    """What a dataset was when it was used."""

    name: str
    path: str
    md5: str
    """DVC's fingerprint of the file or folder."""
    items: int
    rejects: int
    classes: list[str]
    train: int
    labelled: int
    val: int
    test: int
    excluded: int
    revision: str = ""
    """The older version of the data that was asked for; empty for data as it was at the time."""


class Data(Section):
    """All datasets."""

    sources: list[DatasetRecord]
    target: DatasetRecord


class Foresight(Section):
    """What was predicted before the arms were trained, and how well it ranks what came of them."""

    advice: list[Advice]
    """Measures of each source on its features of the labelled items, best first."""
    sources: RankCorrelation
    """Of the advisor's rank of a source with its transfer gain on the test split."""
    methods: RankCorrelation
    """Of a method's validation log loss with its first seed, and its test accuracy."""


class Seconds(Section):
    """Wall time of this run; a step that was reused costs milliseconds."""

    total: float
    between: float
    """In which no step was at work: orchestration."""
    steps: dict[str, float]
    """Each step's; steps may overlap."""
    reused: list[str]
    """Steps whose stored result was used."""


class TimeBudget(Section):
    """The time that the run was given, and what there was no time for."""

    seconds: float
    """What was asked for."""
    spent: float
    """What it took, until this was written."""
    share: float
    """Of the steps in params.yaml that every training had; 1 where there was time for all."""
    left_out: dict[str, str]
    """Why, by name of each arm, source or search that was left out."""

    @property
    def ran_out(self) -> bool:
        """Whether a run without a budget would have done more."""
        return self.share < 1 or bool(self.left_out)


class Evaluation(Section):
    """Everything decided by data: no clock, no registry. The same inputs give the same bytes."""

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
    """Chosen model minus training from scratch."""
    sources: list[SourceGain]
    foresight: Foresight
    left_out: list[str]
    """Sources that validation would have used and the test showed to hurt."""
    scratch: Scratch
    chosen: Chosen
    oracle: Oracle
    arms: list[ArmResult]
    classes: list[ClassFigures]
    confusion: list[list[int]]
    """Rows are true classes, columns predicted ones, in the order of ``classes``."""
    reliability: list[ReliabilityBin]
    schemes: dict[str, float]
    """Cross-fitted validation log loss of each ensemble scheme that was tried; or, where the target
    has no label, the validator's score of each method, higher is better."""
    collapsed: dict[str, str]
    """Why, by name of the arms that were barred for putting nearly all items in few classes."""


class Result(Evaluation):
    """The whole run, as written to ``reports/retrain.json``."""

    schema_version: Literal[2] = 2
    promoted: bool
    """True when this run's model is the champion after it."""
    reasons: list[str]
    rules: list[RuleOutcome]
    model: str
    """Registered name, ``crosstrain-<target>``."""
    version: int | None
    """Version registered for this model, if it was registered."""
    mlflow_run: str
    data: Data
    seconds: Seconds
    budget: TimeBudget | None = None
    """None where there was none."""
    settings_digest: str
    code_revision: str
