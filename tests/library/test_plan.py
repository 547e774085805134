"""Any sequence of changes to files, followed step by step, ends where a fresh library of the last state begins."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from trifocal.library.plan import FileRow, SeenFile, make_plan
from trifocal.library.scan import FoundFile


def act(home: Path, seeded: random.Random, lab: Any) -> None:
    """One random thing that happens to files; contents are drawn from a few, so that duplicates abound."""
    files = sorted(home.rglob("*.mp4"))
    target = home / seeded.choice("ab") / f"{seeded.randrange(6)}.mp4"
    what = seeded.choice(["write", "write", "move", "copy", "delete", "swap", "touch", "break"])
    if what == "write" or not files:
        lab.video(str(target.relative_to(lab.home)), seconds=2, seed=seeded.randrange(5))
        return
    source = seeded.choice(files)
    target.parent.mkdir(exist_ok=True)
    if what == "move":
        source.rename(target)
    elif what == "copy" and source != target:
        shutil.copy(source, target)
    elif what == "delete":
        source.unlink()
    elif what == "swap":
        other = seeded.choice(files)
        source.rename(home / "aside")
        if other != source:
            other.rename(source)
        (home / "aside").rename(other)
    elif what == "touch":
        source.touch()
    elif what == "break":
        lab.bad(str(source.relative_to(lab.home)))


@pytest.mark.parametrize("seed", range(6))
def test_step_by_step_equals_at_once(lab: Any, seed: int, contents_of: Any) -> None:
    seeded = random.Random(seed)
    library = lab.create()
    for step in range(8):
        for _ in range(seeded.randrange(1, 5)):
            act(lab.home, seeded, lab)
        library.add(lab.home)
        assert library.verify().ok
        again = library.add(lab.home)
        for change in ("added", "moved", "replaced", "restored", "missing", "duplicates"):
            assert getattr(again, change) == ()
        fresh = lab.create(f"fresh-{step}")
        fresh.add(lab.home)
        ready = {record.id: record.paths for record in library.videos() if record.state == "ready"}
        assert ready == {record.id: record.paths for record in fresh.videos()}
    gone = [path for record in library.videos() for path in record.missing_paths]
    if gone:
        library.remove(gone)
    assert library.dump() == fresh.dump()
    assert contents_of(library.folder) == contents_of(fresh.folder)


def row(path: str, content: str, *, state: str = "present") -> FileRow:
    return FileRow(path=path, video=f"id-{content}", sha256=content, root="/", size=1, mtime_ns=1, inode=1, state=state)


def seen(path: str, content: str) -> SeenFile:
    return SeenFile(found=FoundFile(path=path, root="/", size=1, mtime_ns=1, inode=1), sha256=content)


@pytest.mark.parametrize(
    ("rows", "found", "gone", "elsewhere", "kinds", "vacated", "missing", "tasks"),
    [
        ([row("a", "X")], [seen("a", "X")], set(), set(), {"a": "unchanged"}, (), [], []),
        ([row("a", "X", state="missing")], [seen("a", "X")], set(), set(), {"a": "restored"}, (), [], []),
        ([row("a", "X")], [seen("b", "X")], {"a"}, set(), {"b": "moved"}, ("a",), [], []),
        ([row("a", "X")], [seen("b", "X")], set(), set(), {"b": "moved"}, ("a",), [], []),
        ([row("a", "X")], [seen("b", "X")], set(), {"a"}, {"b": "duplicate"}, (), [], []),
        ([row("a", "X")], [seen("b", "X"), seen("c", "X")], {"a"}, set(), {"b": "moved", "c": "duplicate"}, ("a",), [], []),  # noqa: E501
        ([row("a", "X")], [seen("a", "Y")], set(), set(), {}, (), [], ["Y"]),
        ([row("a", "X")], [seen("a", "Y"), seen("b", "X")], set(), set(), {"b": "moved"}, ("a",), [], ["Y"]),
        ([row("a", "X"), row("b", "Y")], [seen("a", "Y"), seen("b", "X")], set(), set(), {"a": "moved", "b": "moved"}, (), [], []),  # noqa: E501
        ([row("a", "X")], [], {"a"}, set(), {}, (), ["a"], []),
        ([row("a", "X", state="missing")], [], {"a"}, set(), {}, (), [], []),
        ([], [seen("a", "X"), seen("b", "X")], set(), set(), {}, (), [], ["X"]),
    ],
)  # fmt: skip
def test_cases(
    rows: list[FileRow],
    found: list[SeenFile],
    gone: set[str],
    elsewhere: set[str],
    kinds: dict[str, str],
    vacated: tuple[str, ...],
    missing: list[str],
    tasks: list[str],
) -> None:
    for order in (found, found[::-1]):
        plan = make_plan(rows, order, gone=gone, exists=elsewhere.__contains__)
        assert {update.seen.found.path: update.kind for update in plan.updates} == kinds
        assert plan.vacated == vacated
        assert [row.path for row in plan.missing] == missing
        assert [task.sha256 for task in plan.tasks] == tasks
