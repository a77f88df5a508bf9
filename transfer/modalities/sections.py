"""Types of the sections of settings that every modality has a class of its own for.

Where one modality is installed each is its class, else the union of the classes of all.
"""

from typing import TYPE_CHECKING

from transfer.modalities import lookup

if TYPE_CHECKING:
    from transfer.modalities.interface import Augmentation as AnyAugmentation
    from transfer.modalities.interface import BackboneSettings as AnyBackbone
    from transfer.modalities.interface import InputSettings as AnyInput
else:
    AnyInput = lookup.kinds("settings")
    AnyAugmentation = lookup.kinds("augmentation")
    AnyBackbone = lookup.kinds("backbone")
