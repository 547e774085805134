"""What changes make of an exact index: many segments, what is removed, and a process killed at every write."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.retrieval import ExactIndex, IndexItem, Moment, VideoFilter
from trifocal.retrieval.index import changes as changes_module

MakeItem = Callable[..., IndexItem]
Query = Callable[..., Any]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of about eight vectors of width 16."""
    monkeypatch.setattr(changes_module, "_SEGMENT_NUMBERS", 8 * 16)


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
    changes_module._SEGMENT_NUMBERS = 2**26
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
