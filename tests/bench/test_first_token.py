"""The measurement of time to first token, on a tiny model: what it counts is true, and it can fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trifocal.bench import first_token
from trifocal.bench.first_token import Clock, Setting, first_tokens, make_model, make_prompt, markdown, summary
from trifocal.errors import ModelError

SETTINGS = [Setting(1.0, 0), Setting(0.5, 2), Setting(0.3, 2), Setting(0.5, 0), Setting(0.3, 0)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("tiny", dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def rows(model: Any) -> list[dict[str, Any]]:
    prompt = make_prompt(model, video_tokens=400, side=7)
    return first_tokens(model, prompt, SETTINGS, repeats=2, clock=Clock("cpu"))


def test_the_layers_hold_what_the_budget_says(rows: list[dict[str, Any]]) -> None:
    words = 2 * first_token.BEFORE
    for row, setting in zip(rows, SETTINGS, strict=True):
        assert row["video_tokens"] == 392
        full, short = 392 + words, row["kept"] + words
        merged = 6 if setting.budget < 1 else 0
        below = setting.layer if merged else 6
        assert row["layers"] == [full] * below + [short] * (6 - below)
        # Within one token a frame of the budget, never above it.
        assert setting.budget * 392 - 8 <= row["kept"] <= setting.budget * 392


def test_later_questions_are_answered_as_asked_afresh(rows: list[dict[str, Any]]) -> None:
    assert all(row["answers_equal"] and row["prefix_unchanged"] for row in rows)
    assert all(row["scores_difference"] <= 1e-5 * row["scores_norm"] for row in rows)
    assert len({row["scores_norm"] for row in rows}) == len(rows)  # merging changes the scores: the check can see it


def test_every_setting_is_timed_as_often(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert len(row["first_s"]) == len(row["merge_s"]) == 2
        assert len(row["second_s"]) == 6
        assert len(row["plain_s"]) == (2 if row["budget"] < 1 else 0)
        assert min(row["first_s"]) > min(row["second_s"]) > 0
        assert (min(row["merge_s"]) > 0) == (row["budget"] < 1)


def test_the_model_is_left_bare(model: Any, rows: list[dict[str, Any]]) -> None:
    assert rows
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_answer_afresh_that_differs_is_seen(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = make_prompt(model, video_tokens=98, side=7)
    answers = iter([([1, 2], torch.ones(2)), ([1, 2], torch.ones(2)), ([1, 3], torch.zeros(2))])
    monkeypatch.setattr(first_token, "answer", lambda *_, **__: next(answers))
    found = first_token._equal(model, prompt, first_token.prefill(model, prompt, handle=None), handle=None)
    assert not found["answers_equal"]
    assert found["scores_difference"] == 1.0


def test_speed_ups_and_targets() -> None:
    def row(budget: float, layer: int, first: float, plain: list[float]) -> dict[str, Any]:
        return {
            "setting": Setting(budget, layer).name, "budget": budget, "layer": layer, "kept": 5, "answers_equal": True,
            "scores_difference": 0.0,
            "first_s": [first, first + 1], "merge_s": [0.1, 0.2], "second_s": [0.1], "plain_s": plain,
        }  # fmt: skip

    table = summary([row(1.0, 0, 10.0, []), row(0.5, 2, 5.0, [4.0]), row(0.5, 0, 4.2, [4.0]), row(0.3, 0, 3.0, [2.0])])
    assert [made["speed_up"] for made in table] == [1.0, 2.0, 2.381, 3.333]
    assert "met" not in table[0]
    assert (table[1]["target"], table[1]["met"]) == (2.2, False)
    assert (table[2]["target"], table[2]["met"]) == (2.25, True)
    assert table[3]["met"] is False
    assert table[1]["second_faster_than_first"] == 50.0
    assert table[1]["later_met"]
    printed = markdown(table)
    assert "| 50% at layer 2 (5) | 5.00 s | 0.10 s | 2.00× | 2.50× | 100 ms | 50× | yes |" in printed


def test_one_command_writes_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shape", "tiny", "--tokens", "196", "--repeats", "1", "--dtype", "float32", "--out", str(tmp_path)]
    first_token.main([*words, "--budgets", "0.5", "--threads", "1"])
    report = json.loads((tmp_path / "first_token.json").read_text())
    assert [row["setting"] for row in report["table"]] == ["full", "50% at layer 2", "50% at layer 0"]
    assert report["calibration"]["before"]["product_1024_s"] > 0
    assert report["machine"]["threads"] == 1
    assert capsys.readouterr().out.startswith("| video tokens kept |")


def test_a_layer_that_is_not_there_is_refused(model: Any) -> None:
    with pytest.raises(ModelError), first_token.attached(model, Setting(0.5, 99)):
        pass
