"""`add` once more: every thing that can have happened to files since, and what becomes of the library."""

from __future__ import annotations

import os
import shutil
from typing import Any

from tests.library.conftest import names

from trifocal.library import Library


def states(library: Library) -> dict[str, str]:
    return {record.id: record.state for record in library.videos()}


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
