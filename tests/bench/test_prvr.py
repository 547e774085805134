"""The bench of the trained retriever on a toy set: rows, files that are not made twice, and the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trifocal.bench import prvr, prvr_table
from trifocal.bench.prvr_measure import measure
from trifocal.bench.prvr_reference import reference_rows
from trifocal.retrieval.data import ArrayRows, Caption, CaptionSet, RetrievalData
from trifocal.retrieval.model import PrototypeRetriever, preset


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
    assert found["before_training"]["queries"] == 8
    assert found["training"]["epochs"] == 1


def test_no_steps_are_taken_where_none_are_asked_for(data: RetrievalData) -> None:
    found = prvr.execute(prvr.RUNS["closed-form"], data, seed=0, epochs=9, shared=False, progress=lambda line: None)
    assert found["training"] == {"epochs": 0}
    assert found["before_training"] is None
    assert found["rows"]["itself"]["bytes_per_video"] == 24_576


def test_without_training_the_best_clip_and_the_mean_of_the_video_are_rows(data: RetrievalData) -> None:
    rows = prvr.execute(prvr.RUNS["untrained"], data, seed=0, epochs=9, shared=False, progress=lambda line: None)[
        "rows"
    ]
    assert rows["best clip"]["prototypes"] == 32
    assert rows["mean of the video"]["prototypes"] == 1


def test_the_papers_generator_stands_on_the_defaults_encoders() -> None:
    one, other = (
        preset(prvr.RUNS[run].preset, video_dim=12, text_dim=10, **prvr.RUNS[run].changes)
        for run in ("default", "paper-generator-linear")
    )
    assert {name for name in one.__slots__ if getattr(one, name) != getattr(other, name)} == {"generator"}


def test_a_winner_that_looks_into_any_window_of_its_moment_counts(data: RetrievalData) -> None:
    model = PrototypeRetriever(preset("windows", window_max=1, video_dim=12, text_dim=10))
    whole, halves, second = ((0.0, 40.0),), ((0.0, 20.0), (20.0, 40.0)), ((39.9, 40.0), (0.0, 39.9))
    found = []
    for moments in (whole, halves, second):
        captions = tuple(Caption(one.id, one.video, one.text, moments) for one in data.split("test"))
        split = CaptionSet(captions, data.split("test").durations_s)
        timed = RetrievalData(name="toy", features=data.features, words=data.words, splits={"test": split})
        found.append(measure(model, timed)["collapse"])
    assert [one["peak_inside"] for one in found] == [1.0, 1.0, 1.0]
    assert [one["peak_chance"] for one in found] == pytest.approx([1.0, 1.0, 1.0])


def test_a_reference_ranks_captions_by_the_best_or_by_the_mean(tmp_path: Path) -> None:
    def annotation(*texts: str) -> dict[str, object]:
        return {"duration": 9.0, "timestamps": [[0, 9]] * len(texts), "sentences": list(texts)}

    first = {"v_0": annotation("e"), "v_1": annotation("a", "b"), "v_2": annotation("e"), "v_3": annotation("aab")}
    second = {"v_0": annotation("e"), "v_1": annotation("a"), "v_2": annotation("e"), "v_3": annotation("a b")}
    for name, value in (("val_1", first), ("val_2", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))

    def letters(texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.count(letter) for letter in "abe"] for text in texts])
        unit: NDArray[np.float32] = (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)
        return unit

    rows = reference_rows(tmp_path, letters)
    # "a" is v_1's own caption, yet v_3's is nearer to it than v_1's mean; "a b" is v_1's mean, yet v_3's query.
    assert rows["max over captions, test half"]["recall"]["1"] == 100
    assert rows["mean over captions, test half"]["recall"] == {"1": 0, "5": 100, "10": 100, "100": 100}
    assert rows["mean over captions, test half"]["videos"] == 2
    assert rows["max over captions, all videos"]["queries"] == 4


def test_the_sets_have_their_own_number_of_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(prvr, "open_layout", lambda folder: folder)
    monkeypatch.setattr(prvr, "read_two_annotations", lambda source, encode: source)

    def execute(run: prvr.Run, data: object, **options: object) -> dict[str, object]:
        seen.append(options["epochs"])
        return {"rows": {}}

    monkeypatch.setattr(prvr, "execute", execute)
    for arguments in (["synthetic"], ["anet2a"], ["anet2a", "--epochs", "7", "--seeds", "1"]):
        prvr.main(["--data", str(tmp_path), "--runs", "clips", "--out", str(tmp_path), "--set", *arguments])
    assert seen == [12, 4, 7]


def test_the_table_joins_runs(data: RetrievalData, tmp_path: Path) -> None:
    found = prvr.execute(prvr.RUNS["closed-form"], data, seed=0, epochs=0, shared=False, progress=lambda line: None)
    for seed, sum_r in enumerate((200.0, 300.0)):
        found["rows"]["itself"]["sum_r"] = sum_r
        document = {"run": "closed-form", "rows": found["rows"]}
        (tmp_path / f"synthetic-closed-form-d0-s{seed}.json").write_text(json.dumps(document))
    (tmp_path / "synthetic-reference-d0-s0.json").write_text(
        json.dumps({"run": "reference", "rows": {"max": {"sum_r": 62.1}}})
    )
    before = found["rows"]["itself"] | {"sum_r": 77.0}
    (tmp_path / "synthetic-default-d0-s0.json").write_text(
        json.dumps({"run": "default", "rows": {}, "before_training": before})
    )
    says = {"default": "the default", "closed-form": "least squares"}
    lines = prvr_table.table(tmp_path, "synthetic", says=says).splitlines()
    assert "| least squares | itself | 2 | 250.0 (200.0–300.0) | 24,576 |" in " ".join(lines)
    assert lines[5].startswith("| the default | before training | 1 | 77.0 |")
    assert lines[-1].startswith("| reference | max | 1 | 62.1 |")
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
