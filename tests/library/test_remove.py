"""`remove`: delete means delete (SECURITY 17); the source files stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from trifocal.errors import InvalidInput, NotInLibrary
from trifocal.library import Library
from trifocal.retrieval.index import files


@pytest.fixture
def library(lab: Any) -> Library:
    for number in range(3):
        lab.video(f"{number}.mp4", seed=number)
    made: Library = lab.create()
    made.add(lab.home)
    return made


def everything(folder: Path) -> bytes:
    return b"".join(
        str(path.relative_to(folder)).encode() + path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def test_a_reader_may_sweep_the_index_away_meanwhile(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    record = library.videos()[0]
    library.find("x")

    def swept(path: Path) -> str:
        shutil.rmtree(path.parent)
        return hash_of(path)

    hash_of = files.file_sha256
    with monkeypatch.context() as patch:
        patch.setattr(files, "file_sha256", swept)
        library.remove(record.id)
    assert {moment.video for moment in library.find("x")} == {video.id for video in library.videos()}
    assert len(library.videos()) == 2


def test_17_nothing_is_left(library: Library, lab: Any) -> None:
    record = library.videos()[0]
    library.find("x")
    vectors = library.prototypes(record.id).vectors.tobytes()
    jpeg = library.thumbnail(record.id).read_bytes()
    cached = library.folder / "cache" / record.id
    cached.mkdir()
    cached.joinpath("prefix.bin").write_text("secret")
    report = library.remove(record.id)
    assert (report.videos, report.paths) == ((record.id,), record.paths)
    assert report.freed_bytes > record.library_bytes
    library.close()
    left = everything(library.folder)
    for trace in (record.id, record.sha256, record.paths[0], "secret"):
        assert trace.encode() not in left, trace
    assert vectors not in left
    assert jpeg not in left
    assert Path(record.paths[0]).exists()
    library = lab.open()
    assert len(library.videos()) == 2
    assert record.id not in {moment.video for moment in library.find("x")}
    assert library.verify().ok
    assert [change.video for change in library.add(lab.home).added] == [record.id]


def test_a_path_means_the_file(library: Library, lab: Any) -> None:
    shutil.copy(lab.home / "0.mp4", lab.home / "copy.mp4")
    library.add(lab.home)
    video = library.video(lab.home / "0.mp4").id
    report = library.remove(lab.home / "copy.mp4")
    assert (report.videos, report.paths) == ((), (str(lab.home / "copy.mp4"),))
    assert library.video(video).paths == (str(lab.home / "0.mp4"),)
    assert str(lab.home / "copy.mp4").encode() not in (library.folder / "logs" / "ingest.jsonl").read_bytes()
    assert library.remove(lab.home / "0.mp4").videos == (video,)


def test_a_folder_means_all_below(library: Library, lab: Any) -> None:
    assert len(library.remove(lab.home).videos) == 3
    assert (library.videos(), library.roots(), library.find("x")) == ([], [], [])


def test_a_file_that_failed_is_forgotten_too(library: Library, lab: Any) -> None:
    path = lab.bad("bad.mp4")
    library.add(lab.home)
    assert library.remove(path).videos == ()
    assert library.failures() == []
    library.close()
    assert b"bad.mp4" not in everything(library.folder)


def test_17_a_file_whose_ingest_was_cut_off_is_forgotten_too(library: Library, lab: Any) -> None:
    path = lab.home / "cut off.mp4"
    with library._catalogue.write() as connection:
        connection.execute("INSERT INTO jobs VALUES (?, ?, 12, 'now')", ("0" * 64, str(path)))
    assert [failure.path for failure in library.failures()] == [str(path)]
    assert library.remove(path).paths == (str(path),)
    assert (library.failures(), library.status().interrupted) == ([], 0)
    library.close()
    assert b"cut off.mp4" not in everything(library.folder)


def test_missing_videos_can_be_removed(library: Library, lab: Any) -> None:
    path = lab.home / "0.mp4"
    video = library.video(path).id
    path.unlink()
    library.add(lab.home)
    assert library.remove(path).videos == (video,)


def test_one_unknown_name_removes_nothing(library: Library) -> None:
    with pytest.raises(NotInLibrary):
        library.remove([library.videos()[0].id, "nowhere.mp4"])
    assert len(library.videos()) == 3


@pytest.mark.parametrize("names", [[], "", "a\0b"])
def test_no_name(library: Library, names: Any) -> None:
    with pytest.raises(InvalidInput):
        library.remove(names)
