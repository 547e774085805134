"""The exact engine's own: many segments, coarse codes, two writers, and a process killed at every write."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput, LibraryBusy
from trifocal.retrieval import ExactIndex, IndexItem, Moment, VideoFilter
from trifocal.retrieval.index import codes as codes_module
from trifocal.retrieval.index import exact as exact_module
from trifocal.retrieval.index import files as files_module
from trifocal.retrieval.index.codes import Codes, coarse_scores, default_shortlist, make_codes

MakeItem = Callable[..., IndexItem]
Query = Callable[..., Any]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of about eight vectors of width 16."""
    monkeypatch.setattr(exact_module, "_SEGMENT_NUMBERS", 8 * 16)


def alike(left: list[Moment], right: list[Moment]) -> bool:
    """The same moments, up to how a sum's last bit falls when vectors lie elsewhere in a block."""
    spans = [[(one.video, one.start_s, one.end_s) for one in moments] for moments in (left, right)]
    return spans[0] == spans[1] and np.allclose([m.score for m in left], [m.score for m in right], atol=2e-6)


@pytest.mark.usefixtures("small_segments")
def test_many_segments_find_what_one_finds(tmp_path: Path, item: MakeItem, query: Query) -> None:
    items = [item(number) for number in range(40)]
    many = ExactIndex.build(tmp_path / "many", items[:30], encoder="e", dim=16)
    many.add(reversed(items[30:]))
    assert len(many.manifest.segments) > 8
    one = ExactIndex.build(tmp_path / "one", [], encoder="e", dim=16)
    exact_module._SEGMENT_NUMBERS = 2**26
    one.add(items)
    assert len(one.manifest.segments) == 1
    for seed in range(6):
        for top in (1, 5, 60):
            assert alike(many.search(query(seed), top=top), one.search(query(seed), top=top))
    queries = np.stack([query(seed) for seed in range(3)])
    assert np.allclose(many.scores(queries), one.scores(queries), atol=2e-6)
    where = VideoFilter(folder="/home/v/a")
    assert alike(many.search(query(), where=where), one.search(query(), where=where))
    many.compact()
    assert len(many.manifest.segments) == 1
    assert {path.name for path in many.folder.iterdir()} == {path.name for path in one.folder.iterdir()}


@pytest.mark.usefixtures("small_segments")
def test_a_removed_video_leaves_no_byte(tmp_path: Path, item: MakeItem) -> None:
    index = ExactIndex.build(tmp_path / "index", [item(number) for number in range(20)], encoder="e", dim=16)
    before = {path.name for path in index.folder.iterdir()}
    index.remove(["video007"])
    trace = item(7).prototypes.vectors[0].tobytes()
    assert not any(trace in path.read_bytes() for path in index.folder.iterdir())
    assert len(before & {path.name for path in index.folder.iterdir()}) > len(before) / 2  # the others are as they were


def test_small_changes_do_not_pile_up(tmp_path: Path, item: MakeItem) -> None:
    index = ExactIndex.build(tmp_path / "index", [], encoder="e", dim=16)
    for number in range(40):
        index.add([item(number)])
        assert len(index.manifest.segments) <= 8
    assert len(index) == 40
    index.verify()


def test_one_writes_at_a_time_and_sees_what_others_wrote(tmp_path: Path, item: MakeItem) -> None:
    first = ExactIndex.build(tmp_path / "index", [item(1)], encoder="e", dim=16)
    second = ExactIndex.open(first.folder)
    first.add([item(2)])
    assert len(second) == 1
    second.add([item(3)])
    assert len(second) == 3
    first.refresh()
    assert first.videos == second.videos
    with files_module.writing_index(first.folder), pytest.raises(LibraryBusy):
        second.remove(["video001"])
    second.remove(["video001"])


def test_an_index_of_version_1_is_read_and_brought_up(tmp_path: Path, item: MakeItem, query: Query) -> None:
    index = ExactIndex.build(tmp_path / "index", [item(1), item(2)], encoder="e", dim=16)
    found = index.search(query())
    manifest = json.loads((index.folder / "manifest.json").read_text())
    (segment,) = manifest.pop("segments")
    del manifest["codes"]
    (index.folder / "manifest.json").write_text(json.dumps({**manifest, "version": 1, "files": segment["files"]}))
    old = ExactIndex.open(index.folder)
    assert old.search(query()) == found
    old.add([item(3)])
    assert len(ExactIndex.open(index.folder)) == 3
    assert json.loads((index.folder / "manifest.json").read_text())["version"] == 2


def test_codes_estimate_the_cosine(query: Query) -> None:
    dim = 384
    rows = np.random.default_rng(0).normal(size=(500, dim))
    asked = query(dim=dim)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) * 0.6 + asked * np.linspace(-0.8, 0.8, 500)[:, None]
    half = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    right = half.astype(np.float32) @ asked
    limits: dict[Codes, float] = {"int8": 3e-3, "binary": 0.3}
    for kind, largest in limits.items():
        codes = make_codes(kind, half)
        rough = coarse_scores(kind, codes, asked)
        assert np.abs(rough - right).max() < largest, kind
        assert np.corrcoef(rough, right)[0, 1] > (0.9999 if kind == "int8" else 0.99)
    assert make_codes("binary", half).nbytes == 500 * dim // 8
    assert make_codes("int8", half).nbytes == 500 * (dim + 4)
    odd = make_codes("binary", half[:, :70])
    assert odd.shape == (2, 500)
    assert (coarse_scores("binary", odd, half[3, :70].astype(np.float32)) <= 1).all()
    assert coarse_scores("binary", odd, half[3, :70].astype(np.float32))[3] == 1


