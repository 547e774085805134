"""`find`, `video`, `ask`: what reads a library, from several threads and beside a writer."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput, LibraryDamaged, LibraryError, NotInLibrary, VideoNotFound
from trifocal.library import Library


@pytest.fixture
def library(lab: Any) -> Library:
    for number in range(5):
        lab.video(f"{number}.mp4", seconds=10, seed=number)
    made: Library = lab.create()
    made.add(lab.home)
    return made


def test_find_is_exact(library: Library, lab: Any) -> None:
    query = lab.encoder.encode_query(["a dog"])[0]
    best = {
        record.id: float((library.prototypes(record.id).vectors.astype(np.float32) @ query).max())
        for record in library.videos()
    }
    moments = library.find("a dog")
    assert [moment.video for moment in moments] == sorted(best, key=lambda video: -best[video])
    assert [moment.score for moment in moments] == pytest.approx(sorted(best.values(), reverse=True), abs=1e-4)
    assert all(0 <= moment.start_s < moment.end_s <= 10 for moment in moments)
    assert len(library.find("a dog", top=2)) == 2
    assert len(library.find("a dog", top=100, moments_per_video=3)) > 5


def test_find_in_some(library: Library) -> None:
    one, two = (record.id for record in library.videos()[:2])
    assert {moment.video for moment in library.find("x", videos=[one[:6], library.video(two).paths[0]])} == {one, two}
    assert library.find("x", videos=[]) == []
    with pytest.raises(NotInLibrary):
        library.find("x", videos=["nothing"])


def test_find_in_an_empty_library(lab: Any) -> None:
    library = lab.create()
    assert library.find("x") == []
    assert (library.videos(), library.failures(), library.status().videos) == ([], [], 0)
    assert library.verify().ok
    assert lab.encoder.queries == 0


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("  ", {}),
        ("a \udcff", {}),
        ("x", {"top": 0}),
        ("x", {"top": 1.5}),
        ("x", {"moments_per_video": 0}),
        ("x", {"top": True}),
    ],
)
def test_find_refuses(library: Library, text: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        library.find(text, **options)


def test_4_a_source_is_a_file_inside_a_root(library: Library, lab: Any) -> None:
    record = library.videos()[0]
    assert library.source(record.id) == record.paths[0]
    outside = lab.folder / "outside.mp4"
    Path(record.paths[0]).rename(outside)
    Path(record.paths[0]).symlink_to(outside)
    with pytest.raises(VideoNotFound, match=record.id):
        library.source(record.id)


def test_the_index_follows_the_catalogue(library: Library, lab: Any) -> None:
    assert len(library.find("x")) == 5
    assert len(list(library.folder.joinpath("index").iterdir())) == 1
    lab.video("new.mp4", seed=9)
    other = lab.open()
    other.add(lab.home)
    assert len(library.find("x")) == 6
    other.remove(lab.home / "new.mp4")
    assert len(library.find("x")) == 5
    assert len(list(library.folder.joinpath("index").iterdir())) == 1


def test_the_index_can_be_deleted_any_time(library: Library, lab: Any) -> None:
    import shutil

    expected = library.find("x")
    shutil.rmtree(library.folder / "index")
    assert library.find("x") == expected
    assert lab.open().find("x") == expected


def test_video_by_any_name(library: Library, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    record = library.videos()[2]
    path = Path(record.paths[0])
    (lab.folder / "link.mp4").symlink_to(path)
    monkeypatch.chdir(path.parent)
    for name in (record.id, record.id[:8], path, str(path), path.name, f"./{path.name}", lab.folder / "link.mp4"):
        assert library.video(name) == record


@pytest.mark.parametrize("name", ["0", "zz", "ffffffffffffffff", "no.mp4", "/", "ABCDEF"])
def test_video_by_no_name(library: Library, name: str) -> None:
    with pytest.raises(NotInLibrary):
        library.video(name)


def test_the_start_of_several_ids(lab: Any, make_reader: Any) -> None:
    reader = make_reader(hashes={"a.mp4": "abc1" + "0" * 60, "b.mp4": "abc2" + "1" * 60})
    lab.video("a.mp4", seed=1)
    lab.video("b.mp4", seed=2)
    library = lab.create(reader=reader)
    library.add(lab.home)
    with pytest.raises(NotInLibrary, match="several"):
        library.video("abc")
    assert library.video("abc2").id == "abc2" + "1" * 12


def test_a_thumbnail_that_is_gone(library: Library) -> None:
    record = library.videos()[0]
    library.thumbnail(record.id).unlink()
    with pytest.raises(LibraryDamaged, match="repair"):
        library.thumbnail(record.id)


@dataclass(frozen=True)
class FakeAnswer:
    video: str
    text: str


class FakeChat:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ask(self, video: Any, question: str, **options: Any) -> FakeAnswer:
        self.asked.append((video, question, options))
        return FakeAnswer(video=str(video), text="yes")


def test_ask(library: Library, lab: Any) -> None:
    chat = FakeChat()
    library = lab.open(chat=chat)
    record = library.videos()[0]
    answer: Any = library.ask(record.id[:8], "is it?", evidence=1)
    assert (answer.video, answer.text) == (record.id, "yes")
    ((path, question, options),) = chat.asked
    assert (path, question, options["evidence"]) == (record.paths[0], "is it?", 1)
    Path(record.paths[0]).rename(lab.folder / "away")
    Path(record.paths[0]).symlink_to(lab.folder / "away")
    with pytest.raises(VideoNotFound, match=record.id):
        library.ask(record.id, "is it?")


def test_many_threads_read_beside_a_writer(library: Library, lab: Any) -> None:
    for number in range(5, 12):
        lab.video(f"{number}.mp4", seconds=10, seed=number)
    writer = lab.open()
    stop, trouble, counts = threading.Event(), [], set()

    def read() -> None:
        try:
            while not stop.is_set():
                counts.add(len(library.find("x", top=100)))
                for record in library.videos():
                    library.video(record.id)
                library.dump()
        except Exception as error:  # noqa: BLE001 - told below
            trouble.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    writer.add(lab.home)
    writer.remove([lab.home / "0.mp4", lab.home / "1.mp4"])
    while 10 not in counts and not trouble:
        stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert trouble == []
    assert len(counts) > 1


def test_closed(library: Library) -> None:
    library.close()
    library.close()
    with pytest.raises(LibraryError, match="closed"):
        library.videos()
