"""A full disk, a read-only folder, a lost lease: a clear error, and nothing lost (SECURITY 13, 14, 16)."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trifocal.errors import InvalidInput, LibraryBusy, LibraryError
from trifocal.library import AddProgress, Library
from trifocal.library import lease as lease_module
from trifocal.library.catalogue import CATALOGUE_NAME, Catalogue
from trifocal.library.lease import STALE_S, Lease, machine, process_start
from trifocal.library.log import IngestLog
from trifocal.library.store import Store

WRITES = ["write", "fsync", "rename", "mkdir"]


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_16_the_disk_fails_on_the_third_video(lab: Any, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    for number in range(4):
        lab.video(f"{number}.mp4", seed=number)
    library = lab.create()
    whole = lab.create("whole")
    whole.add(lab.home)
    begun: list[str] = []
    inner: Any = {"write": Path.open, "fsync": os.fsync, "rename": Path.rename, "mkdir": Path.mkdir}[call]

    def failing(*args: Any, **options: Any) -> Any:
        if len(begun) >= 3 and (call == "fsync" or "/tmp/" in str(args[0])[len(str(lab.folder)) :]):
            raise OSError(code, os.strerror(code))
        return inner(*args, **options)

    def count(step: str) -> None:
        if step == "video.committed":
            begun.append(step)
            if len(begun) == 2:
                begun.append("now")

    library.close()
    library = lab.open(trace=count)
    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else Path, "open" if call == "write" else call, failing)
        with pytest.raises(LibraryError) as caught:
            library.add(lab.home)
    message = str(caught.value)
    assert {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "may not be written"}.get(
        code, "disk failed"
    ) in message
    assert caught.value.remedy
    assert (library.status().videos, library.status().interrupted) == (2, 0)
    assert library.verify().ok
    assert len(library.add(lab.home).added) == 2
    assert library.dump() == whole.dump()


def test_16_the_catalogue_is_full(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    library = lab.create()
    library.add(lab.home)
    before = library.dump()
    for number in range(40):
        lab.video(f"{number}.mp4", seed=100 + number)

    def fill(progress: AddProgress) -> None:
        if progress.phase == "ingest":
            connection = library._catalogue._connection()
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(LibraryError, match="disk is full"):
        library.add(lab.home, progress=fill)
    library.close()
    library = lab.open()
    assert before.splitlines()[-1] == library.dump().splitlines()[-1]
    assert library.verify().ok
    library.add(lab.home)
    assert len(library.videos()) == 41


def test_16_the_right_to_write_is_not_lost_on_a_full_disk(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the row of the lease could be deleted: this process, which lives on, is not in its own way later."""
    lab.video("a.mp4")
    library = lab.create()

    def full(_: Lease) -> None:
        raise LibraryError("the disk is full", remedy="Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "shrink", full)
        inner = Catalogue.write

        @contextmanager
        def failing(self: Catalogue, lease: Lease | None = None) -> Iterator[sqlite3.Connection]:
            with inner(self, lease) as connection:
                yield connection
                if lease is not None:
                    patch.setattr(Catalogue, "write", full)
                    full(lease)

        patch.setattr(Catalogue, "write", failing)
        with pytest.raises(LibraryError, match="full"):
            library.add(lab.home)
    assert len(library.add(lab.home).added) == 1


def test_13_changes_still_in_the_write_ahead_log_are_never_passed_over(lab: Any, tmp_path: Path) -> None:
    """A copy without the file of shared memory, in a folder that may not be written: better an error than old news."""
    lab.video("a.mp4")
    library = lab.create()
    library.close()
    library = lab.open()
    library._catalogue._connection().execute("PRAGMA wal_autocheckpoint = 0")
    library.add(lab.home)
    copy = tmp_path / "copy"
    shutil.copytree(library.folder, copy)
    (copy / f"{CATALOGUE_NAME}-shm").unlink()
    assert (copy / f"{CATALOGUE_NAME}-wal").stat().st_size
    code = f"""
import os
from pathlib import Path
from trifocal.errors import LibraryError
from trifocal.library.catalogue import Catalogue
if os.getuid() == 0:
    os.setuid(65534)
try:
    Catalogue(Path({str(copy)!r}))
except LibraryError as error:
    print(error)
"""
    done = as_another_user(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert "catalogue.sqlite3-wal" in done.stdout
    assert len(lab.open("copy").videos()) == 1


def as_another_user(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code that may become another user and then may read `folder`, and not write it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in folder.parents:
        if parent.owner() == "root" and parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(0o755)
    try:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def test_a_read_only_folder(lab: Any, tmp_path: Path) -> None:
    """As another user, who may read the library and not write it; needs to be root to become one."""
    lab.video("a.mp4")
    library = lab.create()
    library.add(lab.home)
    library.close()
    code = f"""
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("fakes", {str(Path(__file__).with_name("conftest.py"))!r})
fakes = importlib.util.module_from_spec(spec); sys.modules["fakes"] = fakes; spec.loader.exec_module(fakes)
import torch
from trifocal.errors import LibraryError
from trifocal.library import Library
if os.getuid() == 0:
    os.setuid(65534)
with Library.open({str(library.folder)!r}, encoder=fakes.FakeEncoder(), reader=fakes.FakeReader()) as library:
    assert library.read_only
    assert len(library.videos()) == len(library.find("x")) == len(library.find("x")) == 1
    assert library.verify().videos == 1
    for act in (lambda: library.add({str(lab.home)!r}), lambda: library.remove(library.videos()[0].id), library.repair):
        try:
            act()
        except LibraryError as error:
            assert "may not be written" in str(error), error
        else:
            raise SystemExit("it wrote")
"""
    done = as_another_user(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert not list(library.folder.joinpath("index").iterdir())


def plant_lease(library: Library, **changes: Any) -> None:
    row = {
        "id": 1,
        "token": "other",
        "verb": "add",
        "host": machine(),
        "pid": os.getppid(),
        "process_start": process_start(os.getppid()),
        "heartbeat": 0.0,
        **changes,
    }
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        connection.execute("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(row.values()))
    connection.close()


def own_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "process_start": process_start(os.getpid())}


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("name", "changes", "free"),
    [
        ("alive here", lambda now: {}, False),
        ("alive here, heartbeat old", lambda now: {"heartbeat": now - 1e6}, False),
        ("our own, kept by a full disk", lambda now: own_process(), True),
        ("ended here", lambda now: {"pid": ended_process(), "heartbeat": now}, True),
        ("number used again", lambda now: {"process_start": "1", "heartbeat": now}, True),
        ("elsewhere, alive", lambda now: {"host": "other", "pid": 1, "heartbeat": now - STALE_S / 2}, False),
        ("elsewhere, silent", lambda now: {"host": "other", "pid": 1, "heartbeat": now - 2 * STALE_S}, True),
        ("elsewhere, clock jumped", lambda now: {"host": "other", "pid": 1, "heartbeat": now + 2 * STALE_S}, True),
    ],
)
def test_16_whose_lease_lapses_whatever_the_clock(lab: Any, name: str, changes: Any, free: bool) -> None:
    import time

    lab.video("a.mp4")
    library = lab.create()
    plant_lease(library, **changes(time.time()))
    if free:
        assert len(library.add(lab.home).added) == 1
    else:
        with pytest.raises(LibraryBusy, match="process"):
            library.add(lab.home)
        assert library.videos() == []


def test_a_writer_that_lost_its_lease_writes_no_more(lab: Any) -> None:
    for number in range(3):
        lab.video(f"{number}.mp4", seed=number)
    library = lab.create()

    def take(progress: AddProgress) -> None:
        if progress.phase == "ingest" and progress.done_videos == 1:
            plant_lease(library)

    with pytest.raises(LibraryBusy, match="taken over"):
        library.add(lab.home, progress=take)
    assert len(library.videos()) == 1
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        assert connection.execute("SELECT token FROM lease").fetchone() == ("other",)
    connection.close()


def test_the_heart_beats(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.01)
    library = lab.create()
    catalogue = Catalogue(library.folder)
    ticks = iter(range(1_000_000))
    beaten = threading.Event()

    def clock() -> float:
        tick = next(ticks)
        if tick >= 3:
            beaten.set()
        return float(tick)

    lease = Lease(catalogue, verb="test", clock=clock)
    lease.acquire()
    assert beaten.wait(20)
    lease.release()
    lease.release()
    with catalogue.read() as connection:
        assert connection.execute("SELECT * FROM lease").fetchone() is None
    catalogue.close()


def test_the_log_is_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make_folders()
    log = IngestLog(store, max_bytes=500)
    for number in range(100):
        log.write("added", path=f"/a/{number}.mp4", video=f"{number:016x}")
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == 5
    assert all(path.stat().st_size <= 500 for path in files)
    numbers = [int(line["video"], 16) for line in log.lines()]
    assert numbers == list(range(numbers[0], 100))
    log.forget(videos={f"{99:016x}"}, paths={"/a/98.mp4"})
    assert [int(line["video"], 16) for line in log.lines()] == numbers[:-2]


def test_the_log_after_a_kill_within_a_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make_folders()
    log = IngestLog(store)
    log.write("added", path="/a/1.mp4")
    with (tmp_path / "logs" / "ingest.jsonl").open("a") as file:
        file.write('{"event": "add')
    log.write("added", path="/a/2.mp4")
    assert [line["path"] for line in log.lines()] == ["/a/1.mp4", "/a/2.mp4"]
    log.forget(videos=(), paths={"/a/1.mp4"})
    assert (tmp_path / "logs" / "ingest.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("held", [["film.mp4"], ["prototypes", "notes.txt"]])
def test_a_folder_that_is_not_empty_is_no_place_for_a_library(lab: Any, held: list[str]) -> None:
    lab.folder.joinpath("library").mkdir()
    for name in held:
        lab.folder.joinpath("library", name).write_text("x")
    with pytest.raises(InvalidInput, match="not empty"):
        lab.create()
