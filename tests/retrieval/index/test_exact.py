"""The exact engine's own: coarse codes, two writers, and indexes of earlier versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput, LibraryBusy
from trifocal.retrieval import ExactIndex, IndexItem
from trifocal.retrieval.index import codes as codes_module
from trifocal.retrieval.index import files as files_module
from trifocal.retrieval.index.codes import Codes, coarse_scores, default_shortlist, make_codes

MakeItem = Callable[..., IndexItem]
Query = Callable[..., Any]


def test_one_writes_at_a_time_and_sees_what_others_wrote(tmp_path: Path, item: MakeItem) -> None:
    first = ExactIndex.build(tmp_path / "index", [item(1)], encoder="e", dim=16)
    second = ExactIndex.open(first.folder)
    first.add([item(2)])
    assert len(second) == 1
    second.add([item(3)])
    assert len(second) == 3
    first.refresh()
    assert first.videos == second.videos
    with files_module.writing_index(first.folder), pytest.raises(LibraryBusy):
        second.remove(["video001"])
    second.remove(["video001"])


def test_an_index_of_version_1_is_read_and_brought_up(tmp_path: Path, item: MakeItem, query: Query) -> None:
    index = ExactIndex.build(tmp_path / "index", [item(1), item(2)], encoder="e", dim=16)
    found = index.search(query())
    manifest = json.loads((index.folder / "manifest.json").read_text())
    (segment,) = manifest.pop("segments")
    del manifest["codes"]
    (index.folder / "manifest.json").write_text(json.dumps({**manifest, "version": 1, "files": segment["files"]}))
    old = ExactIndex.open(index.folder)
    assert old.search(query()) == found
    old.add([item(3)])
    assert len(ExactIndex.open(index.folder)) == 3
    assert json.loads((index.folder / "manifest.json").read_text())["version"] == 2


def test_codes_estimate_the_cosine(query: Query) -> None:
    dim = 384
    rows = np.random.default_rng(0).normal(size=(500, dim))
    asked = query(dim=dim)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) * 0.6 + asked * np.linspace(-0.8, 0.8, 500)[:, None]
    half = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    right = half.astype(np.float32) @ asked
    limits: dict[Codes, float] = {"int8": 3e-3, "binary": 0.3}
    for kind, largest in limits.items():
        codes = make_codes(kind, half)
        rough = coarse_scores(kind, codes, asked)
        assert np.abs(rough - right).max() < largest, kind
        assert np.corrcoef(rough, right)[0, 1] > (0.9999 if kind == "int8" else 0.99)
    assert make_codes("binary", half).nbytes == 500 * dim // 8
    assert make_codes("int8", half).nbytes == 500 * (dim + 4)
    odd = make_codes("binary", half[:, :70])
    assert odd.shape == (2, 500)
    assert (coarse_scores("binary", odd, half[3, :70].astype(np.float32)) <= 1).all()
    assert coarse_scores("binary", odd, half[3, :70].astype(np.float32))[3] == 1


@pytest.mark.parametrize("exact", [True, False])
def test_int8_codes_are_multiplied_in_whole_numbers_or_widened(
    query: Query, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    """Both ways give what the codes say, far closer than the codes are to the vectors."""
    dim = 100
    rows = np.random.default_rng(1).normal(size=(70, dim))
    half = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    asked = query(dim=dim)
    codes = make_codes("int8", half)
    monkeypatch.setattr(codes_module, "_multiplies_integers", lambda: exact)
    scales = np.abs(half.astype(np.float32)).max(axis=1) / 127
    right = (codes[:, :dim].astype(np.float64) @ asked) * scales
    assert np.abs(coarse_scores("int8", codes, asked) - right).max() < 2e-5
    assert coarse_scores("int8", codes, np.zeros(dim, np.float32)).tolist() == [0] * 70


def test_codes_are_made_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    half = np.random.default_rng(2).normal(size=(50, 24)).astype(np.float16)
    whole = make_codes("int8", half)
    monkeypatch.setattr(codes_module, "_BLOCK_NUMBERS", 24 * 7)
    assert (make_codes("int8", half) == whole).all()


def test_the_shortlist_grows_with_the_collection() -> None:
    assert [default_shortlist("binary", count) for count in (10, 100_000, 1_000_000)] == [1000, 1000, 10_000]
    assert default_shortlist("int8", 1_000_000) == 200


def test_codes_read_unless_a_search_says_otherwise(tmp_path: Path, item: MakeItem, query: Query) -> None:
    items = [item(number, dim=64) for number in range(60)]
    ExactIndex.build(tmp_path / "index", items, encoder="e", dim=64, codes=["binary"])
    index = ExactIndex.open(tmp_path / "index", codes="binary")
    exact = [index.search(query(seed, dim=64), codes="none", top=1) for seed in range(20)]
    rough = [index.search(query(seed, dim=64), shortlist=1, top=1) for seed in range(20)]
    assert rough == [index.search(query(seed, dim=64), shortlist=1, top=1, codes="binary") for seed in range(20)]
    assert rough != exact
    assert [index.search(query(seed, dim=64), top=1) for seed in range(20)] == exact  # as many are left by default
    with pytest.raises(InvalidInput, match="no codes"):
        ExactIndex.open(tmp_path / "index", codes="int8")


def test_search_with_codes(tmp_path: Path, item: MakeItem, query: Query) -> None:
    items = [item(number, dim=64) for number in range(60)]
    index = ExactIndex.build(tmp_path / "index", items[:40], encoder="e", dim=64, codes=["int8", "binary"])
    index.add(items[40:])
    index.remove(["video003"])
    queries = np.stack([query(seed, dim=64) for seed in range(10)])
    kinds: tuple[Codes, ...] = ("int8", "binary")
    for codes in kinds:
        for one in queries:  # a shortlist of everything loses nothing
            assert index.search(one, codes=codes, shortlist=100) == index.search(one)
        assert index.recall(queries, codes=codes, shortlist=100) == 1
    alone = [index.recall(queries, codes=codes, shortlist=1) for codes in kinds]
    assert 0.3 < alone[1] < alone[0]
    assert alone[0] > 0.95
    index.verify()
    plain = ExactIndex.build(tmp_path / "plain", items, encoder="e", dim=64)
    with pytest.raises(InvalidInput, match="no codes"):
        plain.search(queries[0], codes="int8")
    with pytest.raises(InvalidInput, match="codes are"):
        ExactIndex.build(tmp_path / "plain", items, encoder="e", dim=64, codes=["int4"])
