"""Which engine a library searches with: coarse codes, the store, what either leaves of a removed video."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trifocal.errors import InvalidInput, LibraryDamaged
from trifocal.library import Library, VideoFilter
from trifocal.library import search as search_module
from trifocal.library.engine import Engine
from trifocal.retrieval import ExactIndex, StoreIndex
from trifocal.retrieval.index import candidates as candidates_module
from trifocal.retrieval.index import rows as rows_module


@pytest.fixture
def library(lab: Any) -> Library:
    for number in range(6):
        lab.video(f"{'a' if number % 2 else 'ab'}/{number}.mp4", seconds=4 + number, seed=number)
    made: Library = lab.create()
    made.add(lab.home)
    return made


@pytest.fixture
def stored(library: Library) -> Library:
    if not os.environ.get("CI"):
        pytest.importorskip("lancedb")
    library.use_engine("store")
    library.find("x")
    return library


@pytest.mark.parametrize(
    "engine",
    [
        Engine(),
        Engine(codes="int8"),
        Engine(codes="binary"),
        Engine(engine="store"),
        Engine(engine="store", uri="s3://bucket/index"),
    ],
)
def test_what_meta_keeps_is_read_again(engine: Engine) -> None:
    assert Engine.of(engine.text) == engine
    assert (engine.text == "") == (engine == Engine())


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": "best"},
        {"uri": "x"},
        {"codes": "int4"},
        {"engine": "store", "codes": "int8"},
        {"engine": "store", "uri": 3},
    ],
)
def test_what_is_no_engine(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Engine(**wrong)
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["{", "[]", '{"engine": "best"}', '{"key": 1}'])
def test_what_cannot_be_read_is_damage(text: str) -> None:
    with pytest.raises(LibraryDamaged, match="engine"):
        Engine.of(text)


@pytest.mark.parametrize("codes", ["int8", "binary"])
def test_coarse_codes(lab: Any, library: Library, codes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = library.find("x", top=3)
    library.use_engine("exact", codes=codes)
    assert library.find("x", top=3) == exact
    (folder,) = (library.folder / "index").iterdir()
    assert list(folder.glob(f"{codes}-*.npy"))
    assert library.verify().ok
    read: list[Any] = []
    coarse = ExactIndex.search

    def watched(index: Any, *arguments: Any, **options: Any) -> Any:
        read.append(index._codes)
        return coarse(index, *arguments, **options)

    monkeypatch.setattr(ExactIndex, "search", watched)
    lab.video("new.mp4", seconds=3, seed=50)
    library.add(lab.home)
    assert len(library.find("x")) == 7  # grown from the one before, codes and all
    assert lab.open().find("x") == library.find("x")
    assert set(read) == {codes}
    library.use_engine("exact")
    library.find("x")
    assert read[-1] is None
    assert not list((library.folder / "index").rglob(f"{codes}-*.npy"))


def test_the_catalogue_decides_what_is_looked_in(stored: Library, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters and missing files give what exact files give, and no search reads the ids of all videos."""
    (lab.home / "a" / "3.mp4").unlink()
    (lab.home / "ab" / "copy.mp4").write_bytes((lab.home / "a" / "1.mp4").read_bytes())  # one video in two folders
    stored.add(lab.home)
    asked: list[dict[str, Any]] = [
        {},
        {"include_missing": True},
        {"where": VideoFilter(folder=str(lab.home / "ab"))},
        {"where": VideoFilter(longest_s=6.0), "include_missing": True},
        {"videos": [lab.home / "a" / "1.mp4", lab.home / "ab" / "2.mp4"]},
        {"where": VideoFilter(folder="/nowhere")},
    ]
    stored.find("x")

    def forbidden(index: Any) -> Any:
        raise AssertionError("all ids were read")

    with monkeypatch.context() as patch:
        patch.setattr(StoreIndex, "stamps", forbidden)
        found = [stored.find("x", **options) for options in asked]
        patch.setattr(rows_module, "_NAMES_IN_A_CONDITION", 0)  # every name is looked up among the rows instead
        assert [stored.find("x", **options) for options in asked] == found
        patch.setattr(candidates_module, "_ROWS_AT_LEAST", 1)
        patch.setattr(candidates_module, "_ROWS_PER_TOP", 1)
        assert [stored.find("x", **options) for options in asked] == found
    stored.use_engine("exact")
    assert [stored.find("x", **options) for options in asked] == found
    assert [len(moments) for moments in found] == [5, 6, 4, 3, 2, 0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_17_the_store_keeps_nothing_of_a_removed_video(
    stored: Library, lab: Any, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = lab.folder / "elsewhere" if elsewhere else stored.folder / "index"
    if elsewhere:
        stored.use_engine("store", uri=str(place))
        stored.find("x")
    record = stored.videos()[0]
    traces = [row.tobytes() for row in stored.prototypes(record.id).vectors] + [record.id.encode()]

    def left() -> list[str]:
        files = [path for path in place.rglob("*") if path.is_file()]
        return [path.name for path in files if any(trace in path.read_bytes() for trace in traces)]

    def forbidden(*_: Any) -> Any:
        raise AssertionError("the store was made anew")

    assert left()
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "load_prototypes", forbidden)
        stored.remove(record.id)
        assert left() == []
        assert len(stored.find("x")) == 5
    assert stored.verify().ok


def test_a_store_that_cannot_be_changed_goes_as_a_whole(stored: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("lance error: no such file")

    with monkeypatch.context() as patch:
        patch.setattr(StoreIndex, "erase", broken)
        report = stored.remove(stored.videos()[0].id)
        assert report.freed_bytes > 0
    assert not (Path(stored.folder) / "index" / "store").exists()
    assert len(stored.find("x")) == 5
