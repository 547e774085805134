"""Stand-in collections for the benchmarks of search: clustered, as real ones are, and cheap to draw.

Pure noise would flatter and wrong approximate engines at once: its nearest neighbours are no nearer than the rest. Here
every video belongs to a few of `TOPICS` directions, its prototypes lie around them, and a query is a prototype of some
video moved away from it. It is still synthetic: recall on it is a comparison, not a promise.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.retrieval import ExactIndex, IndexItem, Prototypes, VideoFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DIM", "Drawn", "K", "clustered_queries", "clustered_videos", "exact_index"]

DIM, K = 384, 32
TOPICS, TOPICS_PER_VIDEO = 2000, 4
_VIDEOS_AT_ONCE = 256
# The noise around a topic, and between a query and what it asks for, as lengths beside the topic's length of 1.
_SPREAD, _QUERY_SPREAD = 0.8, 0.8


def clustered_videos(count: int, *, seed: int = 0) -> Iterator[IndexItem]:
    """Videos with 32 prototypes of 384 numbers, by id."""
    topics = _unit(np.random.default_rng(seed).standard_normal((TOPICS, DIM), dtype=np.float32))
    edges = np.arange(K + 1, dtype=np.float32) * 2
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    for start in range(0, count, _VIDEOS_AT_ONCE):
        rng = np.random.default_rng((seed, 1, start))
        videos = min(_VIDEOS_AT_ONCE, count - start)
        own = rng.integers(0, TOPICS, (videos, TOPICS_PER_VIDEO))
        chosen = np.take_along_axis(own, rng.integers(0, TOPICS_PER_VIDEO, (videos, K)), axis=1)
        noise = rng.standard_normal((videos, K, DIM), dtype=np.float32) * np.float32(_SPREAD / np.sqrt(DIM))
        rows = _unit(topics[chosen] + noise).astype(np.float16)
        for place in range(videos):
            number = start + place
            facts = VideoFacts(folder=f"/videos/{number % 10}", dated_s=60.0 * number, duration_s=64.0)
            yield IndexItem(f"{number:08d}", Prototypes(vectors=rows[place], spans_s=spans), facts)


def clustered_queries(count: int, *, videos: int, seed: int = 0) -> NDArray[np.float32]:
    """Queries (Nq, D), each near a prototype of one of the `videos`."""
    rng = np.random.default_rng((seed, 2))
    wanted = np.sort(rng.choice(min(videos, 10 * _VIDEOS_AT_ONCE), size=count))
    rows = []
    for number, item in enumerate(clustered_videos(int(wanted[-1]) + 1, seed=seed)):
        repeats = int((wanted == number).sum())
        rows += [item.prototypes.vectors[place].astype(np.float32) for place in rng.integers(0, K, repeats)]
    noise = rng.standard_normal((count, DIM), dtype=np.float32) * np.float32(_QUERY_SPREAD / np.sqrt(DIM))
    moved = _unit(np.stack(rows) + noise)
    shuffled: NDArray[np.float32] = moved[rng.permutation(count)]
    return shuffled


class Drawn:
    """Items, and the seconds that drawing them took, which are no part of what is measured."""

    def __init__(self, items: Iterable[IndexItem]) -> None:
        """Nothing is drawn yet."""
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[IndexItem]:
        """Pass the items on."""
        items = iter(self._items)
        while True:
            started = time.perf_counter()
            item = next(items, None)
            self.seconds += time.perf_counter() - started
            if item is None:
                return
            yield item


def exact_index(folder: Path, videos: int) -> tuple[ExactIndex, float]:
    """The exact index of `videos` clustered videos with both kinds of codes, and the seconds that building it took.

    Built when the folder does not hold it, whole, from an earlier run.
    """
    about = folder.with_name(f"{folder.name}.json")
    if not about.exists():
        shutil.rmtree(folder, ignore_errors=True)
        items, started = Drawn(clustered_videos(videos)), time.perf_counter()
        ExactIndex.build(folder, items, encoder="clustered", dim=DIM, codes=["int8", "binary"])
        built: dict[str, Any] = {"build_s": round(time.perf_counter() - started - items.seconds, 2)}
        about.write_text(json.dumps(built) + "\n", encoding="utf-8")
    return ExactIndex.open(folder), float(json.loads(about.read_text(encoding="utf-8"))["build_s"])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit
