"""Checks that what a method declares frozen does not change, running statistics included."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transfer.core.errors import CrosstrainError
from transfer.training.method import Prepared


class Frozen:
    """The tensors that `Prepared.frozen` names, as they were when training began.

    Args:
        prepared: the network and its helpers, on the device where they train.
        name: of the method, for messages.

    Raises:
        ValueError: a frozen parameter has a learning rate; something frozen belongs neither to the
            network nor to its helpers; or features of the backbone are computed once
            (`Prepared.views`) and the backbone is not frozen.
    """

    def __init__(self, prepared: Prepared, name: str) -> None:
        self.name = name
        declared = {id(tensor) for tensor in _declared(prepared)}
        self._tensors = {key: t for key, t in _tensors(prepared) if id(t) in declared}
        self._check_declaration(prepared, declared)
        self._before = {key: t.detach().clone() for key, t in self._tensors.items()}

    def _check_declaration(self, prepared: Prepared, declared: set[int]) -> None:
        trained = {id(p) for parameters, _ in prepared.rates for p in parameters}
        if both := [key for key, tensor in self._tensors.items() if id(tensor) in trained]:
            raise ValueError(
                f"{self.name} declares {both[0]} frozen and gives it a learning rate; expected one "
                "of the two: leave it out of Prepared.frozen or out of Prepared.rates"
            )
        if declared - {id(tensor) for tensor in self._tensors.values()}:
            raise ValueError(
                f"{self.name} declares something frozen that is neither in the network nor in its "
                "helpers; expected modules or parameters of Prepared.network or Prepared.helpers"
            )
        backbone = prepared.network.backbone
        if prepared.views and not {id(tensor) for tensor in _own(backbone)} <= declared:
            raise ValueError(
                f"{self.name} trains on stored features (views={prepared.views}) of a backbone "
                "that is not frozen; expected Prepared(..., frozen=[network.backbone])"
            )

    def __contains__(self, name: object) -> bool:
        """Whether a tensor of the network, by its name there, is frozen."""
        return name in self._tensors

    def check(self) -> None:
        """Compare every frozen tensor with its initial value, bit for bit.

        Raises:
            CrosstrainError: the method changed a frozen tensor.
        """
        for key, before in self._before.items():
            if not torch.equal(self._tensors[key], before):
                raise CrosstrainError(
                    f"{self.name} declares {key} frozen and changed it while training; expected it "
                    "to stay as prepared: do not write to it, or call train() on its module, in "
                    "loss or after_step, or leave it out of Prepared.frozen"
                )


def _declared(prepared: Prepared) -> Iterator[Tensor]:
    for part in prepared.frozen:
        yield from _own(part) if isinstance(part, nn.Module) else (part,)


def _tensors(prepared: Prepared) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer, by its name; those of helpers begin with ``helpers.``"""
    for prefix, module in (("", prepared.network), ("helpers.", prepared.helpers)):
        for key, tensor in (*module.named_parameters(), *module.named_buffers()):
            yield prefix + key, tensor


def _own(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
