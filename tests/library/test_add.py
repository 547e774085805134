"""`add`: every thing that can happen to files, and what becomes of the library."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from trifocal.errors import DecoderFailed, InvalidInput, LibraryBusy, ModelError
from trifocal.library import AddProgress, Library
from trifocal.library.catalogue import Catalogue
from trifocal.library.lease import Lease
from trifocal.video import Limits


def names(changes: Any) -> list[str]:
    return [Path(change.path).name for change in changes]


def states(library: Library) -> dict[str, str]:
    return {record.id: record.state for record in library.videos()}


def test_a_folder_is_added_and_then_unchanged(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    lab.video("deep/er/b.mkv", seed=2)
    lab.home.joinpath("notes.txt").write_text("no video")
    lab.video(".hidden.mp4", seed=3)
    library = lab.create()
    report = library.add(lab.home)
    assert names(report.added) == ["a.mp4", "b.mkv"]
    assert not report.failed
    assert report.times.video_s == pytest.approx(8.0)
    assert report.times.stored_bytes > 0
    assert set(report.times.per_minute()) == {"hash", "decode", "encode", "write"}
    before, lab.reader.hashed, lab.reader.opened = library.dump(), [], []
    again = library.add(lab.home)
    assert names(again.unchanged) == ["a.mp4", "b.mkv"]
    assert (again.added, lab.reader.hashed, lab.reader.opened) == ((), [], [])
    assert library.dump() == before


def test_what_is_stored_of_a_video(lab: Any) -> None:
    path = lab.video("a.mp4", seconds=20.25, seed=1)
    library = lab.create()
    library.add(path)
    record = library.video(path)
    assert record.id == record.sha256[:16]
    assert record.paths == (str(path.resolve()),)
    assert (record.frames, record.prototypes, record.duration_s) == (41, 4, 20.25)
    prototypes = library.prototypes(record.id)
    assert prototypes.vectors.shape == (4, lab.encoder.dim)
    assert (prototypes.spans_s[0, 0], prototypes.spans_s[-1, 1]) == (0.0, 20.25)
    pictures = library.thumbnails(record.id)
    assert [start <= picture.at_s < end for picture, (start, end) in zip(pictures, prototypes.spans_s, strict=True)]
    assert all(Path(picture.path).read_bytes().startswith(b"\xff\xd8") for picture in pictures)
    assert library.thumbnail(record.id, at_s=pictures[2].at_s + 0.01) == Path(pictures[2].path)
    assert str(library.thumbnail(record.id)) in {picture.path for picture in pictures}
    assert json.dumps(record.to_dict())


def test_touched_but_equal_is_unchanged(lab: Any) -> None:
    path = lab.video("a.mp4")
    library = lab.create()
    library.add(lab.home)
    before = library.dump()
    os.utime(path, ns=(1, 1))
    lab.reader.opened = []
    assert names(library.add(lab.home).unchanged) == ["a.mp4"]
    lab.reader.hashed = []
    assert names(library.add(lab.home).unchanged) == ["a.mp4"]
    assert (lab.reader.hashed, lab.reader.opened, library.dump()) == ([], [], before)


def test_replaced_with_equal_size_and_time(lab: Any) -> None:
    path = lab.video("a.mp4", seed=1)
    library = lab.create()
    library.add(lab.home)
    status = path.stat()
    other = lab.video("../new.mp4", seed=2)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert names(library.add(lab.home).replaced) == ["a.mp4"]


def test_moved(lab: Any) -> None:
    path = lab.video("a.mp4")
    library = lab.create()
    library.add(lab.home)
    video = library.video(path).id
    target = lab.home / "sub" / "b.mp4"
    target.parent.mkdir()
    path.rename(target)
    lab.reader.opened = []
    report = library.add(lab.home)
    assert [(change.path, change.video, change.was) for change in report.moved] == [(str(target), video, str(path))]
    assert lab.reader.opened == []
    assert library.video(video).paths == (str(target),)
    assert states(library) == {video: "ready"}


def test_moved_to_a_place_given_alone(lab: Any) -> None:
    path = lab.video("a.mp4")
    library = lab.create()
    library.add(path)
    path.rename(lab.home / "b.mp4")
    assert names(library.add(lab.home / "b.mp4").moved) == ["b.mp4"]
    assert len(library.videos()) == 1


def test_two_files_that_swapped_names(lab: Any) -> None:
    a, b = lab.video("a.mp4", seed=1), lab.video("b.mp4", seed=2)
    library = lab.create()
    library.add(lab.home)
    first, second = library.video(a).id, library.video(b).id
    a.rename(lab.home / "c")
    b.rename(a)
    (lab.home / "c").rename(b)
    report = library.add(lab.home)
    assert names(report.moved) == ["a.mp4", "b.mp4"]
    assert (library.video(a).id, library.video(b).id) == (second, first)


def test_changed_replaces_the_video(lab: Any) -> None:
    path = lab.video("a.mp4", seed=1)
    library = lab.create()
    library.add(lab.home)
    old = library.video(path).id
    lab.video("a.mp4", seed=2)
    report = library.add(lab.home)
    assert [(change.path, change.was) for change in report.replaced] == [(str(path), old)]
    assert report.removed == (old,)
    assert [record.id for record in library.videos()] == [library.video(path).id] != [old]
    assert not library.folder.joinpath("prototypes", f"{old}.npy").exists()
    assert not library.folder.joinpath("thumbnails", old).exists()
    assert library.verify().ok


def test_changed_keeps_the_video_of_another_file(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    shutil.copy(lab.home / "a.mp4", lab.home / "b.mp4")
    library = lab.create()
    library.add(lab.home)
    old = library.video(lab.home / "a.mp4").id
    lab.video("a.mp4", seed=2)
    report = library.add(lab.home)
    assert (names(report.replaced), report.removed) == (["a.mp4"], ())
    assert library.video(old).paths == (str(lab.home / "b.mp4"),)


def test_changed_while_the_old_content_moved(lab: Any) -> None:
    a = lab.video("a.mp4", seed=1)
    library = lab.create()
    library.add(lab.home)
    old = library.video(a).id
    a.rename(lab.home / "b.mp4")
    lab.video("a.mp4", seed=2)
    report = library.add(lab.home)
    assert names(report.moved) == ["b.mp4"]
    assert library.video(lab.home / "b.mp4").id == old
    assert library.video(a).id != old


def test_changed_into_something_bad(lab: Any) -> None:
    a = lab.video("a.mp4", seed=1)
    library = lab.create()
    library.add(lab.home)
    old = library.video(a).id
    good = a.read_bytes()
    lab.bad("a.mp4")
    report = library.add(lab.home)
    assert [failure.code for failure in report.failed] == ["video_unreadable"]
    assert names(report.missing) == ["a.mp4"]
    assert states(library) == {old: "missing"}
    assert library.find("x") == []
    a.write_bytes(good)
    assert names(library.add(lab.home).restored) == ["a.mp4"]
    assert (states(library), library.failures()) == ({old: "ready"}, [])


def test_deleted_is_missing_and_comes_back(lab: Any) -> None:
    a, b = lab.video("a.mp4", seed=1), lab.video("b.mp4", seed=2)
    library = lab.create()
    library.add(lab.home)
    video = library.video(a).id
    a.rename(lab.folder / "away")
    report = library.add(lab.home)
    assert names(report.missing) == ["a.mp4"]
    assert library.video(video).state == "missing"
    assert library.status().missing == 1
    assert {moment.video for moment in library.find("x")} == {library.video(b).id}
    assert {moment.video for moment in library.find("x", include_missing=True)} == {video, library.video(b).id}
    assert names(library.add(lab.home).missing) == []
    (lab.folder / "away").rename(a)
    lab.reader.opened = []
    assert names(library.add(lab.home).restored) == ["a.mp4"]
    assert (library.video(video).state, lab.reader.opened) == ("ready", [])


def test_16_an_unplugged_folder(lab: Any) -> None:
    lab.video("disk/a.mp4", seed=1)
    lab.video("disk/b.mp4", seed=2)
    library = lab.create()
    library.add(lab.home / "disk")
    (lab.home / "disk").rename(lab.home / "unplugged")
    report = library.add(lab.home / "disk")
    assert (names(report.missing), report.failed) == (["a.mp4", "b.mp4"], ())
    (lab.home / "unplugged").rename(lab.home / "disk")
    assert names(library.add(lab.home / "disk").restored) == ["a.mp4", "b.mp4"]


def test_deleted_outside_what_was_given_is_not_noticed(lab: Any) -> None:
    a = lab.video("one/a.mp4", seed=1)
    lab.video("two/b.mp4", seed=2)
    library = lab.create()
    library.add(lab.home)
    a.unlink()
    assert library.add(lab.home / "two").missing == ()
    assert library.video(a).state == "ready"


def test_16_equal_bytes_are_one_video(lab: Any) -> None:
    lab.video("a.mp4", seed=1)
    shutil.copy(lab.home / "a.mp4", lab.home / "b.mp4")
    library = lab.create()
    report = library.add(lab.home)
    assert (names(report.added), names(report.duplicates)) == (["a.mp4"], ["b.mp4"])
    assert lab.reader.opened == ["a.mp4"]
    (record,) = library.videos()
    assert [Path(path).name for path in record.paths] == ["a.mp4", "b.mp4"]
    shutil.copy(lab.home / "a.mp4", lab.home / "c.mp4")
    assert names(library.add(lab.home).duplicates) == ["c.mp4"]
    (lab.home / "a.mp4").unlink()
    assert names(library.add(lab.home).missing) == ["a.mp4"]
    (record,) = library.videos()
    assert (record.state, len(record.paths), len(record.missing_paths)) == ("ready", 2, 1)


def test_ids_grow_where_hashes_begin_alike(lab: Any, make_reader: Any) -> None:
    reader = make_reader(hashes={"a.mp4": "ab" * 8 + "0" * 48, "b.mp4": "ab" * 8 + "1" * 48})
    lab.video("a.mp4", seed=1)
    lab.video("b.mp4", seed=2)
    library = lab.create(reader=reader)
    library.add(lab.home)
    assert sorted(record.id for record in library.videos()) == ["ab" * 8, "ab" * 8 + "1111"]
    assert library.verify().ok


@pytest.mark.parametrize(
    "name",
    ["with space.mp4", "naïve – 日本.mp4", "line\nbreak.mp4", "'quote\".mp4", "%s{}[x].mp4", "-dash.mp4", "\u2028.mp4"],
)
def test_odd_names(lab: Any, name: str) -> None:
    path = lab.video(name)
    library = lab.create()
    assert [change.path for change in library.add(lab.home).added] == [str(path)]
    assert library.video(path).paths == (str(path),)
    assert len(library.find("x")) == 1
    assert json.loads(library.dump())["files"][0]["path"] == str(path)
    assert library.add(path).unchanged
    path.rename(lab.home / "plain.mp4")
    assert len(library.add(lab.home).moved) == 1
    library.remove(library.videos()[0].id)
    assert name not in library.folder.joinpath("logs", "ingest.jsonl").read_text()


def test_a_name_that_is_not_utf8(lab: Any) -> None:
    lab.video("good.mp4", seed=1)
    odd = os.fsencode(lab.home) + b"/b\xff.mp4"
    Path(os.fsdecode(odd)).write_bytes(b"FAKE 4 2")
    library = lab.create()
    for paths in (lab.home, os.fsdecode(odd)):
        report = library.add(paths)
        assert [failure.code for failure in report.failed] == ["video_unsupported"]
        assert "Rename" in report.failed[0].remedy
        json.dumps(report.to_dict()).encode()
    assert len(library.videos()) == 1


@pytest.mark.parametrize(
    ("paths", "options", "expected"),
    [
        (["."], {}, ["a.mp4", "b.MKV", "c.mp4"]),
        (["."], {"recursive": False}, ["a.mp4"]),
        (["."], {"pattern": "c*"}, ["c.mp4"]),
        (["."], {"pattern": "*.dat"}, ["d.dat"]),
        (["."], {"pattern": "deep/*"}, ["b.MKV", "c.mp4"]),
        (["*.mp4"], {}, ["a.mp4"]),
        (["**/*.mp4"], {}, ["a.mp4", "c.mp4"]),
        (["*.dat"], {}, ["d.dat"]),
        (["*"], {}, ["a.mp4", "b.MKV", "c.mp4"]),
        (["*"], {"recursive": False}, ["a.mp4"]),
        (["d.dat"], {}, ["d.dat"]),
        (["deep", "deep/c.mp4", "deep/../deep"], {}, ["b.MKV", "c.mp4"]),
    ],
)
def test_which_files_are_meant(lab: Any, paths: list[str], options: dict[str, Any], expected: list[str]) -> None:
    lab.video("a.mp4", seed=1)
    lab.video("deep/b.MKV", seed=2)
    lab.video("deep/c.mp4", seed=3)
    lab.video("d.dat", seed=4)
    report = lab.create().add([lab.home / path for path in paths], **options)
    assert (names(report.added), report.failed) == (expected, ())


def test_a_file_named_like_a_glob_is_a_file(lab: Any) -> None:
    lab.video("[ab].mp4", seed=1)
    lab.video("a.mp4", seed=2)
    assert names(lab.create().add(lab.home / "[ab].mp4").added) == ["[ab].mp4"]


def test_the_library_inside_the_folder_is_passed_over(lab: Any) -> None:
    lab.video("a.mp4")
    library = lab.create("videos/library")
    library.folder.joinpath("cache", "clip.mp4").write_text("FAKE 4 9")
    assert names(library.add(lab.home).added) == ["a.mp4"]


def test_links(lab: Any) -> None:
    lab.video("in/a.mp4", seed=1)
    outside = lab.video("../outside/b.mp4", seed=2).resolve()
    (lab.home / "in" / "loop").symlink_to(lab.home)
    (lab.home / "in" / "self").symlink_to("self")
    (lab.home / "in" / "dangling.mp4").symlink_to("nowhere.mp4")
    (lab.home / "in" / "out").symlink_to(outside.parent)
    (lab.home / "in" / "file.mp4").symlink_to(outside)
    library = lab.create()
    assert names(library.add(lab.home).added) == ["a.mp4"]
    assert library.roots() == [str(lab.home)]
    report = library.add(lab.home, follow_symlinks=True)
    assert ([change.path for change in report.added], report.failed) == ([str(outside)], ())
    assert library.roots() == sorted([str(lab.home), str(outside.parent)])
    named = lab.create("other")
    assert [change.path for change in named.add(lab.home / "in" / "file.mp4").added] == [str(outside)]
    assert [failure.code for failure in named.add(lab.home / "in" / "self").failed] == ["video_not_found"]


def test_roots_are_the_widest_of_what_was_given(lab: Any) -> None:
    path = lab.video("one/a.mp4", seed=1)
    lab.video("one/b.mp4", seed=2)
    lab.video("one1/c.mp4", seed=3)
    library = lab.create()
    library.add(path)
    assert library.roots() == [str(path)]
    library.add(lab.home / "one")
    assert library.roots() == [str(lab.home / "one")]
    library.add([lab.home / "one1", lab.home / "one" / "b.mp4"])
    assert library.roots() == [str(lab.home / "one"), str(lab.home / "one1")]
    library.add(lab.home)
    assert library.roots() == [str(lab.home)]
    other = lab.create("other")
    other.add(lab.home)
    assert library.dump() == other.dump()


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


@pytest.mark.parametrize("kind", ["missing", "fifo", "device", "nothing matches"])
def test_paths_that_are_no_files(lab: Any, kind: str) -> None:
    path = {"missing": "no.mp4", "fifo": "pipe.mp4", "device": "/dev/null", "nothing matches": "*.nope"}[kind]
    if kind == "fifo":
        os.mkfifo(lab.home / path)
    library = lab.create()
    before = library.dump()
    report = library.add(lab.home / path)
    assert [failure.code for failure in report.failed] == ["video_not_found"]
    assert library.dump() == before


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


def test_progress(lab: Any) -> None:
    lab.video("a.mp4", seconds=10, seed=1)
    lab.video("b.mp4", seconds=30, seed=2)
    lab.bad("c.mp4")
    told: list[AddProgress] = []
    lab.create().add(lab.home, progress=told.append)
    phases = [progress.phase for progress in told]
    assert [phase for number, phase in enumerate(phases) if phase not in phases[:number]] == [
        "scan",
        "hash",
        "ingest",
        "done",
    ]
    ingest = [progress for progress in told if progress.phase == "ingest"]
    assert all(later.done_s >= earlier.done_s for earlier, later in pairwise(ingest))
    assert (ingest[-1].done_videos, ingest[-1].total_videos) == (3, 3)
    assert ingest[-1].done_s == pytest.approx(40.0)
    assert ingest[-1].total_s == pytest.approx(40.0)
    assert ingest[-1].eta_s == pytest.approx(0.0)
    assert ingest[-1].rate > 0
    assert any(progress.eta_s for progress in ingest)


def test_one_writer_at_a_time(lab: Any) -> None:
    lab.video("a.mp4")
    library = lab.create()
    other = lab.open()
    refused: list[str] = []

    def intrude(progress: AddProgress) -> None:
        if progress.phase == "ingest":
            for attempt in (lambda: other.add(lab.home), lambda: other.remove("abc"), other.repair):
                with pytest.raises(LibraryBusy) as caught:
                    attempt()
                refused.append(str(caught.value))
            assert other.videos() == [] or other.find("x")

    library.add(lab.home, progress=intrude)
    assert refused
    assert all(f"process {os.getpid()}" in message for message in refused)
    assert names(other.add(lab.home).unchanged) == ["a.mp4"]


def test_settings_shape_what_is_stored(lab: Any) -> None:
    lab.video("a.mp4", seconds=60)
    sampled = {}
    for workers in (1, 3):
        library = lab.create(f"w{workers}")
        library.add(lab.home, workers=workers)
        sampled[workers] = library.dump()
    assert sampled[1] == sampled[3]


@pytest.mark.parametrize("workers", [0, -1, 33, True, 1.5])
def test_workers_out_of_range(lab: Any, workers: Any) -> None:
    with pytest.raises(InvalidInput, match="workers"):
        lab.create().add(lab.home, workers=workers)


@pytest.mark.parametrize("paths", [[], "", ["a", ""], "a\0b"])
def test_no_path_at_all(lab: Any, paths: Any) -> None:
    with pytest.raises(InvalidInput):
        lab.create().add(paths)
