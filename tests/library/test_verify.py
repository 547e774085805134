"""`verify` and `repair`: every kind of planted damage is found, put right where it can be, and said."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifocal.errors import LibraryDamaged
from trifocal.library import Library
from trifocal.library.catalogue import CATALOGUE_NAME
from trifocal.library.settings import MANIFEST_NAME


def sql(library: Library, *statements: str) -> None:
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def first(library: Library) -> str:
    return library.videos()[0].id


def prototypes(library: Library) -> Path:
    return library.folder / "prototypes" / f"{first(library)}.npy"


def thumbnails(library: Library) -> Path:
    return library.folder / "thumbnails" / first(library)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def picture(library: Library) -> Path:
    return sorted(thumbnails(library).iterdir())[0]


def index_file(library: Library) -> Path:
    library.find("x")
    return next(library.folder.joinpath("index").rglob("vectors-*.npy"))


DAMAGE: dict[str, tuple[str, Callable[[Library], object]]] = {
    "prototypes gone": ("prototypes", lambda library: prototypes(library).unlink()),
    "prototypes flipped": ("prototypes", lambda library: flip_last_byte(prototypes(library))),
    "prototypes cut": ("prototypes", lambda library: os.truncate(prototypes(library), 50)),
    "prototypes empty": ("prototypes", lambda library: prototypes(library).write_bytes(b"")),
    "spans gone": (
        "prototypes",
        lambda library: sql(library, f"DELETE FROM prototypes WHERE video = '{first(library)}'"),
    ),
    "span too many": (
        "prototypes",
        lambda library: sql(library, f"INSERT INTO prototypes VALUES ('{first(library)}', 99, 0, 1, 0)"),
    ),
    "span beyond the end": (
        "prototypes",
        lambda library: sql(library, f"UPDATE prototypes SET end_s = 99 WHERE video = '{first(library)}' AND k = 3"),
    ),
    "thumbnails gone": ("thumbnails", lambda library: shutil.rmtree(thumbnails(library))),
    "thumbnail gone": ("thumbnails", lambda library: picture(library).unlink()),
    "thumbnail flipped": ("thumbnails", lambda library: flip_last_byte(picture(library))),
    "thumbnail too many": ("thumbnails", lambda library: (thumbnails(library) / "000099999.jpg").write_bytes(b"x")),
    "poster unknown": ("thumbnails", lambda library: sql(library, "UPDATE videos SET poster_ms = 77")),
    "stray prototypes": (
        "stray",
        lambda library: (library.folder / "prototypes" / "0123456789abcdef.npy").write_bytes(b"x"),
    ),
    "stray thumbnails": ("stray", lambda library: (library.folder / "thumbnails" / "0123456789abcdef").mkdir()),
    "stray note": ("stray", lambda library: (library.folder / "prototypes" / "note.txt").write_text("x")),
    "stray cache": ("stray", lambda library: (library.folder / "cache" / "0123456789abcdef").mkdir()),
    "left by a killed writer": ("unfinished", lambda library: (library.folder / "tmp" / "9-ab").write_bytes(b"x")),
    "removal unfinished": (
        "unfinished",
        lambda library: sql(library, "INSERT INTO deletions VALUES ('0123456789abcdef', '[]')"),
    ),
    "settings gone": ("settings", lambda library: (library.folder / MANIFEST_NAME).unlink()),
    "settings no JSON": ("settings", lambda library: (library.folder / MANIFEST_NAME).write_text("{")),
    "settings edited": (
        "settings",
        lambda library: (library.folder / MANIFEST_NAME).write_text(
            (library.folder / MANIFEST_NAME).read_text().replace('"prototypes": 4', '"prototypes": 5')
        ),
    ),
    "settings without a key": (
        "settings",
        lambda library: (library.folder / MANIFEST_NAME).write_text(
            (library.folder / MANIFEST_NAME).read_text().replace('"max_frames"', '"most_frames"')
        ),
    ),
    "video without files": (
        "no_files",
        lambda library: sql(library, f"DELETE FROM files WHERE video = '{first(library)}'"),
    ),
    "files without a video": (
        "reference",
        lambda library: sql(library, f"DELETE FROM videos WHERE id = '{first(library)}'"),
    ),
    "files without a root": ("reference", lambda library: sql(library, "DELETE FROM roots")),
    "file gone": ("file_missing", lambda library: Path(library.videos()[0].paths[0]).unlink()),
    "file changed": ("file_changed", lambda library: Path(library.videos()[0].paths[0]).write_text("FAKE 5 77")),
    "file back": ("file_returned", lambda library: sql(library, "UPDATE files SET state = 'missing'")),
    "index flipped": ("index", lambda library: flip_last_byte(index_file(library))),
    "index cut": ("index", lambda library: os.truncate(index_file(library), 200)),
}


@pytest.fixture
def library(lab: Any) -> Library:
    for number in range(3):
        lab.video(f"{number}.mp4", seed=number)
    made: Library = lab.create()
    made.add(lab.home)
    return made


def test_a_sound_library(library: Library) -> None:
    report = library.verify(sources=True)
    assert (report.ok, report.findings, report.videos, report.files) == (True, (), 3, 3)
    assert report.checked_bytes > 0
    assert report.to_dict()["ok"] is True
    before = library.dump()
    repaired = library.repair()
    assert (repaired.done, repaired.lost, library.dump()) == ((), (), before)


@pytest.mark.parametrize("name", DAMAGE)
def test_13_damage_is_found_and_put_right(library: Library, lab: Any, name: str, contents_of: Any) -> None:
    kind, plant = DAMAGE[name]
    before, stored = library.dump(), contents_of(library.folder)
    plant(library)
    found = library.verify()
    assert kind in {finding.kind for finding in found.problems}, found
    assert not found.ok
    library.close()
    library = lab.open(damaged=True)
    report = library.repair()
    assert report.done
    assert report.after.ok, report
    assert library.verify().ok
    library.close()
    library = lab.open()
    library.find("x")
    library.add(lab.home)
    assert library.verify(sources=True).ok
    # A file that is gone or was changed stays so; all else comes back to the byte.
    if name not in ("file gone", "file changed"):
        assert library.dump() == before
        assert contents_of(library.folder) == stored


@pytest.mark.parametrize("name", ["settings gone", "settings no JSON", "settings edited", "settings without a key"])
def test_a_library_with_damaged_settings_does_not_open(library: Library, lab: Any, name: str) -> None:
    DAMAGE[name][1](library)
    library.close()
    with pytest.raises(LibraryDamaged, match="repair"):
        lab.open()


@pytest.mark.parametrize("name", ["prototypes gone", "prototypes flipped", "prototypes cut", "spans gone"])
def test_search_says_what_is_damaged(library: Library, name: str) -> None:
    DAMAGE[name][1](library)
    with pytest.raises(LibraryDamaged, match=first(library)) as caught:
        library.find("x")
    assert "repair" in caught.value.remedy
    with pytest.raises(LibraryDamaged):
        library.prototypes(first(library))


def test_a_damaged_index_is_built_again_by_itself(library: Library, lab: Any) -> None:
    expected = library.find("x")
    os.truncate(index_file(library), 200)
    library.close()
    assert lab.open().find("x") == expected


def test_damage_without_a_source(library: Library, lab: Any) -> None:
    record = library.videos()[0]
    prototypes(library).unlink()
    Path(record.paths[0]).rename(lab.folder / "away.mp4")
    report = library.repair()
    assert any(record.id in line for line in report.lost)
    assert report.after.ok
    assert record.id not in {video.id for video in library.videos()}
    (lab.folder / "away.mp4").rename(record.paths[0])
    assert [change.video for change in library.add(lab.home).added] == [record.id]


def test_lost_thumbnails_without_a_source_take_no_video_with_them(library: Library, lab: Any) -> None:
    """The drive is unplugged: what can be found today can still be found when it is back."""
    record = library.videos()[0]
    picture(library).unlink()
    Path(record.paths[0]).rename(lab.folder / "away.mp4")
    library.add(lab.home)
    report = library.repair()
    assert any(record.id in line for line in report.lost)
    assert not report.after.ok
    assert record.id in {moment.video for moment in library.find("x", include_missing=True)}
    (lab.folder / "away.mp4").rename(record.paths[0])
    report = library.repair()
    assert report.after.ok
    assert report.lost == ()


def test_damage_with_a_source_that_has_changed(library: Library, lab: Any) -> None:
    record = library.videos()[0]
    prototypes(library).unlink()
    Path(record.paths[0]).write_text("FAKE 4 1234")
    report = library.repair()
    assert report.after.ok
    assert record.id not in {video.id for video in library.videos()}
    library.add(lab.home)
    assert len(library.videos()) == 3


def test_a_change_that_kept_size_time_and_number_needs_sources(library: Library) -> None:
    path = Path(library.videos()[0].paths[0])
    status = path.stat()
    path.write_text("FAKE 4.0 9\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert library.verify().ok
    found = library.verify(sources=True)
    assert [finding.kind for finding in found.problems] == ["file_changed"]
    report = library.repair(sources=True)
    assert report.after.ok
    assert any(line.startswith("replaced") for line in report.done)


def test_notes_are_no_problems(library: Library, lab: Any) -> None:
    library.find("x")
    lab.video("new.mp4", seed=9)
    (lab.home / "0.mp4").unlink()
    library.add(lab.home)
    report = library.verify()
    assert report.ok
    assert sorted(finding.kind for finding in report.findings) == ["file_missing", "index"]


def test_failures_are_listed_with_their_remedy(library: Library, lab: Any) -> None:
    lab.bad("bad.mp4")
    library.add(lab.home)
    report = library.verify()
    assert report.ok
    assert [(failure.code, failure.remedy) for failure in report.failures] == [("video_unreadable", "Give another.")]


@pytest.mark.parametrize("how", ["gone", "garbage", "empty", "a damaged page"])
def test_a_catalogue_beyond_use(library: Library, lab: Any, how: str, contents_of: Any) -> None:
    for number in range(3, 40):
        lab.video(f"{number}.mp4", seed=number)
    library.add(lab.home)
    library.find("x")
    before, stored = library.dump(), contents_of(library.folder)
    library.close()
    path = library.folder / CATALOGUE_NAME
    if how == "gone":
        path.unlink()
    elif how == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content = bytearray(path.read_bytes())
        late = len(content) * 3 // 4 // 4096 * 4096  # beyond the pages of the schema, which come first
        content[late : late + 4096] = os.urandom(4096)
        path.write_bytes(content)
    if how == "a damaged page":
        opened = lab.open()
        assert {finding.kind for finding in opened.verify().problems} == {"catalogue"}
        with pytest.raises(LibraryDamaged, match="repair"):
            opened.repair()
        opened.close()
    else:
        with pytest.raises(LibraryDamaged, match="repair"):
            lab.open()
    library = lab.open(damaged=True)
    report = library.repair()
    assert any(CATALOGUE_NAME in line for line in report.done)
    assert report.after.ok
    library.add(lab.home)
    assert library.dump() == before
    assert contents_of(library.folder) == stored
    assert len(library.find("x", top=100)) == 40
    assert not list(library.folder.glob("*.damaged*"))


class Killed(BaseException):
    """Ends a test's work where it stands."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.mark.parametrize("where", ["_salvaged", "contents.set_meta", "mend_references", "Store.write_file"])
