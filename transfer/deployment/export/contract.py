"""The metadata of an exported file: input, output, classes and origin."""

import json

from transfer.modalities import lookup
from transfer.models.predictor import Card

INPUT, OUTPUT = "inputs", "probabilities"


def contract(card: Card, version: int | None = None) -> dict[str, str]:
    """The entries of the file's metadata; all but plain strings are JSON.

    ``input`` suffices to prepare an item: type and shape of a record, what the modality needs to
    make one, and the limits of files in training.
    """
    spec, classes = card.spec, len(card.class_names)
    layout = lookup.of(spec).layout(spec)
    shown = {"name": INPUT, "dtype": layout.dtype, "shape": ["N", *layout.shape]}
    structured = {
        "class_names": card.class_names,
        "input": shown | spec.model_dump() | {"limits": card.limits.model_dump()},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["N", classes]},
        "members": {member.arm: member.weight for member in card.members},
        "data": card.data,
    }
    plain = {
        "made_by": "crosstrain",
        "contract": "1",
        "target": card.target,
        "version": "" if version is None else str(version),
        "settings_digest": card.settings_digest,
    }
    return plain | {
        name: json.dumps(value, ensure_ascii=False) for name, value in structured.items()
    }
