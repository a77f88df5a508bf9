"""A perceptron of two layers."""

from torch import Tensor, nn

from transfer.modalities.backbone import Backbone


class Perceptron(Backbone):
    """Readings (N, L) to features (N, D)."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(length, width), nn.BatchNorm1d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.out_features = width

    def forward(self, readings: Tensor) -> Tensor:
        features: Tensor = self.second(self.first(readings))
        return features

    def stages(self) -> list[nn.Module]:
        return [self.first, self.second]