def test_13_salvage_killed_at_every_write_point(
    library: Library, lab: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The rows that can be read of a damaged catalogue are still there for the salvage that follows."""
    for number in range(3, 40):
        lab.video(f"{number}.mp4", seed=number)
    library.add(lab.home)
    library.close()
    (library.folder / MANIFEST_NAME).unlink()
    path = library.folder / CATALOGUE_NAME
    content = bytearray(path.read_bytes())
    late = len(content) * 3 // 4 // 4096 * 4096  # beyond the pages of the schema, which come first
    content[late : late + 4096] = b"x" * 4096
    path.write_bytes(content)
    shutil.copytree(library.folder, lab.folder / "whole")
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(f"trifocal.library.salvage.{where}", die)
            with pytest.raises(Killed):
                lab.open(damaged=True)
    library, whole = lab.open(damaged=True), lab.open("whole", damaged=True)
    assert len(library.videos()) > 10
    assert library.dump() == whole.dump()


def test_13_repair_killed_before_the_files_are_added_again(
    library: Library, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = library.dump()
    sql(library, f"DELETE FROM videos WHERE id = '{first(library)}'")
    with monkeypatch.context() as patch:
        patch.setattr("trifocal.library.addition.Addition.add", die)
        with pytest.raises(Killed):
            library.repair()
    assert [finding.kind for finding in library.verify().problems] == ["reference"]
    assert library.repair().after.ok
    assert library.dump() == before


def test_settings_and_catalogue_both_gone(library: Library, lab: Any) -> None:
    library.close()
    (library.folder / CATALOGUE_NAME).write_bytes(b"no database" * 1000)
    (library.folder / MANIFEST_NAME).write_text("{")
    with pytest.raises(LibraryDamaged, match="new library"):
        lab.open(damaged=True)
