"""Any network of the package timm (Wightman, PyTorch Image Models, 2019), which is optional.

Nothing is downloaded; `transfer.modalities.image.networks.pretrained.from_file` takes weights from
a file.
"""

from importlib import import_module

from transfer.modalities.backbone import Backbone
from transfer.modalities.image.networks.imagenet import Wrapped, missing
from transfer.modalities.normalisation import Normalisation


def build(*, channels: int, name: str = "resnet18", size: int = 128) -> Backbone:
    """Make a network of timm with random weights.

    Args:
        channels: of the images, 1 or 3.
        name: timm's name of the network.
        size: pixels a side that images are resized to; some networks take one size only.

    Raises:
        MissingPackageError: timm is not installed, or does not fit the other packages.
    """
    try:
        timm = import_module("timm")
    except Exception as error:  # a broken installation can raise any error
        raise missing("timm", error) from error
    net = timm.create_model(name, pretrained=False, num_classes=0)
    config = net.default_cfg
    colour = Normalisation(mean=tuple(config["mean"]), std=tuple(config["std"]))
    features = getattr(net, "head_hidden_size", None) or net.num_features
    return Wrapped(channels, size, colour, net, features)
