"""A moving average of the weights, kept in float32 beside the model and put in its place for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of parameters.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the first weights are forgotten soon.

    Args:
        parameters: by name, the live parameters.
        decay: in [0, 1).
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, decay: float) -> None:
        """Begin with a copy of the parameters."""
        self._live = dict(parameters)
        self.values = {name: one.detach().float().clone() for name, one in parameters.items()}
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live parameters, once per optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, one in self._live.items():
            self.values[name].lerp_(one.detach().float(), 1.0 - decay)

    def load(self, values: Mapping[str, Tensor], *, updates: int) -> None:
        """Take over a saved average."""
        for name, saved in values.items():
            self.values[name].copy_(saved)
        self.updates = updates

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Around an evaluation: the model has the averaged weights inside, and its own again afterwards."""
        own = {name: one.detach().clone() for name, one in self._live.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, one in self._live.items():
            one.copy_(values[name])
