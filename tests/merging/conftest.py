"""Small token fields with real structure, for every test of merging."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from trifocal.bench.merge import timing_video


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on several threads of a busy machine wait for each other more than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def field() -> Callable[..., torch.Tensor]:
    """`field(T, H, W, C, seed)` in float32: scenes, cuts, drift and a moving box, so that some of it merges."""

    def make(frames: int, height: int, width: int, channels: int = 32, seed: int = 0) -> torch.Tensor:
        return timing_video(frames, height=height, width=width, channels=channels, seed=seed).float()

    return make
