"""An arm: one method, one seed, adapted to the target's labelled items.

With few labels an arm is a cross-validation committee (Parmanto, Munro and Doyle, 1996): the
labelled items are divided into folds, one network is trained on the rest of each, and the arm's
class scores are the mean of its networks'. Each item's *out-of-fold* scores come from the
network that was not trained on it, so that arms are compared and calibrated without a validation
split. With many labels an arm is one network, compared on the validation split.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from transfer.arms.trainer import Target, Trainer
from transfer.core import plugins
from transfer.core.config import Section
from transfer.data.items import PoolItems, TrainItems
from transfer.data.splits import folds
from transfer.data.storage.tensor_store import taken
from transfer.methods.lookup import known
from transfer.metrics import calibration
from transfer.modalities.normalisation import Normalisation
from transfer.models import checkpoint
from transfer.models.checkpoint import Keeper
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge, Transfer
from transfer.models.predictor import Card, Member, tensor_name
from transfer.selection import label_free
from transfer.selection.label_free import Arrays
from transfer.selection.validator import VALIDATORS
from transfer.training.batches import logits
from transfer.training.history import History
from transfer.training.method import Method
from transfer.training.recipe import Recipe, TrainingSettings


class AdaptSettings(Section):
    """The arms: every method with every seed, with the same number of optimiser steps."""

    methods: tuple[str, ...] = ("scratch", "linear_probe", "fine_tune", "l2_sp")
    """Names of transfer methods, see docs/methods.md; `scratch` is always run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Random seeds; every method is trained once per seed."""
    finalists: int | None = Field(None, ge=1)
    """How many methods are trained with more than the first seed: the best, and those within the
    standard error of them. Null: all. `scratch` always is, and so are all if the target has no
    label."""
    trials: int = Field(0, ge=0)
    """Trials of the hyper-parameter search for `scratch` and for each method (each finalist), by
    validation loss; 0: no search. Needs the extra `search` and labels."""
    best_sources: int | None = Field(None, ge=1)
    """How many sources arms are trained on: the advisor's best. Null: all, and so for a target
    without labels, for which the advisor cannot rank sources."""
    tune_packages: bool = False
    """Also train the backbones in `pretrained`, which are large: slow without a GPU."""
    unlabelled_methods: tuple[str, ...] = ("adabn", "mmd", "entropy", "shot", "fixmatch")
    """Used instead of `methods` if the target has no label; `source_only` is always run."""
    validator: str = "agreement"
    """How the model is chosen if the target has no label: the name of a validator."""
    folds: int | None = Field(None, ge=0, le=20)
    """Cross-validation folds within the labelled items; 0: choose on the validation split; null:
    3 folds if there are fewer than `few` labelled items, else the validation split."""
    few: int = Field(1000, ge=0)
    """Number of labelled items below which folds are used if `folds` is null."""
    training: TrainingSettings = TrainingSettings()
    """How each network of an arm is optimised; the same for every arm and fold."""

    @field_validator("methods")
    @classmethod
    def _use_the_source(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        methods = known()
        if unknown := [name for name in names if name not in methods]:
            raise ValueError(f"there is no {unknown[0]!r}; expected some of {', '.join(methods)}")
        if not any(methods[name].uses_source for name in names):
            raise ValueError("expected at least one method that uses the source")
        return names

    @field_validator("unlabelled_methods")
    @classmethod
    def _need_no_labels(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        free = [name for name, kind in known().items() if not kind.needs_labels]
        if unfit := [name for name in names if name not in free]:
            raise ValueError(f"{unfit[0]!r} needs labels; expected some of {', '.join(free)}")
        return names

    @field_validator("validator")
    @classmethod
    def _validator_exists(cls, name: str) -> str:
        if name not in (names := plugins.names(VALIDATORS)):
            raise ValueError(f"there is no {name!r}; expected one of {', '.join(names)}")
        return name

    @field_validator("folds")
    @classmethod
    def _is_not_one(cls, folds: int | None) -> int | None:
        if folds == 1:
            raise ValueError("one fold leaves nothing to train on; expected 0, or 2 and more")
        return folds

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError("expected one seed or more, all different")
        return seeds

    def folds_for(self, labelled: int) -> int:
        """Folds to use with that many labelled items."""
        if self.folds is not None:
            return self.folds
        return 3 if labelled < self.few else 0


@dataclass(frozen=True)
class Arm:
    """A finished arm; N items are the labelled ones, or the validation split's."""

    method: str
    seed: int
    networks: tuple[Network, ...]
    scores: Tensor  # N x K, out of fold or of the validation items
    judged: TrainItems | PoolItems
    histories: tuple[History, ...]
    transfers: tuple[Transfer, ...]
    normal: Normalisation
    steps: int
    """Optimiser steps that each network took."""
    notes: tuple[dict[str, float | str], ...] = ()
    """The method's notes on each network."""
    validator_inputs: Arrays | None = None
    """What validators may read, if no item of the target is labelled."""


