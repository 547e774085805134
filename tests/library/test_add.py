"""`add`: what is stored of videos, equal ones, odd names, and what is told meanwhile."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.library.conftest import names

from trifocal.errors import InvalidInput, LibraryBusy
from trifocal.library import AddProgress


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