@pytest.mark.parametrize("exact", [True, False])
def test_int8_codes_are_multiplied_in_whole_numbers_or_widened(
    query: Query, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    """Both ways give what the codes say, far closer than the codes are to the vectors."""
    dim = 100
    rows = np.random.default_rng(1).normal(size=(70, dim))
    half = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    asked = query(dim=dim)
    codes = make_codes("int8", half)
    monkeypatch.setattr(codes_module, "_multiplies_integers", lambda: exact)
    scales = np.abs(half.astype(np.float32)).max(axis=1) / 127
    right = (codes[:, :dim].astype(np.float64) @ asked) * scales
    assert np.abs(coarse_scores("int8", codes, asked) - right).max() < 2e-5
    assert coarse_scores("int8", codes, np.zeros(dim, np.float32)).tolist() == [0] * 70


def test_codes_are_made_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    half = np.random.default_rng(2).normal(size=(50, 24)).astype(np.float16)
    whole = make_codes("int8", half)
    monkeypatch.setattr(codes_module, "_BLOCK_NUMBERS", 24 * 7)
    assert (make_codes("int8", half) == whole).all()


def test_the_shortlist_grows_with_the_collection() -> None:
    assert [default_shortlist("binary", count) for count in (10, 100_000, 1_000_000)] == [1000, 1000, 10_000]
    assert default_shortlist("int8", 1_000_000) == 200


def test_codes_read_unless_a_search_says_otherwise(tmp_path: Path, item: MakeItem, query: Query) -> None:
    items = [item(number, dim=64) for number in range(60)]
    ExactIndex.build(tmp_path / "index", items, encoder="e", dim=64, codes=["binary"])
    index = ExactIndex.open(tmp_path / "index", codes="binary")
    exact = [index.search(query(seed, dim=64), codes="none", top=1) for seed in range(20)]
    rough = [index.search(query(seed, dim=64), shortlist=1, top=1) for seed in range(20)]
    assert rough == [index.search(query(seed, dim=64), shortlist=1, top=1, codes="binary") for seed in range(20)]
    assert rough != exact
    assert [index.search(query(seed, dim=64), top=1) for seed in range(20)] == exact  # as many are left by default
    with pytest.raises(InvalidInput, match="no codes"):
        ExactIndex.open(tmp_path / "index", codes="int8")


def test_search_with_codes(tmp_path: Path, item: MakeItem, query: Query) -> None:
    items = [item(number, dim=64) for number in range(60)]
    index = ExactIndex.build(tmp_path / "index", items[:40], encoder="e", dim=64, codes=["int8", "binary"])
    index.add(items[40:])
    index.remove(["video003"])
    queries = np.stack([query(seed, dim=64) for seed in range(10)])
    kinds: tuple[Codes, ...] = ("int8", "binary")
    for codes in kinds:
        for one in queries:  # a shortlist of everything loses nothing
            assert index.search(one, codes=codes, shortlist=100) == index.search(one)
        assert index.recall(queries, codes=codes, shortlist=100) == 1
    alone = [index.recall(queries, codes=codes, shortlist=1) for codes in kinds]
    assert 0.3 < alone[1] < alone[0]
    assert alone[0] > 0.95
    index.verify()
    plain = ExactIndex.build(tmp_path / "plain", items, encoder="e", dim=64)
    with pytest.raises(InvalidInput, match="no codes"):
        plain.search(queries[0], codes="int8")
    with pytest.raises(InvalidInput, match="codes are"):
        ExactIndex.build(tmp_path / "plain", items, encoder="e", dim=64, codes=["int4"])


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do the work in a fork that is killed before its `step`-th call that changes the disk; whether it was."""
    pid = os.fork()
    if pid == 0:
        calls = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **named)

            return run

        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)  # type: ignore[method-assign]
        Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("verb", ["add", "replace", "remove", "build", "compact"])
@pytest.mark.usefixtures("small_segments")
def test_13_killed_at_every_write_point(tmp_path: Path, item: MakeItem, query: Query, verb: str) -> None:
    base = ExactIndex.build(tmp_path / "base", [item(n) for n in range(6)], encoder="e", dim=16, codes=["int8"])
    newer = [item(n, k=3, seed=500 + n) for n in (2, 7, 8)]
    old = base.search(query(), top=20)

    def work(folder: Path) -> None:
        index = ExactIndex.open(folder)
        if verb == "add":
            index.add(newer[1:])
        elif verb == "replace":
            index.replace(newer)
        elif verb == "remove":
            index.remove(["video001", "video004"])
        elif verb == "compact":
            index.compact()
        else:
            ExactIndex.build(folder, newer, encoder="e", dim=16, codes=["int8"])

    shutil.copytree(base.folder, tmp_path / "whole")
    work(tmp_path / "whole")
    whole = ExactIndex.open(tmp_path / "whole")
    new = whole.search(query(), top=20)
    states = []
    step = 0
    while True:
        folder = tmp_path / f"step{step}"
        shutil.copytree(base.folder, folder)
        killed = killed_at(step, lambda folder=folder: work(folder))  # type: ignore[misc]
        left = ExactIndex.open(folder)
        left.verify()
        found = left.search(query(), top=20)
        assert found in (old, new), f"killed at {step}"
        states.append(found == new)
        if found == old and verb != "compact":
            work(folder)  # what was cut off can be done again, and what it left is gone
            again = ExactIndex.open(folder)
            assert again.search(query(), top=20) == new
            assert {path.name for path in folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
        if not killed:
            break
        step += 1
    assert step >= 8
    assert states == sorted(states), "what was committed was lost again"
    assert states[-1]
