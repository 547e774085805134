"""A small task with everything that randomness touches: dropout, shuffling, numpy noise, a norm with buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trifocal.training import Batches, EpochBatches, Task, rank_and_world

CONFIG: dict[str, Any] = {
    "epochs": 6,
    "lr": 0.01,
    "warmup": 0.1,
    "schedule": "cosine",
    "monitor": "error",
    "device": "cpu",
    "ema": 0.9,
}


class Curve(Task):
    """Fit y = sin(x) from noisy samples; `noisy=False` leaves all randomness but the order out."""

    version = "curve/1"

    def __init__(self, *, count: int = 24, batch: int = 8, noisy: bool = True, hidden: int = 16) -> None:
        torch.manual_seed(3)
        layers: list[nn.Module] = [nn.Linear(1, hidden), nn.Tanh()]
        if noisy:
            layers += [nn.BatchNorm1d(hidden), nn.Dropout(0.3)]
        self.model: nn.Module = nn.Sequential(*layers, nn.Linear(hidden, 1))
        self.x = torch.linspace(-2, 2, count)[:, None]
        self.y = torch.sin(self.x)
        self.batch, self.noisy = batch, noisy
        self.seen: list[list[int]] = []

    def collate(self, items: Sequence[int]) -> tuple[Tensor, Tensor]:
        self.seen.append(list(items))
        x = self.x[list(items)]
        if self.noisy:
            x = x + torch.from_numpy(np.random.normal(size=x.shape) * 0.01).float()  # noqa: NPY002
        return x, self.y[list(items)]

    def batches(self, epoch: int) -> Batches:
        rank, world = rank_and_world()
        return EpochBatches(len(self.x), batch=self.batch, collate=self.collate, epoch=epoch, rank=rank, world=world)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Mapping[str, Tensor]:
        error = self.model(batch[0]) - batch[1]
        return {"loss": error.square().mean(), "absolute": error.abs().mean()}

    def size(self, batch: tuple[Tensor, Tensor]) -> float:
        return float(len(batch[0]))

    def evaluate(self) -> Mapping[str, float]:
        torch.rand(5)  # an evaluation that draws must not change what training draws afterwards
        return {"error": float((self.model(self.x) - self.y).abs().mean())}

    def weights(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self.model.state_dict().items()}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_clock(history: tuple[Mapping[str, float], ...]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.fixture
def curve() -> type[Curve]:
    return Curve
