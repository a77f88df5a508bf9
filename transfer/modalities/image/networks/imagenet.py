"""The inputs of networks made for ImageNet: colour images of one size, with fixed statistics.

Shapes: N images, C channels (1 or 3), H x W pixels, S x S the network's own size, D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer.core.errors import CrosstrainError
from transfer.modalities.backbone import Backbone
from transfer.modalities.normalisation import Normalisation

IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Statistics of the pixels of ImageNet, with which most of its networks were trained."""


def resized(images: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) at ``size`` pixels a side, (N, C, S, S).

    Enlarged by cubic interpolation; shrunk by the same with a filter against aliasing.
    """
    shrinks = max(images.shape[-2:]) > size
    return functional.interpolate(images, (size, size), mode="bicubic", antialias=shrinks)


class ImageNetBackbone(Backbone):
    """A backbone that repeats grey to three channels and resizes to its own size.

    Grey images are standardised by the mean of the three channels' statistics; `adapted` turns
    that into each channel's own, so that a grey image and its three equal channels give the same
    features.
    """

    normal: Normalisation
    """How the inputs must be standardised, with as many channels as the inputs have."""
    chunk: int = 32
    resize: Callable[[Tensor, int], Tensor] = staticmethod(resized)
    """How images are resized; an export replaces it by operations that other formats have."""
    ratio: Tensor
    shift: Tensor

    def __init__(self, channels: int, size: int, colour: Normalisation) -> None:
        super().__init__()
        self.size = size
        self.normal = colour if channels == 3 else grey(colour)
        mean, std = torch.tensor(colour.mean), torch.tensor(colour.std)
        own_mean, own_std = torch.tensor(self.normal.mean), torch.tensor(self.normal.std)
        self.register_buffer("ratio", (own_std / std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((own_mean - mean) / std).view(1, 3, 1, 1), persistent=False)

    def adapted(self, images: Tensor) -> Tensor:
        """Standardised images (N, C, H, W) as the network takes them, (N, 3, S, S)."""
        if images.shape[-2:] != (self.size, self.size):
            images = self.resize(images, self.size)
        if images.shape[1] == 3:
            return images
        return (images * self.ratio + self.shift).contiguous(memory_format=torch.channels_last)


class Wrapped(ImageNetBackbone):
    """A network of another package without its classifier: its output is features (N, D).

    Dropout is switched off: it would draw from torch's global generator, so that a training that
    was interrupted and continued would give other weights.
    """

    def __init__(
        self, channels: int, size: int, colour: Normalisation, net: nn.Module, features: int
    ) -> None:
        super().__init__(channels, size, colour)
        self.net, self.out_features = net, features
        for layer in net.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.net(self.adapted(images))
        return features

    def stages(self) -> list[nn.Module]:
        """The network's outermost parts that have weights; the network as a whole where it has
        weights outside these parts."""
        parts = _weighted(self.net)
        while len(parts) == 1 and isinstance(parts[0], nn.Sequential):
            parts = _weighted(parts[0])
        covered = sum(p.numel() for part in parts for p in part.parameters())
        whole = sum(p.numel() for p in self.net.parameters())
        return parts if covered == whole else [self.net]


def _weighted(net: nn.Module) -> list[nn.Module]:
    return [part for part in net.children() if any(True for _ in part.parameters())]


def grey(colour: Normalisation) -> Normalisation:
    """The statistics of a grey channel: the means over the three colour channels."""
    return Normalisation(mean=(sum(colour.mean) / 3,), std=(sum(colour.std) / 3,))


class MissingPackageError(CrosstrainError):
    """A backbone's package is not installed, or does not fit the others."""


def missing(package: str, why: Exception) -> MissingPackageError:
    """The error of a backbone whose package cannot be imported."""
    return MissingPackageError(
        f"the package {package} cannot be imported ({type(why).__name__}: {why}); this backbone "
        "needs it: pip install 'crosstrain[zoo]', in a version that fits the installed torch"
    )
