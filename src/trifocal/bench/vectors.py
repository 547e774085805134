"""Stand-in collections for the benchmarks of search: clustered, as real ones are, and cheap to draw.

Pure noise would flatter and wrong approximate engines at once: its nearest neighbours are no nearer than the rest. Here
every video belongs to a few of `TOPICS` directions, its prototypes lie around them, and a query is a prototype of some
video moved away from it. It is still synthetic: recall on it is a comparison, not a promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trifocal.retrieval import IndexItem, Prototypes, VideoFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["DIM", "K", "clustered_queries", "clustered_videos"]

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


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit
