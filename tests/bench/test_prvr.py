"""The bench of the trained retriever on a toy set: rows, files that are not made twice, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trifocal.bench import prvr
from trifocal.retrieval.data import ArrayRows, Caption, CaptionSet, RetrievalData


@pytest.fixture(scope="module")
def data() -> RetrievalData:
    draw = np.random.default_rng(0)
    to_text = draw.normal(size=(12, 10))
    videos = {f"v{i:02d}": draw.normal(size=(40, 12)).astype(np.float32) for i in range(12)}
    captions, words = [], {}
    for video, rows in videos.items():
        for k, start in enumerate((0, 20)):
            name = f"{video}#{k}"
            words[name] = np.stack([draw.normal(size=10), rows[start : start + 10].mean(0) @ to_text]).astype(
                np.float32
            )
            captions.append(Caption(name, video, "a thing", ((float(start), start + 10.0),)))
    whole = CaptionSet(tuple(captions), dict.fromkeys(videos, 40.0))
    names = list(videos)
    return RetrievalData(
        name="toy",
        features=ArrayRows(videos),
        words=ArrayRows(words),
        splits={"train": whole.only(names[:8]), "test": whole.only(names[8:])},
    )


def test_a_run_gives_its_rows(data: RetrievalData) -> None:
    found = prvr.execute(prvr.RUNS["clips"], data, seed=0, epochs=1, shared=False, progress=lambda line: None)
    rows = found["rows"]
    assert set(rows) == {"itself", "merged, 16", "merged, 8", "merged, 4"}
    assert rows["itself"]["bytes_per_video"] == 32 * 384 * 2
    assert rows["merged, 4"]["prototypes"] == 4
    assert 0 <= rows["itself"]["sum_r"] <= 400
    assert rows["itself"]["queries"] == 8
    assert rows["itself"]["collapse"]["peak_chance"] == pytest.approx(0.25)
    assert found["before_training"] is None
    assert found["training"]["epochs"] == 1


def test_no_steps_are_taken_where_none_are_asked_for(data: RetrievalData) -> None:
    found = prvr.execute(prvr.RUNS["closed-form"], data, seed=0, epochs=9, shared=False, progress=lambda line: None)
    assert found["training"] == {"epochs": 0}
    assert found["rows"]["itself"]["bytes_per_video"] == 24_576


def test_the_table_joins_runs(data: RetrievalData, tmp_path: Path) -> None:
    found = prvr.execute(prvr.RUNS["closed-form"], data, seed=0, epochs=0, shared=False, progress=lambda line: None)
    for seed, sum_r in enumerate((200.0, 300.0)):
        found["rows"]["itself"]["sum_r"] = sum_r
        document = {"run": "closed-form", "rows": found["rows"]}
        (tmp_path / f"synthetic-closed-form-d0-s{seed}.json").write_text(json.dumps(document))
    lines = prvr.table(tmp_path, "synthetic").splitlines()
    assert "| closed-form | itself | 2 | 250.0 (200.0–300.0) | 24,576 |" in " ".join(lines)
    assert any("GMMFormer" in line for line in lines)
    assert len({line.count("|") for line in lines}) == 1


def test_texts_are_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoder:
        calls = 0

        def encode(self, texts: list[str]) -> np.ndarray:
            Encoder.calls += 1
            return np.full((len(texts), 3), 1.0, dtype=np.float32)

    monkeypatch.setattr("trifocal.backbones.load_sentence_encoder", Encoder)
    encode = prvr.CachedEncoder(tmp_path / "cache")
    first, second = encode(["a", "b"]), encode(["a", "b"])
    assert Encoder.calls == 1
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_the_default_passes_343_on_the_planted_set_and_beats_merging(shared: Path, tmp_path: Path) -> None:
    script = shared / "synthetic" / "make_prvr.py"
    arguments = ["--set", "synthetic", "--generator", str(script), "--data-seeds", "2026", "--runs", "default"]
    prvr.main([*arguments, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "synthetic-default-d2026-s0.json").read_text())["rows"]
    assert rows["itself"]["sum_r"] > 343
    assert rows["itself"]["bytes_per_video"] <= 24_576
    assert rows["coverage, 16"]["sum_r"] > rows["merged, 16"]["sum_r"]
    assert rows["itself"]["collapse"]["winners_per_video"] > 4
