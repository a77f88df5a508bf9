"""Which arms a run trains, and which of them go on after their first seed."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.ensemble import files
from tasks.refs import ArmRef, Source
from tasks.step import log
from transfer import choice, portfolio
from transfer.portfolio import Plan
from transfer.settings import Settings


def plans(settings: Settings, sources: Sequence[Source]) -> list[Plan]:
    """The groups of arms of these sources; those that use none where there is no source."""
    labelled = settings.target.labels_per_class != 0
    offers = [one.offer for one in sources if labelled or one.items is not None]
    found = portfolio.plan(
        settings.adapt.methods if labelled else settings.adapt.unlabelled_methods,
        offers,
        tune_packages=settings.adapt.tune_packages,
        baseline="scratch" if labelled else "source_only",
    )
    return [one for one in found if bool(one.sources) == bool(sources)]


def finalists(arms: Sequence[ArmRef], settings: Settings) -> tuple[list[Plan], list[ArmRef]]:
    """The plans that go on to all seeds, and the arms with their part in the choice."""
    keep = settings.adapt.finalists
    if keep is None:
        return [], list(arms)
    rivals = [arm for arm in arms if arm.plan.sources]
    losses = choice.validation_losses(files(rivals))
    best = portfolio.survivors(
        {arm.plan.label: loss for arm, loss in zip(rivals, losses, strict=True)}, keep
    )
    log.info("going on with %s of %d: %s", len(best), len(rivals), ", ".join(best))
    going_on = [arm.plan for arm in rivals if arm.plan.label in best]
    judged = [replace(arm, finalist=not arm.plan.sources or arm.plan.label in best) for arm in arms]
    return going_on, judged
