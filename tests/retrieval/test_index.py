"""The exact index: what it finds, how it is replaced, and what it says of damage."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged, LibraryNotFound, NotInLibrary
from trifocal.retrieval import ExactIndex, Moment, Prototypes, pick_moments
from trifocal.retrieval.index import scoring as scoring_module

Units = Callable[..., NDArray[np.float32]]
MakePrototypes = Callable[..., Prototypes]
DIM = 16


@pytest.fixture
def videos(make_prototypes: MakePrototypes) -> list[tuple[str, Prototypes]]:
    """Seven videos of one to nine prototypes."""
    return [(f"v{i}", make_prototypes(k, DIM, seed=i)) for i, k in enumerate((4, 1, 9, 4, 2, 6, 3))]


@pytest.fixture
def index(tmp_path: Path, videos: list[tuple[str, Prototypes]]) -> ExactIndex:
    return ExactIndex.build(tmp_path / "index", videos, encoder="e1", dim=DIM)


def by_hand(
    query: NDArray[np.float32], videos: list[tuple[str, Prototypes]], *, top: int, moments_per_video: int
) -> list[Moment]:
    """Every moment of every video, sorted."""
    found = []
    for video, prototypes in videos:
        scores = np.round(prototypes.vectors.astype(np.float32) @ query, 6)
        found += [Moment(video, *m) for m in pick_moments(scores, prototypes.spans_s, count=moments_per_video)]
    return sorted(found, key=Moment.sort_key)[:top]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000), top=st.integers(1, 12), per_video=st.integers(1, 4), chosen=st.sets(st.integers(0, 6))
)
def test_a_search_finds_what_looking_at_everything_finds(
    index: ExactIndex,
    videos: list[tuple[str, Prototypes]],
    units: Units,
    seed: int,
    top: int,
    per_video: int,
    chosen: set[int],
) -> None:
    query = units(1, DIM, seed=seed)[0]
    for subset in (None, [videos[i][0] for i in chosen]):
        among = videos if subset is None else [videos[i] for i in sorted(chosen)]
        found = index.search(query, top=top, moments_per_video=per_video, videos=subset)
        expected = by_hand(query, among, top=top, moments_per_video=per_video)
        assert [(m.video, m.start_s, m.end_s) for m in found] == [(m.video, m.start_s, m.end_s) for m in expected]
        assert np.allclose([m.score for m in found], [m.score for m in expected], atol=2e-6)


@pytest.mark.parametrize("spread", [1e-5, 1e-4, 1e-3, 1e-1])
def test_the_shortlist_never_loses_a_video(tmp_path: Path, units: Units, spread: float) -> None:
    """Hundreds of videos whose scores differ by less than half precision can tell, and by more."""
    dim, rng = 384, np.random.default_rng(0)
    centre = units(1, dim, seed=5)[0]
    videos = []
    for number in range(300):
        rows = centre + rng.normal(scale=spread, size=(int(rng.integers(1, 5)), dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        spans = np.tile(np.array([[0, 1]], dtype=np.float32), (len(rows), 1))
        videos.append((f"{number:03d}", Prototypes(vectors=rows.astype(np.float16), spans_s=spans)))
    index = ExactIndex.build(tmp_path, videos, encoder="e", dim=dim)
    for query in (centre, -centre, *units(4, dim, seed=6)):
        exact = np.array([(p.vectors.astype(np.float64) @ query).max() for _, p in videos])
        coarse = np.array([float((p.vectors @ query.astype(np.float16)).max()) for _, p in videos])
        assert np.abs(exact - coarse).max() > 0  # the first pass does round
        for top in (1, 10, 299):
            found = index.search(query, top=top)
            assert np.allclose([m.score for m in found], np.sort(exact)[::-1][:top], atol=2e-6)
            assert len({m.video for m in found}) == top


def test_blocks_do_not_change_the_scores(index: ExactIndex, units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = units(3, DIM, seed=1)
    whole = index.scores(queries)
    assert whole.shape == (3, 7)
    assert whole.dtype == np.float32
    for numbers in (1, 3 * DIM, 7 * DIM):
        monkeypatch.setattr(scoring_module, "_BLOCK_NUMBERS", numbers)
        assert np.allclose(index.scores(queries), whole, atol=1.1e-6)


def test_ties_go_by_video_then_start(tmp_path: Path, units: Units) -> None:
    row = units(1, DIM)[0].astype(np.float16)
    other = units(1, DIM, seed=9)[0].astype(np.float16)
    same = Prototypes(vectors=np.stack([row, other, row]), spans_s=np.array([[0, 1], [1, 2], [2, 3]], dtype=np.float32))
    index = ExactIndex.build(tmp_path, [(v, same) for v in ("a", "b", "c", "d")], encoder="e", dim=DIM)
    query = row.astype(np.float32) / np.linalg.norm(row.astype(np.float32))
    assert [(m.video, m.start_s) for m in index.search(query, top=3, moments_per_video=2)] == [
        ("a", 0.0),
        ("a", 2.0),
        ("b", 0.0),
    ]


def test_the_same_videos_give_the_same_files(
    tmp_path: Path, index: ExactIndex, videos: list[tuple[str, Prototypes]]
) -> None:
    again = ExactIndex.build(tmp_path / "again", iter(videos), encoder="e1", dim=DIM)
    files = {path.name: path.read_bytes() for path in index.folder.iterdir()}
    assert files == {path.name: path.read_bytes() for path in again.folder.iterdir()}
    assert len(files) == 4
    again.verify()
    vectors = np.load(next(again.folder.glob("vectors-*.npy")), allow_pickle=False)  # a plain .npy to anybody
    assert (vectors == np.concatenate([p.vectors for _, p in videos])).all()


def test_an_empty_index_finds_nothing_and_can_grow(
    tmp_path: Path, units: Units, make_prototypes: MakePrototypes
) -> None:
    index = ExactIndex.build(tmp_path, [], encoder="e", dim=DIM)
    assert len(index) == 0
    assert index.search(units(1, DIM)[0]) == []
    assert index.search(units(1, DIM)[0], videos=[]) == []
    assert index.scores(units(2, DIM)).shape == (2, 0)
    index.verify()
    grown = ExactIndex.build(tmp_path, [("a", make_prototypes(2, DIM))], encoder="e", dim=DIM)
    assert len(grown.search(units(1, DIM)[0])) == 1
    assert grown.search(units(1, DIM)[0], videos=[]) == []


def test_a_removed_video_is_gone_and_the_others_stay(
    index: ExactIndex, videos: list[tuple[str, Prototypes]], units: Units
) -> None:
    smaller = ExactIndex.build(index.folder, index.items(without={"v2", "v6"}), encoder="e1", dim=DIM)
    assert smaller.videos == ("v0", "v1", "v3", "v4", "v5")
    assert "v2" not in smaller
    assert (smaller.prototypes("v5").vectors == videos[5][1].vectors).all()
    assert (smaller.prototypes("v5").spans_s == videos[5][1].spans_s).all()
    assert smaller.search(units(1, DIM)[0], videos=["v2"]) == []
    with pytest.raises(NotInLibrary):
        smaller.prototypes("v2")
    assert {m.video for m in smaller.search(units(1, DIM)[0], top=99)} == set(smaller.videos)


def test_an_open_index_outlives_its_replacement_by_another_process(
    index: ExactIndex, units: Units, make_prototypes: MakePrototypes
) -> None:
    query = units(1, DIM, seed=4)[0]
    before = index.search(query, top=5)
    script = (
        "import sys, numpy as np\n"
        "from trifocal.retrieval import ExactIndex, Prototypes\n"
        "row = np.eye(1, 16, dtype=np.float16)\n"
        "one = Prototypes(vectors=row, spans_s=np.array([[0, 1]], dtype=np.float32))\n"
        "ExactIndex.build(sys.argv[1], [('new', one)], encoder='e1', dim=16)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(index.folder)], check=True)
    assert index.search(query, top=5) == before
    assert ExactIndex.open(index.folder).videos == ("new",)
    shutil.rmtree(index.folder)
    assert index.search(query, top=5) == before


def test_a_writer_killed_at_any_moment_leaves_a_whole_index(index: ExactIndex, units: Units) -> None:
    script = (
        "import sys, numpy as np\n"
        "from trifocal.retrieval import ExactIndex, Prototypes\n"
        "rng = np.random.default_rng(0)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    k = int(rng.integers(1, 400))\n"
        "    rows = np.eye(k, 16, dtype=np.float16); rows[:, 0] = 1; rows[0] = 0; rows[0, 0] = 1\n"
        "    rows = (rows / np.linalg.norm(rows.astype(np.float32), axis=1, keepdims=True)).astype(np.float16)\n"
        "    one = Prototypes(vectors=rows, spans_s=np.tile(np.array([[0, 1]], dtype=np.float32), (k, 1)))\n"
        "    ExactIndex.build(sys.argv[1], [(f'{k}', one)], encoder='e1', dim=16)\n"
    )
    rng = np.random.default_rng(1)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(index.folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            for _ in range(20):  # readers meet the swaps
                opened = ExactIndex.open(index.folder)
                assert len(opened.search(units(1, DIM)[0], top=1)) == 1
            time.sleep(float(rng.uniform(0, 0.05)))
            writer.send_signal(signal.SIGKILL)
        ExactIndex.open(index.folder).verify()
    ExactIndex.build(index.folder, [], encoder="e1", dim=DIM)
    assert [path.name for path in index.folder.iterdir()] == [
        "manifest.json"
    ]  # what the killed ones left is swept away


def test_a_failed_build_leaves_the_index_as_it_was(index: ExactIndex, make_prototypes: MakePrototypes) -> None:
    before = {path.name: path.read_bytes() for path in index.folder.iterdir()}

    def items() -> Iterator[tuple[str, Prototypes]]:
        yield "a", make_prototypes(2, DIM)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ExactIndex.build(index.folder, items(), encoder="e2", dim=DIM)
    assert before == {path.name: path.read_bytes() for path in index.folder.iterdir()}


def test_foreign_files_in_the_folder_are_left_alone(index: ExactIndex) -> None:
    (index.folder / "notes.txt").write_text("mine")
    (index.folder / "vectors-old.npy").write_text("mine")
    ExactIndex.build(index.folder, [], encoder="e1", dim=DIM)
    assert (index.folder / "notes.txt").exists()
    assert (index.folder / "vectors-old.npy").exists()


def test_another_encoder_is_refused_with_a_remedy(index: ExactIndex) -> None:
    ExactIndex.open(index.folder, encoder="e1")
    with pytest.raises(EncoderMismatch) as caught:
        ExactIndex.open(index.folder, encoder="e2")
    assert "e1" in caught.value.message
    assert "e2" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (np.ones(DIM - 1), {}),
        (np.ones((1, DIM)), {}),
        (np.ones(DIM), {}),
        (np.zeros(DIM), {}),
        (np.full(DIM, np.nan), {}),
        (np.eye(1, DIM)[0], {"top": 0}),
        (np.eye(1, DIM)[0], {"top": 2.0}),
        (np.eye(1, DIM)[0], {"moments_per_video": 0}),
        (np.eye(1, DIM)[0], {"tolerance": -1.0}),
    ],
)
def test_a_search_refuses_what_does_not_fit(index: ExactIndex, query: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        index.search(query, **options)


@pytest.mark.parametrize("ids", [["b", "a"], ["a", "a"], [""], [7]])
def test_building_refuses_bad_ids(tmp_path: Path, make_prototypes: MakePrototypes, ids: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        ExactIndex.build(tmp_path, [(i, make_prototypes(2, DIM)) for i in ids], encoder="e", dim=DIM)


@pytest.mark.parametrize(
    "options", [{"encoder": "", "dim": DIM}, {"encoder": "e", "dim": 0}, {"encoder": "e", "dim": 8}]
)
def test_building_refuses_bad_options(tmp_path: Path, make_prototypes: MakePrototypes, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ExactIndex.build(tmp_path, [("a", make_prototypes(2, DIM))], **options)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: next(f.glob("vectors-*")).unlink(),
        lambda f: next(f.glob("spans-*")).unlink(),
        lambda f: next(f.glob("videos-*")).unlink(),
        lambda f: os.truncate(next(f.glob("vectors-*")), 200),
        lambda f: os.truncate(next(f.glob("spans-*")), 0),
        lambda f: flip(next(f.glob("spans-*")), 140),
        lambda f: flip(next(f.glob("videos-*")), 10),
        lambda f: flip(next(f.glob("vectors-*")), 2),
        lambda f: (f / "manifest.json").write_text(""),
        lambda f: (f / "manifest.json").write_text("[]"),
        lambda f: (f / "manifest.json").write_text("{}"),
        lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"),
        lambda f: rewrite(f / "manifest.json", format="else"),
        lambda f: rewrite(f / "manifest.json", version="1"),
        lambda f: rewrite(f / "manifest.json", dim=8),
        lambda f: rewrite(f / "manifest.json", prototypes=28),
        lambda f: rewrite(f / "manifest.json", videos=6),
        lambda f: rewrite(f / "manifest.json", videos=-1),
        lambda f: rewrite(f / "manifest.json", encoder=None),
        lambda f: rewrite(f / "manifest.json", surprise=1),
        lambda f: rewrite(f / "manifest.json", files={}),
        lambda f: rewrite(
            f / "manifest.json",
            files={k: {"name": "../x", "bytes": 1, "sha256": ""} for k in ("vectors", "spans", "videos")},
        ),
    ],
)
def test_damage_is_found_on_opening(index: ExactIndex, damage: Callable[[Path], object]) -> None:
    damage(index.folder)
    with pytest.raises(LibraryDamaged) as caught:
        ExactIndex.open(index.folder)
    assert caught.value.remedy


def test_damage_inside_the_vectors_is_found_by_verify_and_by_a_search_that_meets_it(
    index: ExactIndex, units: Units
) -> None:
    path = next(index.folder.glob("vectors-*"))
    data = bytearray(path.read_bytes())
    data[128 + 2 * 20 : 128 + 2 * 21] = np.array([np.nan], dtype="<f2").tobytes()
    path.write_bytes(data)
    opened = ExactIndex.open(index.folder)
    with pytest.raises(LibraryDamaged):
        opened.verify()
    with pytest.raises(LibraryDamaged):
        opened.search(units(1, DIM)[0])
    path.unlink()
    with pytest.raises(LibraryDamaged):
        opened.verify()


def test_no_index_and_a_later_version_are_said(tmp_path: Path, index: ExactIndex) -> None:
    with pytest.raises(LibraryNotFound):
        ExactIndex.open(tmp_path / "nothing")
    rewrite(index.folder / "manifest.json", version=3)
    with pytest.raises(InvalidInput, match="Update"):
        ExactIndex.open(index.folder)


def test_it_prints_shapes(index: ExactIndex) -> None:
    assert repr(index) == "ExactIndex(7 videos, vectors=float16 (29, 16), encoder='e1')"
