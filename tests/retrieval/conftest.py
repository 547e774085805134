"""What the find lens's tests share: random unit vectors and videos with planted segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trifocal.retrieval import Prototypes

Units = Callable[..., NDArray[np.float32]]
MakePrototypes = Callable[..., Prototypes]


def unit_rows(rows: int, dim: int, *, seed: int = 0) -> NDArray[np.float32]:
    """(rows, dim) random unit vectors."""
    values = np.random.default_rng(seed).normal(size=(rows, dim))
    unit: NDArray[np.float32] = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="session")
def units() -> Units:
    return unit_rows


@pytest.fixture(scope="session")
def make_prototypes() -> MakePrototypes:
    def make(k: int = 4, dim: int = 16, *, seed: int = 0, length_s: float = 2.0) -> Prototypes:
        edges = np.arange(k + 1) * length_s
        return Prototypes(
            vectors=unit_rows(k, dim, seed=seed).astype(np.float16),
            spans_s=np.stack([edges[:-1], edges[1:]], axis=1).astype(np.float32),
        )

    return make


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other's processors make small networks many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
