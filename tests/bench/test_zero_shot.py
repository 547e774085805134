"""The choice of the offline encoder's settings: the figures by hand, the rule, and the result that is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trifocal.bench import zero_shot
from trifocal.bench.zero_shot_queries import HELD_OUT, QUERIES, REWORDED
from trifocal.errors import InvalidInput
from trifocal.retrieval import SemanticConfig

RESULTS = Path(__file__).parents[2] / "bench" / "zero_shot" / "results.json"


def test_figures_by_hand() -> None:
    frames = {
        "a": np.array([[1, 0, 0]], dtype=np.float32),
        "b": np.array([[0, 1, 0], [0, 0, 1]], dtype=np.float32),
        "c": np.array([[0.6, 0.8, 0]], dtype=np.float32),
    }
    queries = {
        "a": np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32),  # ranks 1 and 3
        "b": np.array([[0, 0, 1], [0.6, 0.8, 0]], dtype=np.float32),  # ranks 1 (its second frame) and 2
    }
    measured = zero_shot.evaluate(frames, queries)
    assert measured.per_clip == {"a": pytest.approx(2 / 3, abs=1e-4), "b": 0.75}
    assert measured.mrr == pytest.approx((2 / 3 + 0.75) / 2, abs=1e-4)
    assert measured.recall_1 == 0.5


def test_the_plainest_of_the_near_best_is_chosen() -> None:
    def at(mrr: float, margin: float = 0.0) -> zero_shot.Measured:
        return zero_shot.Measured(mrr=mrr, recall_1=0.0, margin=margin, per_clip={})

    two = SemanticConfig(class_templates=("{name}", "a {name}"))
    hot, warm = SemanticConfig(temperature=4.0), SemanticConfig(temperature=2.0)
    wide, far = SemanticConfig(temperature=2.0, top_k=1000), SemanticConfig(temperature=1.0)
    grid = {two: at(0.80), hot: at(0.79), warm: at(0.785, 0.1), wide: at(0.785, 0.2), far: at(0.70)}
    assert zero_shot.choose(grid) == wide
    assert zero_shot.choose({two: at(0.9), hot: at(0.5)}) == two


def test_leaving_a_clip_out_keeps_its_queries_from_the_choice() -> None:
    good_for_a, good_for_b = SemanticConfig(temperature=1.0), SemanticConfig(temperature=2.0)
    grid = {
        good_for_a: zero_shot.Measured(0.6, 0.0, 0.0, {"a": 1.0, "b": 0.2}),
        good_for_b: zero_shot.Measured(0.5, 0.0, 0.0, {"a": 0.1, "b": 0.9}),
    }
    left = zero_shot.leave_one_out(grid)
    assert left["clips"]["a"]["mrr"] == 0.1
    assert left["clips"]["b"]["mrr"] == 0.2
    assert left["mrr"] == pytest.approx(0.15)


def test_there_are_forty_queries_a_clip_and_the_held_out_ones_are_not_among_them() -> None:
    everything = [text for texts in QUERIES.values() for text in texts]
    assert {len(texts) for texts in QUERIES.values()} == {40}
    assert len(set(everything)) == len(everything)
    aside = set(HELD_OUT) | {text for texts in REWORDED.values() for text in texts}
    assert set(HELD_OUT.values()) | set(REWORDED) <= set(QUERIES)
    assert not set(HELD_OUT) & set(everything)
    assert len(aside) == 24


def test_the_kept_result_chose_the_defaults_and_finds_what_was_held_out() -> None:
    kept = json.loads(RESULTS.read_text())
    config = kept["chosen"]["config"]
    assert (
        SemanticConfig(
            **{
                **config,
                "class_templates": tuple(config["class_templates"]),
                "query_templates": tuple(config["query_templates"]),
            }
        )
        == SemanticConfig()
    )
    assert kept["default"]["mrr"] >= kept["best"]["mrr"] - zero_shot.NEAR_BEST
    assert kept["default"]["mrr"] > kept["plain"]["mrr"] > kept["chance_mrr"]
    held_out = [row for row in kept["held_out_and_reworded"] if row["held_out"]]
    assert {row["query"]: row["clip"] for row in held_out} == HELD_OUT
    assert all(row["rank"] <= 2 for row in held_out)


def test_clips_without_queries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="queries"):
        zero_shot.measure({"bikes": tmp_path / "bikes.mp4", "holiday": tmp_path / "holiday.mp4"})
