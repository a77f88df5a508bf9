"""Any classifier of the package torchvision (Marcel and Rodriguez, 2010), which is optional.

Nothing is downloaded; `transfer.modalities.image.networks.pretrained.from_file` takes weights from
a file.
"""

from importlib import import_module

from torch import nn

from transfer.core.errors import SettingsError
from transfer.modalities.backbone import Backbone
from transfer.modalities.image.networks.imagenet import IMAGENET, Wrapped, missing


def build(*, channels: int, name: str = "resnet18", size: int = 128) -> Backbone:
    """Make a network of torchvision with random weights and without its last linear layer.

    Args:
        channels: of the images, 1 or 3.
        name: torchvision's name of the network.
        size: pixels a side that images are resized to.

    Raises:
        MissingPackageError: torchvision is not installed, or does not fit the installed torch.
        SettingsError: the network's last layer is not linear.
    """
    try:
        models = import_module("torchvision.models")
    except Exception as error:  # a version for another torch can raise any error
        raise missing("torchvision", error) from error
    net = models.get_model(name, weights=None)
    place, last = list(net.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        raise SettingsError(
            f"torchvision's {name} ends in {type(last).__name__}; expected a linear classifier: "
            "choose another network"
        )
    net.set_submodule(place, nn.Identity())
    return Wrapped(channels, size, IMAGENET, net, last.in_features)
