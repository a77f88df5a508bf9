"""A small residual network for 28 to 64 px, after He et al., CVPR 2016 (basic blocks)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from transfer.modalities.backbone import Backbone


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Block(nn.Module):
    """relu(x + f(x)), f two 3x3 convolutions with batch normalisation, and ``inner`` channels
    between them: those can be fewer than the outputs without touching the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, inner: int | None = None) -> None:
        super().__init__()
        inner = outputs if inner is None else inner
        self.first = _convolution(inputs, inner, stride)
        self.first_norm = nn.BatchNorm2d(inner)
        self.second = _convolution(inner, outputs)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        # In place where the gradient does not need the previous values: saves a pass over memory.
        hidden = functional.relu(self.first_norm(self.first(x)), inplace=True)
        total = self.second_norm(self.second(hidden)).add_(self.shortcut(x))
        return functional.relu(total, inplace=True)


class ResNet(Backbone):
    """A stem at full size, optionally pooled by two, then three blocks of 2, 4 and 8 times the
    stem's width; 300k parameters at width 16."""

    def __init__(
        self, channels: int, width: int, pool: bool, widths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        inner = _inner(widths, width)
        self.out_features = 8 * width
        self.stem = nn.Sequential(
            _convolution(channels, width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2) if pool else nn.Identity(),
        )
        self.block1 = Block(width, 2 * width, 1, inner[0])
        self.block2 = Block(2 * width, 4 * width, 2, inner[1])
        self.block3 = Block(4 * width, 8 * width, 2, inner[2])

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)  # N x w x H x W, or half of H and W
        x = self.block3(self.block2(self.block1(x)))  # N x 8w x a quarter of that
        return x.mean(dim=(2, 3))  # N x 8w

    def stages(self) -> list[nn.Module]:
        return [self.stem, self.block1, self.block2, self.block3]

    def prunable(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]]:
        """Layers around the channels whose number the option ``widths`` sets: the convolution with
        these outputs, their normalisation, and the convolution with these inputs."""
        blocks = (self.block1, self.block2, self.block3)
        return [(block.first, block.first_norm, block.second) for block in blocks]


def _inner(widths: Sequence[int] | None, width: int) -> Sequence[int]:
    if widths is None:
        return (2 * width, 4 * width, 8 * width)
    if len(widths) != 3 or min(widths) < 1:
        raise ValueError(
            f"found widths {list(widths)}; expected 3 numbers of 1 or more, one per block"
        )
    return widths


def build(
    *, channels: int, width: int = 16, pool: bool = True, widths: Sequence[int] | None = None
) -> Backbone:
    """Make the network with random weights.

    ``widths`` are the channels between the two convolutions of each of the three blocks; by default
    as many as the block's output has.

    Raises:
        ValueError: there are not three widths of 1 or more.
    """
    return ResNet(channels, width, pool, widths)
