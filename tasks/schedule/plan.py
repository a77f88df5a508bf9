"""Which arms a run trains, and which of them get further seeds after their first."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from tasks.runtime import paths
from tasks.runtime.artifacts import ArmRef, Divided, Source
from tasks.runtime.step import log
from tasks.training.arm_files import files
from transfer.arms import plan as portfolio
from transfer.arms import pretrain
from transfer.arms.budget_policy import ArmKey, Standing
from transfer.arms.plan import ArmPlan, Offer
from transfer.core.errors import DataRefusedError, SettingsError
from transfer.data.manifest import Manifest
from transfer.evaluation.report_schema import Result
from transfer.methods.lookup import known
from transfer.modalities import lookup as modalities
from transfer.selection import model_selection
from transfer.settings.project import Settings


def check(settings: Settings, sources: Mapping[str, Divided], target: Divided) -> None:
    """Refuse, before anything is trained, settings and data that could not be trained.

    Raises:
        DataRefusedError: no item of the target is labelled, and no source has all its classes.
        SettingsError: a package that is asked for is not installed.
    """
    available = modalities.of(settings.input).available()
    if missing := {n: why for n in settings.pretrained if (why := available[n]) is not None}:
        raise SettingsError("; ".join(f"pretrained {name}: {why}" for name, why in missing.items()))
    if settings.adapt.trials and importlib.util.find_spec("optuna") is None:
        raise SettingsError("adapt.trials needs optuna: install crosstrain[search], or set it to 0")
    if settings.target.labels_per_class == 0:
        _check_covered(settings, sources, Manifest.load(target.scan.path).class_names)


def _check_covered(
    settings: Settings, sources: Mapping[str, Divided], classes: Sequence[str]
) -> None:
    lacks = {
        name: [c for c in classes if c not in Manifest.load(part.scan.path).class_names]
        for name, part in sources.items()
    }
    if all(lacks.values()):
        lacking = "; ".join(f"{name} lacks {', '.join(gone)}" for name, gone in lacks.items())
        raise DataRefusedError(
            f"{settings.target.label} is to be used without labels, and no source has all of its "
            f"classes: {lacking}. Expected a source with folders of these names, or "
            "target.labels_per_class above 0"
        )


def plans(settings: Settings, target: Divided, sources: Sequence[Source]) -> list[ArmPlan]:
    """The groups of arms of these sources; those that use none where there is no source.

    Raises:
        SettingsError: no method that is asked for can use any of the sources.
    """
    labelled = settings.target.labels_per_class != 0
    methods = settings.adapt.methods if labelled else settings.adapt.unlabelled_methods
    classes = Manifest.load(target.scan.path).class_names
    planned = portfolio.plan(
        methods,
        [_offer(source, classes) for source in sources],
        tune_packages=settings.adapt.tune_packages,
        labelled=labelled,
    )
    if sources:
        _check_used(methods, planned, sources)
    return [group for group in planned if bool(group.sources) == bool(sources)]


def _check_used(
    methods: Sequence[str], planned: Sequence[ArmPlan], sources: Sequence[Source]
) -> None:
    """Log which methods got no arm, and refuse when no arm uses a source."""
    names = ", ".join(source.name for source in sources)
    used = {group.method for group in planned}
    if unused := [name for name in methods if name not in used]:
        log.warning("no arm for %s: none of %s has what they read", ", ".join(unused), names)
    if not any(group.sources for group in planned):
        raise SettingsError(
            f"none of the methods {', '.join(methods)} can use what {names} offers; expected a "
            "method that can: see what each reads in docs/methods.md"
        )


def _offer(source: Source, classes: Sequence[str]) -> Offer:
    own = pretrain.load_card(source.knowledge.path).class_names
    covers = set(classes) <= set(own)
    return Offer(source.name, source.items is not None, source.trained_here, covers, source.parts)


def is_baseline(plan: ArmPlan, settings: Settings) -> bool:
    """Whether gains are measured against this group of arms."""
    return plan.method == ("source_only" if settings.target.labels_per_class == 0 else "scratch")


def likely(settings: Settings) -> ArmPlan:
    """Of the arms that use a source, those that are probably trained first, before sources are
    ranked."""
    labelled, kinds = settings.target.labels_per_class != 0, known()
    methods = settings.adapt.methods if labelled else settings.adapt.unlabelled_methods
    helped = [name for name in methods if kinds[name].uses_source]
    best = next((name for name in helped if kinds[name].trains_backbone), helped[0])
    return ArmPlan(best, (), best)


def ordered(
    planned: Sequence[ArmPlan], settings: Settings, ranked: Sequence[str] = ()
) -> list[ArmPlan]:
    """All plans but the baseline's, the most promising first: by their validation in the last run;
    then, of the best source first, a method that trains the backbone, those that do not, which cost
    little, and the others.

    Args:
        planned: the plans.
        settings: of the run; its methods are in the order of the settings.
        ranked: names of the sources, the best first.
    """
    before, place = _last_validation(settings), {name: i for i, name in enumerate(ranked)}
    kinds, first = known(), likely(settings).method

    def promise(plan: ArmPlan) -> tuple[float, ...]:
        source = max((place.get(name, len(place)) for name in plan.sources), default=len(place))
        tier = 0 if plan.method == first else 2 if kinds[plan.method].trains_backbone else 1
        return -before.get(plan.label, -1.0), source, tier

    return sorted((p for p in planned if not is_baseline(p, settings)), key=promise)


def by_validation(firsts: Sequence[ArmRef], settings: Settings) -> list[str]:
    """Labels of the groups that get further seeds, the best on validation first; in the given
    order if no item of the target is labelled."""
    going_on, _ = finalists(firsts, settings)
    labels = [group.label for group in going_on]
    if settings.target.labels_per_class == 0 or not firsts:
        return labels
    losses = model_selection.validation_losses(files(list(firsts))).mean(1)
    mean = {arm.plan.label: float(loss) for arm, loss in zip(firsts, losses, strict=True)}
    return sorted(labels, key=lambda label: (mean[label], label))


def decided(
    planned: Sequence[ArmPlan], done: Mapping[ArmKey, ArmRef], standing: Standing
) -> list[ArmRef]:
    """The arms on which the decision is based, in the order of a run without a budget."""
    labels = [group.label for group in planned]
    whole = [
        done[label, seed]
        for label in labels
        if label in standing.finalists
        for seed in standing.seeds
    ]
    first = standing.seeds[0]
    return whole + [
        replace(done[label, first], finalist=False) for label in labels if label in standing.tried
    ]


def _last_validation(settings: Settings) -> dict[str, float]:
    """Mean validation accuracy of each group of arms in the last run for this target."""
    try:
        last = Result.model_validate_json((paths.REPORTS / "retrain.json").read_text())
    except (OSError, ValueError):
        return {}
    accuracies: dict[str, list[float]] = {}
    for arm in last.arms if last.target == settings.target.label else ():
        if arm.validation is not None:
            accuracies.setdefault(arm.group, []).append(arm.validation)
    return {group: fmean(scores) for group, scores in accuracies.items()}


def finalists(arms: Sequence[ArmRef], settings: Settings) -> tuple[list[ArmPlan], list[ArmRef]]:
    """The plans that get all seeds, and the arms that were stopped after their first seed.

    Without a label of the target arms cannot be compared yet, and all get all seeds.
    """
    keep = settings.adapt.finalists
    if keep is None or settings.target.labels_per_class == 0:
        return [arm.plan for arm in arms], []
    losses = model_selection.validation_losses(files(list(arms)))
    best = portfolio.survivors(
        {arm.plan.label: loss for arm, loss in zip(arms, losses, strict=True)}, keep
    )
    log.info("going on with %d of %d: %s", len(best), len(arms), ", ".join(best))
    going_on = [arm.plan for arm in arms if arm.plan.label in best]
    return going_on, [replace(arm, finalist=False) for arm in arms if arm.plan.label not in best]
