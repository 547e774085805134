"""What fails or is stopped while it is read, decoded and encoded, and what is remembered of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.library.conftest import names

from trifocal.errors import DecoderFailed, ModelError
from trifocal.library import AddProgress
from trifocal.library.catalogue import Catalogue
from trifocal.library.lease import Lease
from trifocal.video import Limits


def test_failures_stop_nothing_and_are_remembered(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    lab.bad("b.mp4", "unreadable")
    lab.bad("c.mp4", "crash")
    lab.video("d.mp4", seed=4)
    library = lab.create()
    report = library.add(lab.home)
    assert names(report.added) == ["a.mp4", "d.mp4"]
    assert [(Path(failure.path).name, failure.code) for failure in report.failed] == [
        ("b.mp4", "video_unreadable"),
        ("c.mp4", DecoderFailed.code),
    ]
    assert [failure.code for failure in library.failures()] == ["video_unreadable", DecoderFailed.code]
    lab.reader.opened = []
    report = library.add(lab.home)
    assert (report.failed, [Path(failure.path).name for failure in report.skipped]) == ((), ["b.mp4", "c.mp4"])
    assert lab.reader.opened == []
    assert len(library.add(lab.home, retry_failed=True).failed) == 2
    lab.video("b.mp4", seed=2)
    assert names(library.add(lab.home).added) == ["b.mp4"]
    (lab.home / "c.mp4").unlink()
    library.add(lab.home)
    assert (library.failures(), library.status().failures) == ([], 0)


def test_failures_leave_the_contents_alone(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    library = lab.create()
    library.add(lab.home)
    before = library.dump()
    for kind in ("unreadable", "unsupported", "crash"):
        assert len(library.add(lab.bad(f"../{kind}.mp4", kind)).failed) == 1
    assert library.dump() == before
    assert library.verify().ok


def test_a_failure_under_other_limits_is_tried_again(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    path = lab.bad("b.mp4")
    library = lab.create()
    library.add(lab.home)
    library.close()
    library = lab.open(limits=Limits(duration_s=10.0))
    assert len(library.add(path).failed) == 1


def test_too_large_is_said_before_reading(lab: Any) -> None:
    path = lab.video("a.mp4")
    library = lab.create(limits=Limits(file_bytes=5))
    report = library.add(path)
    assert [failure.code for failure in report.failed] == ["video_limit_exceeded"]
    assert lab.reader.hashed == []


def test_a_file_that_grows_while_it_is_read(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.video("a.mp4")
    library = lab.create()
    whole = lab.encoder.encode_frames

    def grow(frames: Any) -> Any:
        with path.open("a") as file:
            file.write("more")
        return whole(frames)

    monkeypatch.setattr(lab.encoder, "encode_frames", grow)
    report = library.add(lab.home)
    assert [failure.code for failure in report.failed] == ["changed_while_read"]
    assert (library.videos(), library.failures()) == ([], [])
    monkeypatch.setattr(lab.encoder, "encode_frames", whole)
    assert names(library.add(lab.home).added) == ["a.mp4"]


def test_4_a_file_that_becomes_a_link_is_not_opened(lab: Any) -> None:
    secret = lab.video("../secret.mp4", seed=9)
    first, second = lab.video("a.mp4", seed=1), lab.video("b.mp4", seed=2)

    def swap(progress: AddProgress) -> None:
        if progress.phase == "ingest" and not second.is_symlink():
            for path in (first, second):
                path.unlink()
                path.symlink_to(secret)

    report = lab.create().add(lab.home, progress=swap)
    assert [failure.code for failure in report.failed] == ["changed_while_read"] * 2
    assert lab.reader.opened == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelError("no"), "model_error"),
        (RuntimeError("out of memory"), "model_error"),
        (MemoryError(), "model_error"),
        (OSError(12, "no memory"), "decoder_failed"),
    ],
)
def test_an_encoder_that_fails_on_one_video(
    lab: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    for name in ("a", "b", "c"):
        lab.video(f"{name}.mp4", seed=ord(name))
    whole, calls = lab.encoder.encode_frames, []

    def fail(frames: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:  # two batches a video
            raise error
        return whole(frames)

    monkeypatch.setattr(lab.encoder, "encode_frames", fail)
    library = lab.create()
    report = library.add(lab.home)
    assert (names(report.added), [failure.code for failure in report.failed]) == (["a.mp4", "c.mp4"], [code])
    assert library.failures() == []
    assert names(library.add(lab.home).added) == ["b.mp4"]


def test_an_encoder_of_the_wrong_shape(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lab.encoder.encode_frames
    monkeypatch.setattr(lab.encoder, "encode_frames", lambda frames: whole(frames)[:, :3])
    lab.video("a.mp4")
    assert [failure.code for failure in lab.create().add(lab.home).failed] == ["model_error"]


def test_a_progress_that_raises_stops_in_good_order(lab: Any) -> None:
    for number in range(4):
        lab.video(f"{number}.mp4", seed=number)
    library = lab.create()

    def stop(progress: AddProgress) -> None:
        if progress.phase == "ingest" and progress.done_videos == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.add(lab.home, progress=stop)
    assert (library.status().videos, library.status().interrupted) == (2, 0)
    assert len(library.add(lab.home).added) == 2
    assert library.verify().ok


def test_14_an_interrupt_just_after_a_commit_counts_against_no_video(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.video("a.mp4")
    library = lab.create()
    inner = Catalogue.write

    @contextmanager
    def interrupted(self: Catalogue, lease: Lease | None = None) -> Iterator[sqlite3.Connection]:
        with inner(self, lease) as connection:
            yield connection
            begun = connection.execute("SELECT 1 FROM jobs").fetchone()
        if begun:
            patch.undo()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            library.add(lab.home)
    assert library.status().interrupted == 0
