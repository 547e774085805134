"""Small indexes of both engines, made alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.retrieval import ExactIndex, IndexItem, Prototypes, VideoFacts
from trifocal.retrieval.index.store import StoreIndex

DIM = 16


def make_item(number: int, *, k: int | None = None, dim: int = DIM, seed: int | None = None) -> IndexItem:
    """A video with `k` prototypes of ten seconds each; its facts follow from its number."""
    count = k or 1 + number % 5
    rows = np.random.default_rng(number if seed is None else seed).normal(size=(count, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    edges = np.arange(count + 1, dtype=np.float32) * 10
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    facts = VideoFacts(
        folder=f"/home/v/{'a' if number % 2 else 'ab'}/{number}", dated_s=1000.0 * number, duration_s=10.0 * count
    )
    return IndexItem(
        f"video{number:03d}", Prototypes(vectors=rows.astype(np.float16), spans_s=spans), facts, f"s{number}"
    )


def clustered(videos: int, *, k: int = 8, dim: int = 32) -> list[IndexItem]:
    """Videos around 40 centres."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, dim))
    items = []
    for number in range(videos):
        rows = centres[rng.integers(0, 40, k)] + rng.normal(scale=0.5, size=(k, dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        spans = np.stack([np.arange(k), np.arange(k) + 1], axis=1).astype(np.float32)
        prototypes = Prototypes(vectors=rows.astype(np.float16), spans_s=spans)
        items.append(IndexItem(f"v{number:05d}", prototypes, VideoFacts(folder="/a" if number % 10 else "/b")))
    return items


def need_lancedb() -> None:
    """Skip without LanceDB; under CI it must be there."""
    try:
        import lancedb  # noqa: F401
    except ImportError:
        if os.environ.get("CI"):
            pytest.fail("LanceDB is not installed, and under CI its tests must run")
        pytest.skip("LanceDB is not installed")


@pytest.fixture
def lancedb() -> Any:
    """The library itself; skips without it, but not under CI."""
    if not os.environ.get("CI"):
        return pytest.importorskip("lancedb")
    import lancedb

    return lancedb


@pytest.fixture(scope="session")
def item() -> Callable[..., IndexItem]:
    """`make_item`."""
    return make_item


@pytest.fixture(params=["exact", "store"])
def make_index(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Makes an index of one engine from items."""

    def make(items: Any = (), *, name: str = "index", encoder: str = "e1", dim: int = DIM) -> Any:
        if request.param == "exact":
            index: Any = ExactIndex.build(tmp_path / name, [], encoder=encoder, dim=dim)
        else:
            need_lancedb()
            index = StoreIndex.create(tmp_path / name, encoder=encoder, dim=dim)
        index.add(items)
        return index

    return make


@pytest.fixture
def query() -> Callable[..., Any]:
    """A unit vector drawn from a seed."""

    def make(seed: int = 0, dim: int = DIM) -> Any:
        row = np.random.default_rng(10_000 + seed).normal(size=dim).astype(np.float32)
        return row / np.linalg.norm(row)

    return make
