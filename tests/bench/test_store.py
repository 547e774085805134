"""The benchmark of the store runs on a size that takes no time, and its recall is against the exact search."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from trifocal.bench import store
from trifocal.bench.vectors import clustered_queries, clustered_videos


def test_the_vectors_are_drawn_alike_and_clustered() -> None:
    first, again = (list(clustered_videos(300, seed=1)) for _ in "ab")
    assert [item.video for item in first] == sorted(item.video for item in first)
    assert all((a.prototypes.vectors == b.prototypes.vectors).all() for a, b in zip(first, again, strict=True))
    rows = first[0].prototypes.vectors.astype(np.float32)
    inside = np.sort((rows @ rows.T)[np.triu_indices(32, 1)])
    assert inside[-50] > 0.4  # of one topic
    assert inside[50] < 0.3  # of several
    queries = clustered_queries(20, videos=300, seed=1)
    assert queries.shape == (20, 384)
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


def test_it_measures_and_writes(tmp_path: Path) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("lancedb")
    out = tmp_path / "r.json"
    store.main(["--videos", "60", "--queries", "4", "--shares", "1.0", "--out", str(out)])
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["prototypes"], row["partitions"]) == (60 * 32, None)
    for way in (*row["ways"], row["all_rows"], row["in_a_folder_of_a_tenth"]):
        assert way["recall_at_10"] == 1
        assert 0 < way["p50_ms"] <= way["p95_ms"]
