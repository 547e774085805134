"""Whole encoders on clips: ranks by hand, and a comparison that runs on tiny videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trifocal import video
from trifocal.bench import zero_shot, zero_shot_encoders
from trifocal.bench.zero_shot_queries import QUERIES
from trifocal.errors import InvalidInput
from trifocal.retrieval.prototypes import Prototypes


class Colours:
    """Frames are their mean colour; a text is red, or blue when it is about bikes."""

    id, dim, frame_size = "colours", 3, 32

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        means = frames.reshape(len(frames), -1, 3).mean(axis=1) + 1
        unit: NDArray[np.float32] = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [[0, 0, 1] if text in QUERIES["bikes"] else [1, 0, 0] for text in texts]
        return np.array(rows, dtype=np.float32)


class Confused(Colours):
    """The same with documents of its own, in which every video is the other colour."""

    frame_dim = 3

    def encode_document(
        self, features: NDArray[np.float32], *, times_s: NDArray[np.float64], end_s: float, start_s: float = 0.0
    ) -> Prototypes:
        vectors = features[:1, ::-1].astype(np.float16)
        return Prototypes(vectors=vectors, spans_s=np.array([[start_s, end_s]], dtype=np.float32))

    def encode_tokens(self, *arguments: object, **options: object) -> object:
        raise NotImplementedError


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, colour in (("basketball", (200, 0, 0)), ("bikes", (0, 0, 200))):
        frames = np.full((8, 32, 32, 3), colour, dtype=np.uint8)
        video.write_mp4(tmp_path / f"{name}.mp4", frames, fps=8)
    encoders = {"default": Colours(), "trained": Confused()}
    monkeypatch.setattr(zero_shot_encoders, "load_encoder", encoders.__getitem__)
    return tmp_path


def test_encoders_are_compared_query_by_query(clips: Path) -> None:
    found = zero_shot_encoders.compare_encoders(["trained"], {path.stem: path for path in clips.glob("*.mp4")})
    assert found["default"]["mrr"] == found["default"]["recall_1"] == 1
    assert found["trained"]["mrr"] == 0.5
    assert (found["trained"]["better"], found["trained"]["worse"], found["trained"]["queries"]) == (0, 80, 80)


def test_the_command_writes_the_comparison_alone(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clips / "out" / "encoders.json"
    zero_shot.main(["--clips", str(clips), "--encoder", "trained", "--out", str(out)])
    assert list(json.loads(out.read_text())) == ["default", "trained"]
    assert "MRR 0.500  R@1 0.000  better 0, worse 80 of 80  trained" in capsys.readouterr().out


def test_means_are_over_clips() -> None:
    ranks = {"a": np.array([1, 2]), "b": np.array([4, 4, 4, 4])}
    figures = zero_shot_encoders.rank_figures(ranks, against={"a": np.array([2, 2]), "b": np.array([4, 3, 4, 4])})
    assert figures["mrr"] == pytest.approx((0.75 + 0.25) / 2)
    assert figures["recall_1"] == 0.25
    assert (figures["better"], figures["worse"]) == (1, 1)


def test_clips_without_queries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="queries"):
        zero_shot_encoders.compare_encoders([], {"holiday": tmp_path / "holiday.mp4"})
