from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from trifocal.bench.ask_budget import FULL, NONE, budget_table, plot
from trifocal.bench.small_chat_data import Sample
from trifocal.bench.small_chat_eval import Verdict, gain, picked, summary
from trifocal.playground import QUESTION_TYPES

ROWS = {
    FULL: {"method": FULL, "budget": 1.0, "accuracy": 0.6, "share": 1.0, "questions": 40, "videos": 4},
    NONE: {"method": NONE, "budget": 0.0, "accuracy": 0.4, "share": 0.0},
    "sttm 0.5": {"method": "sttm", "budget": 0.5, "accuracy": 0.59, "share": 0.5},
    "sttm 0.15": {"method": "sttm", "budget": 0.15, "accuracy": 0.55, "share": 0.15},
    "pyramid 0.5": {"method": "pyramid", "budget": 0.5, "accuracy": 0.5, "share": 0.25},
    "pyramid 0.15": {"method": "pyramid", "budget": 0.15, "refused": "too little"},
}


def verdict(video: str, kind: str, right: bool, chance: float = 0.25) -> Verdict:
    return {"video": video, "type": kind, "chance": chance, "sum": right, "mean": not right}


def test_the_summary_counts_by_type_and_draws_whole_videos() -> None:
    verdicts = [verdict("a", "what", True)] * 3 + [verdict("b", "where", False)] * 1
    found = summary(verdicts)
    assert found["accuracy"] == 0.75
    assert found["types"] == {
        "what": {"accuracy": 1.0, "questions": 3},
        "where": {"accuracy": 0.0, "questions": 1},
    }
    assert found["interval"] == [0.0, 1.0]  # two videos, one all right and one all wrong
    assert (found["questions"], found["videos"]) == (4, 2)
    assert summary(verdicts, by="mean")["accuracy"] == 0.25


def test_a_gain_is_counted_on_the_same_questions() -> None:
    videos = ["a", "a", "b", "b"]
    sure = gain([1, 1, 1, 0], [0, 1, 0, 0], videos=videos)
    assert sure == {"accuracy": 0.5, "interval": [0.5, 0.5]}
    unsure = gain([1, 1, 0, 0], [0, 0, 1, 1], videos=videos)
    assert unsure["accuracy"] == 0
    assert unsure["interval"] == [-1.0, 1.0]


def test_questions_are_of_all_types_in_turn_and_the_same_each_time() -> None:
    import torch

    questions = [{"type": kind, "text": f"{kind} {n}"} for kind in QUESTION_TYPES[:3] for n in range(5)]
    sample = Sample(name="a", cells=torch.zeros(0), pooled=torch.zeros(0), times_s=[], questions=questions, frames=[])
    chosen = picked(sample, count=6)
    assert sorted(each["type"] for each in chosen) == sorted(list(QUESTION_TYPES[:3]) * 2)
    assert picked(sample, count=6) == chosen
    assert len({each["text"] for each in picked(sample, count=99)}) == 15


def test_the_table_shows_what_was_kept_and_what_was_refused() -> None:
    table = budget_table(ROWS)
    assert "| method | 100 % | 50% | 15% |" in table
    assert "| sttm | 60.0% | 59.0% | 55.0% |" in table
    assert "| pyramid | 60.0% | 50.0% (25%) | refused |" in table
    assert "| no video | 40.0% |" in table


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "budget.png"
    plot(ROWS, path)
    with Image.open(path) as image:
        assert image.width > 400
        assert len(image.getcolors(1 << 20) or []) > 3
