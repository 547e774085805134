"""What both engines must do alike: every test here runs on each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryNotFound, NotInLibrary
from trifocal.retrieval import IndexItem, Moment, PrototypeIndex, VideoFacts, VideoFilter, pick_moments

MakeItem = Callable[..., IndexItem]
Query = Callable[..., Any]


def by_hand(query: Any, items: list[IndexItem], *, top: int, moments_per_video: int = 1) -> list[Moment]:
    """Every moment of every video, sorted."""
    found = []
    for item in items:
        scores = np.round(item.prototypes.vectors.astype(np.float32) @ query, 6)
        found += [
            Moment(item.video, *m) for m in pick_moments(scores, item.prototypes.spans_s, count=moments_per_video)
        ]
    return sorted(found, key=Moment.sort_key)[:top]


def places(moments: list[Moment]) -> list[tuple[str, float, float]]:
    return [(moment.video, moment.start_s, moment.end_s) for moment in moments]


def test_it_is_an_index(make_index: Any) -> None:
    assert isinstance(make_index(), PrototypeIndex)


def test_add_search_replace_remove(make_index: Any, item: MakeItem, query: Query) -> None:
    items = [item(number) for number in range(30)]
    index = make_index(items[20:])
    assert index.add(items[:20]) == 20
    assert (len(index), index.count(), index.encoder, index.dim) == (30, 30, "e1", 16)
    assert index.videos == tuple(entry.video for entry in items)
    for seed in range(5):
        for top, several in ((1, 1), (7, 1), (12, 3), (100, 2)):
            found = index.search(query(seed), top=top, moments_per_video=several)
            expected = by_hand(query(seed), items, top=top, moments_per_video=several)
            assert places(found) == places(expected)
            assert np.allclose([m.score for m in found], [m.score for m in expected], atol=2e-6)
    newer = [item(number, k=4, seed=900 + number) for number in (3, 4, 40)]
    assert index.replace(newer) == 3
    items = sorted([entry for entry in items if entry.video not in ("video003", "video004")] + newer)
    assert places(index.search(query(), top=40)) == places(by_hand(query(), items, top=40))
    assert index.remove(["video040", "video000", "video004"]) == 3
    items = [entry for entry in items if entry.video not in ("video000", "video004", "video040")]
    assert index.videos == tuple(entry.video for entry in items)
    assert "video004" not in index
    assert "video003" in index
    assert places(index.search(query(), top=40)) == places(by_hand(query(), items, top=40))
    index.verify()


def test_what_comes_out_is_what_went_in(make_index: Any, item: MakeItem) -> None:
    items = [item(number) for number in range(12)]
    index = make_index(reversed(items))
    for got, put in zip(index.items(without={"video003"}), items[:3] + items[4:], strict=True):
        assert (got.video, got.facts, got.stamp) == (put.video, put.facts, put.stamp)
        assert (got.prototypes.vectors == put.prototypes.vectors).all()
        assert (got.prototypes.spans_s == put.prototypes.spans_s).all()
    assert index.stamps() == {entry.video: entry.stamp for entry in items}
    assert (index.prototypes("video007").vectors == items[7].prototypes.vectors).all()
    with pytest.raises(NotInLibrary):
        index.prototypes("video099")


@pytest.mark.parametrize(
    ("where", "admitted"),
    [
        (VideoFilter(), range(12)),
        (VideoFilter(folder="/home/v/a"), range(1, 12, 2)),  # not /home/v/ab
        (VideoFilter(folder="/home/v/ab/"), range(0, 12, 2)),
        (VideoFilter(folder="/home/v/a/3"), [3]),
        (VideoFilter(folder="/home/o'brien"), []),
        (VideoFilter(after_s=3000, before_s=5000), [3, 4]),
        (VideoFilter(shortest_s=20, longest_s=30), [1, 2, 6, 7, 11]),
        (VideoFilter(folder="/home/v/a", after_s=6000), [7, 9, 11]),
    ],
)
def test_filters(make_index: Any, item: MakeItem, query: Query, where: VideoFilter, admitted: Any) -> None:
    items = [item(number) for number in range(12)]
    unknown = IndexItem("unknown", item(50).prototypes)
    index = make_index([*items, unknown])
    expected = [items[number] for number in admitted] + ([unknown] if where.empty else [])
    assert index.filter(where) == tuple(sorted(entry.video for entry in expected))
    assert index.count(where) == len(expected)
    assert places(index.search(query(), top=20, where=where)) == places(by_hand(query(), expected, top=20))
    names = ["video003", "video004"]
    both = [entry for entry in expected if entry.video in names]
    assert places(index.search(query(), where=where, videos=names)) == places(by_hand(query(), both, top=10))


def test_some_videos_and_not_others(make_index: Any, item: MakeItem, query: Query, monkeypatch: Any) -> None:
    items = [item(number) for number in range(30)]
    index = make_index(items)
    names = [entry.video for entry in items]
    cases: list[tuple[Any, list[str]]] = [
        (None, names[:3]),
        (None, names[2:]),
        (names[5:25], names[10:]),
        (names[:1], names[:1]),
        ([*names[3:6], "unknown"], ["unknown"]),
        (None, names),
    ]
    for few in (200, 0):  # as a condition, and looked up among the rows
        monkeypatch.setattr("trifocal.retrieval.index.rows._NAMES_IN_A_CONDITION", few)
        for most in (50_000, 4):
            monkeypatch.setattr("trifocal.retrieval.index.candidates._ROWS_AT_MOST", most)
            monkeypatch.setattr("trifocal.retrieval.index.candidates._ROWS_AT_LEAST", 2)
            monkeypatch.setattr("trifocal.retrieval.index.candidates._ROWS_PER_TOP", 1)
            for videos, without in cases:
                left = [entry for entry in items if entry.video in (videos or names) and entry.video not in without]
                found = index.search(query(), top=8, videos=videos, without=without)
                assert places(found) == places(by_hand(query(), left, top=8))
                assert places(index.search_many([query()], top=8, videos=videos, without=without)[0]) == places(found)


def test_an_empty_index(make_index: Any, query: Query) -> None:
    index = make_index()
    assert (len(index), index.videos, index.search(query()), list(index.items())) == (0, (), [], [])
    assert index.search_many(np.stack([query(), query(1)])) == [[], []]
    assert (index.add([]), index.replace([]), index.remove([])) == (0, 0, 0)
    index.verify()


def test_queries_in_a_batch_find_the_same(make_index: Any, item: MakeItem, query: Query) -> None:
    index = make_index(item(number) for number in range(25))
    queries = np.stack([query(seed) for seed in range(20)])
    where = VideoFilter(folder="/home/v/a")
    many = index.search_many(queries, top=6, where=where)
    assert [places(found) for found in many] == [places(index.search(one, top=6, where=where)) for one in queries]
    assert index.search_many(queries[:0]) == []


def test_what_does_not_fit_is_refused_and_changes_nothing(make_index: Any, item: MakeItem, query: Query) -> None:
    index = make_index([item(1), item(2)])
    wrong: list[tuple[Any, list[Any]]] = [
        (index.add, [item(3), item(1)]),
        (index.add, [item(4), item(4)]),
        (index.replace, [item(4), item(4)]),
        (index.add, [item(5), item(6, dim=8)]),
        (index.replace, [item(1, dim=8)]),
        (index.add, [("", item(1).prototypes)]),
        (index.add, [(7, item(1).prototypes)]),
    ]
    for verb, items in wrong:
        with pytest.raises(InvalidInput) as caught:
            verb(items)
        assert caught.value.remedy
    with pytest.raises(NotInLibrary):
        index.remove(["video001", "video099"])
    for asked in (query(dim=8), query() * 2, np.full(16, np.nan), np.zeros((1, 16))):
        with pytest.raises(InvalidInput):
            index.search(asked)
    with pytest.raises(InvalidInput):
        index.search(query(), top=0)
    assert index.videos == ("video001", "video002")
    index.verify()


def test_a_space_of_another_encoder_is_refused(make_index: Any, item: MakeItem) -> None:
    index = make_index([item(1)])
    place = index.folder if hasattr(index, "folder") else index.uri
    assert type(index).open(place, encoder="e1").videos == ("video001",)
    with pytest.raises(EncoderMismatch) as caught:
        type(index).open(place, encoder="e2")
    assert "reindex" in caught.value.remedy
    with pytest.raises(LibraryNotFound):
        type(index).open(f"{place}-nothing")


def test_ties_go_by_video_then_start(make_index: Any, item: MakeItem) -> None:
    same = item(3).prototypes
    index = make_index([("d", same), ("b", same)])
    index.add([("c", same), ("a", same)])
    query = same.vectors[0].astype(np.float32)
    found = index.search(query / np.linalg.norm(query), top=3)
    assert [moment.video for moment in found] == ["a", "b", "c"]


def test_export_is_read_by_anybody(make_index: Any, item: MakeItem, tmp_path: Path) -> None:
    items = [item(number) for number in range(6)]
    folder = make_index(items).export(tmp_path / "out")
    assert json.loads((folder / "about.json").read_text()) == {
        "encoder": "e1",
        "dim": 16,
        "videos": 6,
        "prototypes": sum(len(entry.prototypes) for entry in items),
    }
    vectors = np.load(folder / "vectors.npy", allow_pickle=False)
    assert (vectors == np.concatenate([entry.prototypes.vectors for entry in items])).all()
    with (folder / "prototypes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(vectors)
    assert (lines[0]["video"], lines[0]["folder"], float(lines[0]["end_s"])) == ("video000", "/home/v/ab/0", 10.0)
    with pytest.raises(InvalidInput, match="not empty"):
        make_index(items, name="again").export(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: VideoFacts(dated_s=float("nan")),
        lambda: VideoFacts(duration_s=-1.0),
        lambda: VideoFilter(after_s=float("inf")),
        lambda: VideoFilter(longest_s=float("nan")),
    ],
)
def test_facts_and_filters_are_checked(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput):
        wrong()
