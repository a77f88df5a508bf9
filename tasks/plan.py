"""Which arms a run trains, and which of them go on after their first seed."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.ensemble import files
from tasks.refs import ArmRef, Divided, Source
from tasks.step import log
from transfer import choice, portfolio, pretrain, pretrained
from transfer.errors import DataRefusedError, SettingsError
from transfer.portfolio import Offer, Plan
from transfer.sample import Manifest
from transfer.settings import Settings


def check(settings: Settings, sources: Mapping[str, Divided], target: Divided) -> None:
    """Refuse, before anything is trained, what could not be trained in the end.

    Raises:
        DataRefusedError: no item of the target is labelled, and no source knows all its classes.
        SettingsError: a package that is asked for is not installed.
    """
    available = pretrained.available()
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
        name: [c for c in classes if c not in Manifest.load(one.scan.path).class_names]
        for name, one in sources.items()
    }
    if all(lacks.values()):
        told = "; ".join(f"{name} lacks {', '.join(gone)}" for name, gone in lacks.items())
        raise DataRefusedError(
            f"{settings.target.label} is to be used without labels, and no source knows all of its "
            f"classes: {told}. Expected a source with folders of these names, or "
            "target.labels_per_class above 0"
        )


def plans(settings: Settings, target: Divided, sources: Sequence[Source]) -> list[Plan]:
    """The groups of arms of these sources; those that use none where there is no source.

    Raises:
        SettingsError: no method that is asked for can use any of the sources.
    """
    labelled = settings.target.labels_per_class != 0
    asked = settings.adapt.methods if labelled else settings.adapt.unlabelled_methods
    classes = Manifest.load(target.scan.path).class_names
    found = portfolio.plan(
        asked,
        [_offer(one, classes) for one in sources],
        tune_packages=settings.adapt.tune_packages,
        labelled=labelled,
    )
    if sources:
        _tell(asked, found, sources)
    return [one for one in found if bool(one.sources) == bool(sources)]


def _tell(asked: Sequence[str], found: Sequence[Plan], sources: Sequence[Source]) -> None:
    """Say which methods got no arm, and refuse when no arm uses a source."""
    names, planned = ", ".join(one.name for one in sources), {one.method for one in found}
    if gone := [name for name in asked if name not in planned]:
        log.warning("no arm for %s: none of %s has what they read", ", ".join(gone), names)
    if not any(one.sources for one in found):
        raise SettingsError(
            f"none of the methods {', '.join(asked)} can use what {names} offers; expected one "
            "that can: see what each reads in docs/methods.md"
        )


def _offer(source: Source, classes: Sequence[str]) -> Offer:
    known = pretrain.load_card(source.knowledge.path).class_names
    covers = set(classes) <= set(known)
    return Offer(source.name, source.items is not None, source.trained_here, covers, source.parts)


def finalists(arms: Sequence[ArmRef], settings: Settings) -> tuple[list[Plan], list[ArmRef]]:
    """The plans that go on to all seeds, and the arms that were stopped after their first one.

    Without a label of the target nothing is known of an arm yet, and all go on.
    """
    keep = settings.adapt.finalists
    if keep is None or settings.target.labels_per_class == 0:
        return [arm.plan for arm in arms], []
    losses = choice.validation_losses(files(list(arms)))
    best = portfolio.survivors(
        {arm.plan.label: loss for arm, loss in zip(arms, losses, strict=True)}, keep
    )
    log.info("going on with %d of %d: %s", len(best), len(arms), ", ".join(best))
    going_on = [arm.plan for arm in arms if arm.plan.label in best]
    return going_on, [replace(arm, finalist=False) for arm in arms if arm.plan.label not in best]