def adapt(
    name: str,
    method: Method,
    knowledge: Sequence[Knowledge],
    target: Target,
    recipe: Recipe,
    *,
    seed: int,
    keeper: Callable[[int, int], Keeper] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Arm:
    """Train one arm.

    Args:
        name: the method's name.
        method: the method.
        knowledge: the sources it transfers from: none, one, or for a method that combines
            sources, all.
        target: items, classes and folds.
        recipe: optimisation, augmentation, normalisation and machine, equal for every arm.
        seed: of weights, folds, order and augmentation.
        keeper: makes the checkpoint keeper of a fold's phase.
        on_step: called with (steps done, steps in all) over all folds.
    """
    items, n_folds = target.labelled, max(target.folds, 1)
    fold_of = np.full(len(items), -1)
    if target.folds:
        fold_of = folds.assign(items.labels.numpy(), items.groups.tolist(), n_folds, seed)
    judged = _judged(target)
    scores = torch.zeros(len(judged), len(target.class_names))
    trainers, results = [], []
    for fold in range(n_folds):
        trainer = Trainer(
            method,
            knowledge,
            target,
            recipe,
            seed * 1000 + fold,
            fold_of != fold,
            partial(keeper, fold) if keeper else None,
            _shifted(on_step, fold, n_folds),
        )
        trained = trainer.train()
        rows = np.flatnonzero(fold_of == fold) if target.folds else np.arange(len(judged))
        records = taken(judged.records, rows)
        inputs = trainer.input_recipe(trained)
        scores[torch.from_numpy(rows)] = logits(trained.network, records, inputs)
        trained.network.cpu()
        trainers.append(trainer)
        results.append(trained)
    return Arm(
        name,
        seed,
        merged([trained.network for trained in results]),
        scores,
        judged,
        tuple(trainer.history for trainer in trainers),
        tuple(results[-1].transfers),
        trainers[-1].input_recipe(results[-1]).normal,
        trainers[-1].steps,
        tuple(trained.notes for trained in results),
        _validator_inputs(results[-1].network, trainers[-1].input_recipe(results[-1]), target),
    )


def _validator_inputs(network: Network, recipe: Recipe, target: Target) -> Arrays | None:
    if len(target.labelled) or not (target.pool and target.source and target.source_held):
        return None
    network.to(recipe.machine.device)
    arrays = label_free.collect_outputs(
        network, recipe, target.pool, target.source, target.source_held, target.class_names
    )
    network.cpu()
    return arrays


def _judged(target: Target) -> TrainItems | PoolItems:
    """The items whose scores choose among arms; the unlabelled pool if there are no labels."""
    if target.validation is not None:
        return target.validation
    if len(target.labelled) or target.pool is None:
        return target.labelled
    return target.pool


def merged(networks: Sequence[Network]) -> tuple[Network, ...]:
    """A committee as one network, if its networks' backbones are equal bit for bit.

    Class scores are linear in the head, so the mean of the heads gives the mean of the scores.
    """
    first, *others = networks
    own = first.backbone.state_dict()
    for other in others:
        state = other.backbone.state_dict()
        if other.backbone_spec != first.backbone_spec or any(
            not torch.equal(own[k], state[k]) for k in own
        ):
            return tuple(networks)
    with torch.no_grad():
        for name, parameter in first.head.named_parameters():
            parameter.copy_(torch.stack([n.head.get_parameter(name) for n in networks]).mean(0))
    return (first,)


def _shifted(
    on_step: Callable[[int, int], None] | None, fold: int, n_folds: int
) -> Callable[[int, int], None] | None:
    if on_step is None:
        return None
    return lambda done, steps: on_step(fold * steps + done, n_folds * steps)


def save(arm: Arm, target: Target, out: Path) -> None:
    """Write an arm into an existing folder: a model that `transfer.models.predictor` loads,
    out-of-fold scores (``oof.npz``) or the inputs of validators (``label_free.npz``), curves
    (``history.json``), the transfer map (``transfers.json``) and the method's notes
    (``notes.json``)."""
    temperature = calibration.fit_temperature(*_keep_scores(arm, out))
    member = Member(
        arm=f"{arm.method}/{arm.seed}",
        weight=1.0,
        temperature=temperature,
        networks=len(arm.networks),
        steps=arm.steps,
        backbone_spec=arm.networks[0].backbone_spec,
        normal=arm.normal,
    )
    card = Card(
        target=target.name,
        class_names=target.class_names,
        spec=target.spec,
        limits=target.limits,
        members=(member,),
    )
    state = {
        tensor_name(0, n, key): tensor
        for n, network in enumerate(arm.networks)
        for key, tensor in network.state_dict().items()
    }
    checkpoint.save_model(out, card, state)
    (out / "history.json").write_text(json.dumps([vars(h) for h in arm.histories]))
    (out / "notes.json").write_text(json.dumps(arm.notes, indent=1))
    (out / "transfers.json").write_text(
        json.dumps([t.model_dump() for t in arm.transfers], indent=1)
    )


def _keep_scores(arm: Arm, out: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Write the data that arms are compared on; return scores and labels to calibrate on. If no
    item of the target is labelled, these are the source's."""
    if arm.validator_inputs is not None:
        label_free.save(arm.validator_inputs, out)
        return arm.validator_inputs["source_logits"], arm.validator_inputs["source_labels"]
    assert isinstance(arm.judged, TrainItems)
    scores, labels = arm.scores.numpy(), arm.judged.labels.numpy()
    np.savez(out / "oof.npz", logits=scores, labels=labels, ids=arm.judged.ids)
    return scores, labels


def compose(
    arms: Sequence[Path],
    weights: Sequence[float],
    out: Path,
    *,
    names: Sequence[str],
    data: dict[str, str],
    settings_digest: str,
) -> Card:
    """Write the weighted sum of arms as one model folder; arms of weight zero are left out.

    ``names`` are the names of the arms in this run: a stored arm may be older than the sources
    that its name has to distinguish now. ``data`` (name to md5 of each dataset) and
    ``settings_digest`` record the model's origin.

    Raises:
        ModelFileError: an arm cannot be read.
    """
    state: dict[str, Tensor] = {}
    members: list[Member] = []
    for folder, weight, name in zip(arms, weights, names, strict=True):
        card = checkpoint.load_card(folder, Card)
        if weight <= 0:
            continue
        for key, tensor in checkpoint.load_state(folder).items():
            state[f"{len(members)}.{key.split('.', 1)[1]}"] = tensor
        changes = {"arm": name, "weight": float(weight)}
        members.append(card.members[0].model_copy(update=changes))
    origin = {"data": data, "settings_digest": settings_digest}
    composed = card.model_copy(update={"members": tuple(members), **origin})
    checkpoint.save_model(out, composed, state)
    return composed
