"""Source pretraining: a network trained on the source, whose backbone later runs reuse."""

from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field

from transfer.core.config import Section
from transfer.data.items import TrainItems, normalisation
from transfer.methods.baselines.scratch import Scratch
from transfer.modalities import lookup
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.interface import InputSpec
from transfer.modalities.normalisation import Normalisation
from transfer.modalities.sections import AnyAugmentation
from transfer.models import checkpoint
from transfer.models.checkpoint import Keeper
from transfer.models.network import Network, build
from transfer.models.parameter_transfer import Knowledge
from transfer.training.batches import blank_input
from transfer.training.cpu_threads import worthwhile
from transfer.training.history import History
from transfer.training.loop import Watch, fit
from transfer.training.recipe import Machine, Recipe, TrainingSettings


class PretrainSettings(Section):
    """How the backbone is trained on a source."""

    training: TrainingSettings = TrainingSettings(steps=600, batch_size=64, label_smoothing=0.1)
    """How it is optimised."""
    learning_rate: float = Field(4e-3, gt=0)
    """Peak learning rate."""
    look_every: int = Field(100, ge=1)
    """Optimiser steps between two evaluations on the source's validation split."""
    patience: int = Field(4, ge=1)
    """Evaluations in a row without a better validation loss after which training stops."""
    seed: int = 0
    """Random seed of weights, order and augmentation."""
    jointly: bool = False
    """With several source datasets, also train a backbone on all of them together."""
    augment: AnyAugmentation = lookup.default().pretrain_augmentation
    """Augmentation of the source: stronger than the target's, so that features depend less on the
    source's own conditions. The default is the modality's."""


class KnowledgeCard(Section):
    """What a pretrained network was trained on, and its accuracy there."""

    source: str
    class_names: tuple[str, ...]
    normal: Normalisation
    fixed_normal: bool = False
    backbone_spec: BackboneSpec
    validation_accuracy: float | None = None
    """On the source's validation split, 0..1; None for weights that come with a package."""
    steps: int = 0
    history: dict[str, list[float]] = Field(default_factory=dict)


def pretrain(
    name: str,
    class_names: tuple[str, ...],
    items: TrainItems,
    validation: TrainItems,
    *,
    backbone_spec: BackboneSpec,
    spec: InputSpec,
    settings: PretrainSettings,
    machine: Machine,
    out: Path,
    keeper: Keeper | None = None,
    on_step: Callable[[int, int], None] | None = None,
    loop: Callable[..., tuple[Network, History]] = fit,
) -> KnowledgeCard:
    """Train on the source with early stopping and write the network and its card to ``out``.

    ``loop`` is the training loop: that of one process, or
    `transfer.training.data_parallel.fit_together`. It gets as many of this thread's numeric threads
    as a step keeps busy.
    """
    method = Scratch(learning_rate=settings.learning_rate)
    network = build(backbone_spec, spec=spec, classes=len(class_names), seed=settings.seed)
    normal, names = normalisation(items, spec), len(class_names)
    recipe = Recipe(settings.training, settings.augment, normal, names, machine, spec=spec)
    worth = worthwhile(network, blank_input(recipe), settings.training.batch_size)
    torch.set_num_threads(min(torch.get_num_threads(), worth))  # never more than the caller allows
    trained, history = loop(
        method,
        method.prepare(network, None, class_names),
        items,
        recipe,
        seed=settings.seed,
        watch=Watch(validation, settings.look_every, settings.patience),
        keeper=keeper,
        on_step=on_step,
    )
    card = KnowledgeCard(
        source=name,
        class_names=class_names,
        normal=recipe.normal,
        backbone_spec=backbone_spec,
        validation_accuracy=_accuracy_of_best(history),
        steps=history.step[-1],
        history={key: [float(v) for v in values] for key, values in vars(history).items()},
    )
    checkpoint.save_model(out, card, trained.state_dict())
    return card


def _accuracy_of_best(history: History) -> float:
    best = history.validation_loss.index(min(history.validation_loss))
    return history.validation_accuracy[best]


def load(folder: Path) -> Knowledge:
    """Read what `pretrain` wrote.

    Raises:
        ModelFileError: a file is missing, damaged or of another version.
    """
    card = load_card(folder)
    state = checkpoint.load_state(folder)
    return Knowledge(
        card.source, card.class_names, state, card.backbone_spec, card.normal, card.fixed_normal
    )


def load_card(folder: Path) -> KnowledgeCard:
    """Read the card that `pretrain` or `keep` wrote.

    Raises:
        ModelFileError: the card is missing, damaged or of another version.
    """
    return checkpoint.load_card(folder, KnowledgeCard)


def keep(knowledge: Knowledge, out: Path) -> None:
    """Write knowledge that was not trained here, for `load` to read."""
    card = KnowledgeCard(
        source=knowledge.source,
        class_names=knowledge.class_names,
        normal=knowledge.normal,
        fixed_normal=knowledge.fixed_normal,
        backbone_spec=knowledge.backbone_spec,
    )
    checkpoint.save_model(out, card, knowledge.state)
