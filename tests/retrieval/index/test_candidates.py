"""Where a search looks: the search index of a large store, its recall, and what a filter leaves of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.retrieval.index.conftest import clustered

from trifocal.retrieval import StoreIndex, VideoFilter
from trifocal.retrieval.index import candidates as candidates_module

Query = Callable[..., Any]


@pytest.mark.usefixtures("lancedb")
def test_the_search_index(tmp_path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates_module, "_INDEX_FROM_ROWS", 2000)
    items = clustered(500)
    index = StoreIndex.create(tmp_path / "store", encoder="e", dim=32)
    index.add(items[:450])
    index.optimize()
    assert index.partitions() == 16
    index.add(items[450:])  # not in the search index yet, and found all the same
    last = items[-1].prototypes.vectors[0].astype(np.float32)
    assert index.search(last / np.linalg.norm(last), top=1)[0].video == items[-1].video
    index.optimize()
    queries = np.stack([items[n].prototypes.vectors[2].astype(np.float32) for n in range(0, 500, 25)])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert index.recall(queries, probes=16) > 0.9
    few = [index.recall(queries, probes=1), index.recall(queries)]
    assert few[0] <= few[1]
    for one in queries[:5]:
        exact = {moment.video: moment for moment in index.search(one, top=500, exact=True)}
        for moment in index.search(one):  # whatever is found has its exact score and span
            assert moment == exact[moment.video]
    for narrowed in ({"where": VideoFilter(folder="/b")}, {"videos": [item.video for item in items[::10]]}):
        for one in queries[:5]:  # little is left, and nothing of it is missed
            assert index.search(one, probes=1, **narrowed) == index.search(one, exact=True, **narrowed)
    assert index.search(queries[0], where=VideoFilter(folder="/nowhere")) == []
    index.remove([items[3].video])
    index.purge()
    trace = items[3].prototypes.vectors[0].tobytes()
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert stored
    assert not any(trace in path.read_bytes() for path in stored)
    assert len(index) == 499
    index.verify()
