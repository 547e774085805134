"""The store engine's own: the search index and its recall, the filters' words, other processes, and sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput, LibraryDamaged, MissingExtra
from trifocal.retrieval import IndexItem, Prototypes, StoreIndex, VideoFilter
from trifocal.retrieval.index import store as store_module
from trifocal.retrieval.index.rows import admitted, named

MakeItem = Callable[..., IndexItem]
Query = Callable[..., Any]


def clustered(videos: int, *, k: int = 8, dim: int = 32) -> list[IndexItem]:
    """Videos around 40 centres."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, dim))
    items = []
    for number in range(videos):
        rows = centres[rng.integers(0, 40, k)] + rng.normal(scale=0.5, size=(k, dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        spans = np.stack([np.arange(k), np.arange(k) + 1], axis=1).astype(np.float32)
        items.append(IndexItem(f"v{number:05d}", Prototypes(vectors=rows.astype(np.float16), spans_s=spans)))
    return items


@pytest.fixture
def lancedb() -> Any:
    if not os.environ.get("CI"):
        return pytest.importorskip("lancedb")
    import lancedb

    return lancedb


@pytest.mark.usefixtures("lancedb")
def test_the_search_index(tmp_path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_INDEX_FROM_ROWS", 2000)
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
    assert index.search(queries[0], where=VideoFilter(folder="/nowhere")) == []
    index.remove([items[3].video])
    index.purge()
    trace = items[3].prototypes.vectors[0].tobytes()
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert stored
    assert not any(trace in path.read_bytes() for path in stored)
    assert len(index) == 499
    index.verify()


def test_conditions_are_quoted() -> None:
    assert named(["o'b", "a"]) == "video IN ('a', 'o''b')"
    where = VideoFilter(folder="/it's/", after_s=1)
    assert admitted(where) == "(folder = '/it''s' OR starts_with(folder, '/it''s/')) AND dated_s >= 1.0"
    assert admitted(VideoFilter()) == admitted(None) == ""


@pytest.mark.usefixtures("lancedb")
def test_names_that_try_to_be_more(tmp_path: Path, item: MakeItem, query: Query) -> None:
    index = StoreIndex.create(tmp_path / "store", encoder="e", dim=16)
    odd = ["x') OR ('1'='1", "ü ' \" \\", "a"]
    index.add((name, item(number).prototypes) for number, name in enumerate(odd))
    assert [moment.video for moment in index.search(query(), videos=[odd[0]])] == [odd[0]]
    index.remove([odd[0]])
    assert index.videos == tuple(sorted(odd[1:]))
    index.replace([(odd[1], item(9).prototypes)])
    assert (index.prototypes(odd[1]).vectors == item(9).prototypes.vectors).all()
    assert len(index) == 2


@pytest.mark.usefixtures("lancedb")
def test_what_is_no_index_is_said(tmp_path: Path, lancedb: Any, item: MakeItem) -> None:
    lancedb.connect(tmp_path / "other").create_table("prototypes", [{"video": "a", "k": 0}])
    with pytest.raises(LibraryDamaged):
        StoreIndex.open(tmp_path / "other")
    index = StoreIndex.create(tmp_path / "store", encoder="e", dim=16)
    with pytest.raises(InvalidInput, match="already"):
        StoreIndex.create(tmp_path / "store", encoder="e", dim=16)
    for options in ({"encoder": "", "dim": 16}, {"encoder": "e", "dim": 0}):
        with pytest.raises(InvalidInput):
            StoreIndex.create(tmp_path / "new", **options)  # type: ignore[arg-type]
    index.add([item(4)])
    index._table.delete("k = 1")
    with pytest.raises(LibraryDamaged, match="not complete"):
        index.verify()


def test_without_lancedb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtra, match=r"trifocal\[scale\]"):
        StoreIndex.create(tmp_path / "store", encoder="e", dim=16)


WRITER = """
import sys
import numpy as np
from trifocal.retrieval import Prototypes, StoreIndex
index = StoreIndex.open(sys.argv[1], encoder="e")
rows = np.eye(16, dtype=np.float16)
spans = np.stack([np.arange(16), np.arange(16) + 1], axis=1).astype(np.float32)
for number in range(100000):
    index.replace([(f"{sys.argv[2]}{number % 50:03d}", Prototypes(vectors=rows, spans_s=spans))])
    print(number, flush=True)
"""


@pytest.mark.usefixtures("lancedb")
def test_13_killed_while_writing_nothing_told_is_lost(tmp_path: Path) -> None:
    """Two processes write at once and are killed; what each had said is done is there, whole."""
    index = StoreIndex.create(tmp_path / "store", encoder="e", dim=16)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "store"), name], stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    done = {}
    for name, writer in zip("ab", writers, strict=True):
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(6)]
        writer.send_signal(signal.SIGKILL)
        done[name] = len((said + writer.stdout.read().splitlines())[:50])
        writer.wait()
        writer.stdout.close()
    index.verify()
    for name, count in done.items():
        assert {f"{name}{number:03d}" for number in range(count)} <= set(index.videos)
