"""Looking for pictures, clips and combinations; filters; batches; moments placed by clip tokens; the store engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trifocal.errors import InvalidInput, LibraryDamaged, MissingExtra, VideoError
from trifocal.library import Library, LibrarySettings, Query, VideoFilter
from trifocal.library import search as search_module
from trifocal.library.sharpen import sharpened
from trifocal.retrieval import combine_queries


@pytest.fixture
def library(lab: Any) -> Library:
    for number in range(6):
        folder = "a" if number % 2 else "ab"
        lab.video(f"{folder}/{number}.mp4", seconds=4 + number, seed=number)
        os.utime(lab.home / folder / f"{number}.mp4", (1000 * number, 1000 * number))
    made: Library = lab.create()
    made.add(lab.home)
    return made


def names(library: Library, moments: Any) -> list[str]:
    return [Path(library.video(moment.video).paths[0]).stem for moment in moments]


def test_a_clip_finds_its_video_and_a_picture_its_moment(lab: Any, library: Library, tmp_path: Path) -> None:
    clip = lab.folder / "clip.mp4"
    for number in range(6):
        clip.write_text(f"FAKE 0.5 {number}")  # the first frame of that video alone
        (found,) = library.find(Query(clips=(clip,)), top=1)
        assert names(library, [found]) == [str(number)]
        assert found.start_s == 0
    frames = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)  # the first of 3.mp4
    Image.fromarray(frames[2]).save(tmp_path / "frame.png")
    (found,) = library.find(Query(images=(tmp_path / "frame.png",)), top=1)
    assert names(library, [found]) == ["3"]
    assert found.start_s <= 1.0 <= found.end_s
    clip.write_text("FAKE 1.0 3")
    both = library.encoder().encode_frames(np.random.default_rng(3).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8))
    mean = both.mean(axis=0)
    assert np.allclose(library.query_vector(Query(clips=(clip,))), mean / np.linalg.norm(mean), atol=1e-6)


def test_combinations(library: Library) -> None:
    encoder = library.encoder()
    one, two, three = encoder.encode_query(["one", "two", "three"])
    query = Query(texts=("one", "two"), but_not=("three",))
    wanted = combine_queries(np.stack([one, two]), unwanted=three[None])
    assert np.allclose(library.query_vector(query), wanted)
    expected = (one + two) / 2 - three / 2
    assert np.allclose(wanted, expected / np.linalg.norm(expected), atol=1e-6)
    assert [m.video for m in library.find(query)] == [m.video for m in library._search.index()[0].search(wanted)]
    assert str(query) == "one + two − three"


WRONG_COMBINATIONS: list[Any] = [
    lambda: combine_queries(np.zeros((0, 4))),
    lambda: combine_queries(np.ones(4)),
    lambda: combine_queries(np.eye(4)[:1], unwanted=np.eye(4)[:1], weight=1.0),
    lambda: combine_queries(np.eye(4)[:1], unwanted=np.eye(5)[:1]),
    lambda: combine_queries(np.eye(4)[:1], weight=-1.0),
    lambda: combine_queries(np.full((1, 4), np.nan)),
    Query,
    lambda: Query(but_not=("a",)),
    lambda: Query(texts=(" ",)),
    lambda: Query(texts=("a",), but_not=("\udc00",)),
]


@pytest.mark.parametrize("wrong", WRONG_COMBINATIONS)
def test_what_cannot_be_looked_for(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        wrong()
    assert caught.value.remedy


def test_bad_pictures_and_clips(lab: Any, library: Library, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:40])
    for name in ("text.png", "empty.jpg", "cut.png", "nothing.png", "."):
        with pytest.raises(InvalidInput) as caught:
            library.find(Query(images=(tmp_path / name,)))
        assert caught.value.remedy
    lab.bad("bad.mp4")
    with pytest.raises(VideoError):
        library.find(Query(clips=(lab.home / "bad.mp4",)))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"folder": "videos/a"}, "135"),
        ({"folder": "videos"}, "012345"),
        ({"after_s": 2000.0, "before_s": 4000.0}, "23"),
        ({"shortest_s": 7.0}, "345"),
        ({"longest_s": 5.0, "folder": "videos/a"}, "1"),
        ({"folder": "elsewhere"}, ""),
    ],
)
def test_filters(lab: Any, library: Library, where: dict[str, Any], expected: str) -> None:
    if "folder" in where:
        where = {**where, "folder": str(lab.folder / where["folder"])}
    found = library.find("x", where=VideoFilter(**where))
    assert sorted(names(library, found)) == list(expected)


def test_a_batch_finds_what_each_finds(library: Library) -> None:
    texts = [f"query {number}" for number in range(20)]
    many = library.find_many(texts, top=4, moments_per_video=2)
    for text, found in zip(texts, many, strict=True):
        alone = library.find(text, top=4, moments_per_video=2)
        assert [(m.video, m.start_s, m.end_s) for m in found] == [(m.video, m.start_s, m.end_s) for m in alone]
    assert library.find_many([]) == []


@pytest.mark.parametrize("kind", ["half", "int8"])
def test_clip_tokens_place_moments_to_the_frame(lab: Any, kind: Any, contents_of: Any) -> None:
    for number in range(3):
        lab.video(f"{number}.mp4", seconds=20, seed=number)
    settings = LibrarySettings(prototypes=2, batch_size=4, thumbnail_size=16, clip_tokens=kind)
    library = lab.create(settings=settings)
    library.add(lab.home)
    record = library.videos()[0]
    tokens = library.tokens(record.id)
    assert tokens is not None
    query = tokens.vectors()[20]
    assert record.frames == 40
    moments = library._search.index()[0].search(query / np.linalg.norm(query), top=1)
    (placed,) = sharpened(moments, query, read=library.tokens)
    if moments[0].start_s <= 10 <= moments[0].end_s:
        assert (placed.start_s, placed.end_s) == pytest.approx((9.75, 10.25), abs=0.51)
    assert placed.score == moments[0].score
    assert library.verify().ok
    assert record.library_bytes > len(tokens) * 24
    # Lost tokens are a finding, made again by `repair`, and gone with the video.
    path = library.folder / "tokens" / f"{record.id}.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert [finding.kind for finding in library.verify().problems] == ["tokens"]
    with pytest.raises(LibraryDamaged):
        library.find("x")
    assert library.repair().after.ok
    assert library.tokens(record.id) is not None
    library.remove(record.id)
    assert not path.exists()
    assert not [name for name in contents_of(library.folder) if record.id in name]


def test_no_tokens_unless_asked(library: Library) -> None:
    assert library.tokens(library.videos()[0].id) is None
    assert not list((library.folder / "tokens").iterdir())


def test_the_index_grows_from_the_one_before(lab: Any, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.find("x")
    read: list[str] = []
    load = search_module.load_prototypes

    def counted(catalogue: Any, store: Any, video: str) -> Any:
        read.append(video)
        return load(catalogue, store, video)

    monkeypatch.setattr(search_module, "load_prototypes", counted)
    lab.video("new.mp4", seconds=3, seed=50)
    library.add(lab.home)
    assert len(library.find("x")) == 7
    assert len(read) == 1
    library.remove([library.videos()[0].id, library.videos()[3].id])
    assert len(library.find("x")) == 5
    assert len(read) == 1  # removals read nothing
    assert len(list((library.folder / "index").iterdir())) == 1
    assert library.verify().ok
    fresh = lab.open()
    assert fresh.find("x") == library.find("x")


def test_the_store_engine(lab: Any, library: Library, make_encoder: Any) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("lancedb")
    exact = library.find("x", top=20, moments_per_video=2)
    library.use_engine("store")
    assert library.find("x", top=20, moments_per_video=2) == exact
    lab.video("new.mp4", seconds=3, seed=50)
    library.add(lab.home)
    gone = library.videos()[0].id
    library.remove(gone)
    assert len(library.find("x")) == 6
    assert gone not in {moment.video for moment in library.find("x", top=50)}
    assert library.verify().ok
    library.use_engine("store", uri=str(lab.folder / "elsewhere"))
    assert len(library.find("x")) == 6
    library.reindex(encoder=make_encoder("fake-2", dim=12))
    assert len(library.find("x")) == 6
    library.remove(library.videos()[0].id)
    assert len(library.find("x")) == 5
    assert library.verify().ok
    library.use_engine("exact")
    assert len(library.find("x")) == 5
    with pytest.raises(InvalidInput):
        library.use_engine("best")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        library.use_engine("exact", uri="x")


def test_the_store_engine_without_its_extra(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    library.use_engine("store")
    with pytest.raises(MissingExtra, match="scale"):
        library.find("x")
    library.use_engine("exact")
    assert library.find("x")
