"""SIGKILL at any instant, then `add` again: the same end as if nothing had happened (SECURITY 13 and 14)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trifocal.library.ingest import QUARANTINE_AFTER

SCRIPT = Path(__file__).with_name("ingest_process.py")


def run(job: dict[str, Any]) -> Any:
    done = subprocess.run([sys.executable, str(SCRIPT), json.dumps(job)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def eventful(lab: Any) -> dict[str, Any]:
    """A library, and files that since were added, moved, changed, copied, deleted and broken."""
    for number in range(4):
        lab.video(f"old{number}.mp4", seconds=3, seed=number)
    library = lab.create("base")
    library.add(lab.home)
    library.close()
    (lab.home / "old0.mp4").rename(lab.home / "moved.mp4")
    lab.video("old1.mp4", seconds=5, seed=11)
    (lab.home / "old2.mp4").unlink()
    shutil.copy(lab.home / "old3.mp4", lab.home / "copy.mp4")
    lab.video("new.mp4", seconds=5, seed=21)
    lab.bad("bad.mp4")
    return {
        "verb": "kill_points",
        "base": str(lab.folder / "base"),
        "paths": [str(lab.home)],
        "scratch": str(lab.folder),
    }


def steps_of(lab: Any, work: Any) -> list[str]:
    told: list[str] = []
    shutil.copytree(lab.folder / "base", lab.folder / "count")
    library = lab.open("count", trace=told.append)
    work(library)
    return told


def test_13_killed_at_every_write_point(lab: Any, eventful: dict[str, Any]) -> None:
    steps = steps_of(lab, lambda library: library.add(lab.home))
    assert {"apply.committed", "job.begun", "prototypes.temporary", "prototypes.renamed", "thumbnails.temporary"} < set(
        steps
    )
    assert {"thumbnails.renamed", "video.committing", "video.committed", "deletion.files", "failure.committed"} < set(
        steps
    )
    results = run({**eventful, "steps": [*range(len(steps)), 10_000]})
    *killed, whole = results
    assert len(killed) == len(steps) >= 10
    assert not whole["killed"]
    expected = lab.opened[-1]
    assert whole["dump"] == expected.dump()
    for result in killed:
        where = f"killed at step {result['step']}, {steps[result['step']]}"
        assert result["killed"], where
        assert result["dump"] == whole["dump"], where
        assert (result["names"], result["files"]) == (whole["names"], whole["files"]), where
        assert result["problems"] == [], where


def test_13_removal_killed_at_every_write_point(lab: Any) -> None:
    """Whether it came into effect or not, it is one or the other; and in effect, nothing of the videos is left."""
    for number in range(4):
        lab.video(f"{number}.mp4", seconds=3, seed=number)
    with lab.create("base") as library:
        library.add(lab.home)
        library.find("so that there is an index")
        names = [record.id for record in library.videos()[:2]]
        paths = [path for name in names for path in library.video(name).paths]
    steps = steps_of(lab, lambda library: library.remove(names))
    assert {"remove.committing", "remove.committed", "deletion.step", "deletion.files", "deletion.done"} < set(steps)
    job = {"verb": "kill_points", "base": str(lab.folder / "base"), "scratch": str(lab.folder), "remove": names}
    results = run({**job, "then": {"paths": [str(lab.home / "3.mp4")]}, "steps": [*range(len(steps)), 10_000]})
    for result in results:
        where = f"killed at step {result['step']}"
        held = {video["id"] for video in json.loads(result["dump"])["videos"]}
        assert result["problems"] == [], where
        if names[0] in held:
            assert steps[result["step"]] == "remove.committing", where
            assert set(names) <= held, where
            continue
        assert not [path for path in result["everything"] if any(name in path for name in names)], where
        assert not any(word in result["log"] for word in (*names, *paths)), where
        assert result["dump"] == results[-1]["dump"], where


@pytest.mark.parametrize("real", [False, True], ids=["fake reader", "real reader"])
def test_14_killed_at_random_times(lab: Any, real: bool, real_videos: Path) -> None:
    """Ten kills at times drawn from a fixed seed; after each, the library opens and can be searched."""
    for number in range(0 if real else 8):
        lab.video(f"{number}.mp4", seconds=20, seed=number)
    lab.create("base").close()
    result = run(
        {
            "verb": "random_kills",
            "base": str(lab.folder / "base"),
            "paths": [str(real_videos if real else lab.home)],
            "scratch": str(lab.folder),
            "seed": 20,
            "kills": 10,
            "real": real,
            "delay_s": 0.002,
        }
    )
    assert len(result["held"]) == 10
    assert len(set(result["held"])) > 1, "every kill hit the same place"
    assert len(json.loads(result["whole"]["dump"])["videos"]) == (5 if real else 8)
    for key in ("dump", "names", "files"):
        assert result["killed"][key] == result["whole"][key]
    assert result["killed"]["problems"] == []


def test_14_what_kills_the_process_is_left_alone_at_last(lab: Any) -> None:
    """A poisoned video takes no other with it: the others are finished, and it is quarantined after ten times."""
    for number in range(3):
        lab.video(f"{number}.mp4", seconds=3, seed=number)
    library = lab.create()
    path = lab.home / "1.mp4"
    job = {"verb": "poison", "library": str(library.folder), "paths": [str(lab.home)], "name": path.name}
    ended = run({**job, "times": QUARANTINE_AFTER})
    assert ended == [signal.SIGKILL] * QUARANTINE_AFTER + [0]
    assert {Path(record.paths[0]).name for record in library.videos()} == {"0.mp4", "2.mp4"}
    status = library.status()
    assert (status.interrupted, status.quarantined) == (1, 1)
    (failure,) = library.failures()
    assert (failure.path, failure.code) == (str(path), "quarantined")
    assert "--retry-failed" in failure.remedy
    report = library.add(lab.home)
    assert [failure.code for failure in report.skipped] == ["quarantined"]
    assert [Path(change.path).name for change in library.add(lab.home, retry_failed=True).added] == ["1.mp4"]
    assert (library.failures(), library.status().interrupted) == ([], 0)


def test_two_processes_add_at_once(lab: Any) -> None:
    """One is refused, neither harms; afterwards the library is whole."""
    for number in range(6):
        lab.video(f"{number}.mp4", seconds=10, seed=number)
    library = lab.create()
    job = {"verb": "add", "library": str(library.folder), "paths": [str(lab.home)], "delay_s": 0.01}
    processes = [subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(job)], stderr=subprocess.PIPE) for _ in "ab"]
    ended = [(process.communicate(timeout=100)[1].decode(), process.returncode) for process in processes]
    assert sorted(code for _, code in ended) in ([0, 1], [0, 0])
    assert all(code == 0 or "LibraryBusy" in error for error, code in ended)
    assert len(library.videos()) == 6
    assert library.verify().ok
