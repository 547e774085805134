"""The store engine's own: the filters' words, what is erased, other processes, and sudden death."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.retrieval.index.conftest import clustered

from trifocal.errors import InvalidInput, LibraryDamaged, MissingExtra
from trifocal.retrieval import IndexItem, StoreIndex, VideoFilter
from trifocal.retrieval.index import candidates as candidates_module
from trifocal.retrieval.index.erasing import hide_and_loosen
from trifocal.retrieval.index.rows import admitted, named

MakeItem = Callable[..., IndexItem]
Query = Callable[..., Any]


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


def left_of(item: IndexItem, folder: Path) -> list[str]:
    """The files that hold the id or a vector of a video."""
    traces = [row.tobytes() for row in item.prototypes.vectors] + [item.video.encode()]
    stored = [path for path in folder.rglob("*") if path.is_file()]
    assert stored
    return [path.name for path in stored if any(trace in path.read_bytes() for trace in traces)]


@pytest.mark.usefixtures("lancedb")
def test_17_what_is_erased_leaves_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it in the search index, which is brought up to date and not trained again."""
    monkeypatch.setattr(candidates_module, "_INDEX_FROM_ROWS", 2000)
    items = clustered(500)
    index = StoreIndex.create(tmp_path / "store", encoder="e", dim=32)
    index.add(items)
    index.optimize()
    assert left_of(items[3], tmp_path)
    before = {path.name for path in (tmp_path / "store").glob("*/_indices/*")}

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the search index was trained again")

    monkeypatch.setattr(index._table, "create_index", forbidden)
    assert index.erase([items[3].video, items[77].video, "unknown"]) == 2
    assert left_of(items[3], tmp_path) + left_of(items[77], tmp_path) == []
    assert not before & {path.name for path in (tmp_path / "store").glob("*/_indices/*")}
    assert index.partitions() == 16
    assert index._table.index_stats("vector_idx").num_unindexed_rows == 0
    for number in (9, 10, 200, 450):  # erased again and again, it stays an index
        index.erase([items[number].video])
        assert left_of(items[number], tmp_path) == []
    index.verify()
    assert len(index) == 494
    asked = items[5].prototypes.vectors[1].astype(np.float32)
    queries = (asked / np.linalg.norm(asked))[None]
    assert index.recall(queries, probes=16) == 1
    assert index.erase([]) == 0


@pytest.mark.usefixtures("lancedb")
def test_an_erasure_that_was_cut_is_completed(tmp_path: Path) -> None:
    items = clustered(60)
    index = StoreIndex.create(tmp_path / "store", encoder="e", dim=32)
    index.add(items)
    assert hide_and_loosen(index._table, named([items[7].video])) == 8  # and killed before it swept
    assert len(index) == 59
    assert left_of(items[7], tmp_path)
    index.erase([items[7].video])
    assert left_of(items[7], tmp_path) == []


WRITER = """
import sys
from pathlib import Path
import numpy as np
from trifocal.retrieval import IndexItem, Prototypes, StoreIndex
from trifocal.retrieval.index import candidates
candidates._INDEX_FROM_ROWS = 500
verb, kind = sys.argv[2], sys.argv[3]
index = StoreIndex.open(sys.argv[1], encoder="e")

def items(first, count, stamp):
    for number in range(first, first + count):
        rows = np.random.default_rng(number).normal(size=(8, 16))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        spans = np.stack([np.arange(8), np.arange(8) + 1], axis=1).astype(np.float32)
        yield IndexItem(f"v{number:04d}", Prototypes(vectors=rows.astype(np.float16), spans_s=spans), stamp=stamp)

def work(turn):
    names = [f"v{number:04d}" for number in range(10 * turn, 10 * turn + 10)]
    if verb == "add":
        index.add(items(1000 + 10 * turn, 10, ""))
    elif verb == "replace":
        index.replace(items(10 * turn, 10, f"turn {turn}"))
    elif verb == "optimize":
        index.optimize()
    elif verb == "purge":
        index.purge()
    else:
        getattr(index, verb)(names)

if kind == "make":
    index.add(items(0, 200, ""))
else:
    for turn in range(20):
        print("begin", flush=True)
        work(turn)
        print("done", flush=True)
"""
VERBS = ("add", "replace", "remove", "erase", "optimize", "purge")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 200 videos."""
    if not os.environ.get("CI"):
        pytest.importorskip("lancedb")
    folder = tmp_path_factory.mktemp("base") / "store"
    StoreIndex.create(folder, encoder="e", dim=16)
    subprocess.run([sys.executable, "-c", WRITER, str(folder), "add", "make"], check=True)
    return folder


def after(verb: str, turns: int) -> dict[str, str]:
    """The videos and their stamps when a verb was done so many times."""
    stamps = {f"v{number:04d}": "" for number in range(200)}
    touched = [f"v{number:04d}" for number in range(10 * turns)]
    if verb == "add":
        stamps |= {f"v{number:04d}": "" for number in range(1000, 1000 + 10 * turns)}
    elif verb == "replace":
        stamps |= {name: f"turn {place // 10}" for place, name in enumerate(touched)}
    elif verb in ("remove", "erase"):
        stamps = {name: stamp for name, stamp in stamps.items() if name not in touched}
    return stamps


@pytest.mark.parametrize("verb", VERBS)
def test_13_killed_within_any_verb(tmp_path: Path, base: Path, verb: str) -> None:
    """Killed at a drawn moment of the second or third turn: what was done is there, what was not is whole or not."""
    folder = tmp_path / "store"
    shutil.copytree(base, folder)
    rng = random.Random(verb)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), verb, "work"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer.stdout as said:
        lines = [said.readline()]
        started = time.monotonic()
        lines += [said.readline()]
        took_s = time.monotonic() - started
        turns = rng.choice([1, 2])
        while lines.count("done\n") < turns:
            lines.append(said.readline())
            assert lines[-1], "it ended by itself"
        time.sleep(rng.random() * took_s)
        writer.send_signal(signal.SIGKILL)
        done = (lines + said.readlines()).count("done\n")
    assert writer.wait() == -signal.SIGKILL, "it ended before it was killed"
    index = StoreIndex.open(folder, encoder="e")
    index.verify()
    assert index.stamps() in (after(verb, done), after(verb, done + 1))
    gone = sorted({f"v{number:04d}" for number in range(200)} - index.stamps().keys())
    index.erase([])  # what was cut is completed, and the store works on
    if verb == "erase":
        stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert gone
        assert not [name for name in gone if name.encode() in stored]
    index.replace(clustered(1, k=3, dim=16))
    assert index.search(np.eye(16, dtype=np.float32)[0], top=1)


TWO_WRITERS = """
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
            [sys.executable, "-c", TWO_WRITERS, str(tmp_path / "store"), name], stdout=subprocess.PIPE, text=True
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
