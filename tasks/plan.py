"""Which arms a run trains, and which of them go on after their first seed."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.ensemble import files
from tasks.refs import ArmRef, Divided, Source
from tasks.step import log
from transfer import choice, portfolio, pretrain
from transfer.errors import DataRefusedError
from transfer.portfolio import Offer, Plan
from transfer.sample import Manifest
from transfer.settings import Settings


def plans(settings: Settings, target: Divided, sources: Sequence[Source]) -> list[Plan]:
    """The groups of arms of these sources; those that use none where there is no source.

    Raises:
        DataRefusedError: no item of the target is labelled, and no source knows all its classes.
    """
    labelled = settings.target.labels_per_class != 0
    classes = Manifest.load(target.scan.path).class_names
    offers = [_offer(one, classes) for one in sources]
    if sources and not labelled and not any(offer.covers for offer in offers):
        raise DataRefusedError(
            f"{settings.target.label} is to be used without labels, and no source knows all of its "
            f"classes {', '.join(classes)}; expected a source with folders of these names, or "
            "target.labels_per_class above 0"
        )
    found = portfolio.plan(
        settings.adapt.methods if labelled else settings.adapt.unlabelled_methods,
        offers,
        tune_packages=settings.adapt.tune_packages,
        labelled=labelled,
    )
    return [one for one in found if bool(one.sources) == bool(sources)]


def _offer(source: Source, classes: Sequence[str]) -> Offer:
    known = pretrain.load_card(source.knowledge.path).class_names
    covers = set(classes) <= set(known)
    return Offer(source.name, source.items is not None, source.trained_here, covers)


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
