from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput, NotInLibrary
from trifocal.retrieval import build_prototypes, similarity
from trifocal.retrieval.data import ArrayRows, Caption, CaptionSet, RetrievalData
from trifocal.retrieval.document import Document
from trifocal.retrieval.evaluation import Untrained, encode_corpus, evaluate, plot, rank_scores, ranks_of

SEGMENT = 4


def planted(videos: int = 12, segments: int = 3, *, seed: int = 0) -> RetrievalData:
    """Videos of constant segments, and a caption a segment that is its vector: retrieval must be perfect."""
    rng = np.random.default_rng(seed)
    features, words, captions, durations = {}, {}, [], {}
    for number in range(videos):
        name = f"v{number}"
        parts = rng.normal(size=(segments, 16)).astype(np.float32)
        features[name] = np.repeat(parts, SEGMENT, axis=0)
        durations[name] = 2.0 * segments * SEGMENT
        for k in range(segments):
            start = 2.0 * SEGMENT * k
            captions.append(Caption(f"{name}#{k}", name, f"part {k}", ((start, start + 2.0 * SEGMENT),)))
            words[captions[-1].id] = np.stack([rng.normal(size=16), parts[k]]).astype(np.float32)
    return RetrievalData(
        "planted", ArrayRows(features), ArrayRows(words), {"test": CaptionSet(tuple(captions), durations)}
    )


def test_what_is_planted_is_found() -> None:
    report = evaluate(Untrained(prototypes=3), planted())
    assert report.ranks.recall == {1: 100.0, 5: 100.0, 10: 100.0, 100: 100.0}
    assert (report.videos, report.ranks.queries, report.ranks.tied) == (12, 36, 0.0)
    assert report.moments.peak_inside == 100.0
    assert report.moments.mean_iou == pytest.approx(1.0)
    assert report.moments.chance == pytest.approx(100 / 3)
    assert report.sharpened is not None
    assert (report.peak, report.sharpened.queries, report.sharpened.peak_inside) == ("middle", 36, 100.0)
    assert report.sharpened.mean_iou == pytest.approx(1.0)
    assert evaluate(Untrained(prototypes=3), planted(), sharpen=False).sharpened is None
    assert list(report.groups) == ["(0.2, 0.4]"]
    assert report.bytes_per_video == 3 * 16 * 2
    assert report.chance_sum_r == pytest.approx(100 * (1 / 12 + 5 / 12 + 10 / 12 + 1))
    assert [one.videos for one in report.search] == [2, 5, 7, 10, 12]
    assert report.query_ms is not None
    json.dumps(report.to_dict())


def test_the_figures_are_those_of_the_scores() -> None:
    data = planted(seed=1)
    noisy = {
        name: data.words.read(name) + 3 * np.random.default_rng(5).normal(size=(2, 16)) for name in data.words.ids()
    }
    data = RetrievalData("noisy", data.features, ArrayRows(noisy), data.splits)
    corpus = encode_corpus(Untrained(prototypes=2), data, data.split("test"))
    ranks, tied = ranks_of(similarity(corpus.queries, corpus.prototypes), corpus.owner)
    report = evaluate(Untrained(prototypes=2), data, timing=False)
    assert report.ranks == rank_scores(ranks, tied=tied)
    assert report.ranks.sum_r < 400
    assert (report.query_ms, report.video_ms, report.search) == (None, None, ())


@dataclass(frozen=True)
class Looking(Untrained):
    """One prototype a video that looks at its last second, and a vector of the whole that is another video's."""

    share: float = 0.0

    def encode_video(self, features: Any, *, times_s: Any, end_s: float) -> Document:
        made = build_prototypes(features, times_s=times_s, end_s=end_s, k=1)
        other = -made.vectors[0]
        peaks = np.full(1, end_s - 1, np.float32)
        return Document(made, peaks_s=peaks, whole=other, whole_share=self.share)


def test_the_peak_is_the_models_where_it_has_one() -> None:
    report = evaluate(Looking(), planted(), timing=False)
    assert report.peak == "attention"
    assert report.moments.peak_inside == pytest.approx(100 / 3)  # the last of three parts
    assert report.to_dict()["moments"]["peak"] == "attention"


def test_a_vector_of_the_whole_is_scored_by_its_share() -> None:
    ours, even, theirs = (evaluate(Looking(share=share), planted(), timing=False) for share in (0.0, 0.5, 1.0))
    assert even.ranks.tied == 1.0  # every score is 0
    assert ours.ranks.median_rank == 1
    assert theirs.ranks.median_rank == 12
    assert ours.bytes_per_video == 2 * 16 * 2


def test_a_document_that_does_not_fit_is_refused() -> None:
    made = build_prototypes(np.eye(4), times_s=np.arange(4), end_s=4.0)
    for parts in ({"peaks_s": np.zeros(3, np.float32)}, {"whole": np.zeros(3, np.float16)}):
        with pytest.raises(InvalidInput, match=r"(have|has) the shape"):
            Document(made, **parts)


def test_equal_videos_tie_and_are_told() -> None:
    rows = np.ones((4, 8), np.float32)
    captions = CaptionSet(tuple(Caption(f"c{n}", f"v{n}", "t") for n in range(3)))
    features, words = ({f"{letter}{n}": rows for n in range(3)} for letter in ("v", "c"))
    data = RetrievalData("same", ArrayRows(features), ArrayRows(words), {"test": captions})
    report = evaluate(Untrained(), data)
    assert report.ranks.recall[1] == 100.0
    assert report.ranks.tied == 1.0
    assert report.moments.queries == 0
    assert report.groups == {}


def test_groups_are_by_share_of_the_video() -> None:
    data = planted()
    captions = [
        Caption(one.id, one.video, one.text, ((0.0, share * 24.0),))
        for one, share in zip(data.split("test"), [0.2, 0.21, 0.4, 0.41, 1.0, 0.1] * 6, strict=True)
    ]
    data = RetrievalData(
        "g", data.features, data.words, {"test": CaptionSet(tuple(captions), data.split("test").durations_s)}
    )
    report = evaluate(Untrained(), data, timing=False)
    assert {name: one.queries for name, one in report.groups.items()} == {
        "(0, 0.2]": 12,
        "(0.2, 0.4]": 12,
        "(0.4, 1]": 12,
    }
    assert [row[0] for row in report.rows()] == ["queries of", "all", "M/V (0, 0.2]", "M/V (0.2, 0.4]", "M/V (0.4, 1]"]


def test_what_is_missing_is_told() -> None:
    data = planted()
    with pytest.raises(InvalidInput, match="has no split 'train'"):
        evaluate(Untrained(), data, split="train")
    fewer = ArrayRows({"v0": data.features.read("v0")})
    with pytest.raises(NotInLibrary, match="no rows of 'v1'"):
        evaluate(Untrained(), RetrievalData("x", fewer, data.words, data.splits))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_figures_are_drawn(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    reports = {
        "three": evaluate(Untrained(prototypes=3), planted()),
        "one": evaluate(Untrained(prototypes=1), planted()),
    }
    plot(reports, tmp_path / f"x{suffix}")
    assert (tmp_path / f"x{suffix}").stat().st_size > 5000
