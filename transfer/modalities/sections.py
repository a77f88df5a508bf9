"""Types of those sections of the settings for which every modality has its own class.

Where one modality is installed, each type is that modality's class; else it is the union of the
classes of all modalities.
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
