"""The measurement of time to first token, on a tiny model: what it counts is true, and it can fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from trifocal.bench import first_token, sight
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
        assert [len(three) for three in row["second_s"]] == [3, 3]
        assert len(row["plain_s"]) == (2 if row["budget"] < 1 else 0)
        assert min(row["first_s"]) > min(map(min, row["second_s"])) > 0
        assert (min(row["merge_s"]) > 0) == (row["budget"] < 1)


def test_within_a_repeat_all_settings_run_back_to_back(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def note(*_: Any, row: dict[str, Any], **__: Any) -> None:
        turns.append(row["setting"])

    monkeypatch.setattr(first_token, "_time", note)
    prompt = make_prompt(model, video_tokens=98, side=7)
    first_tokens(model, prompt, SETTINGS[:3], repeats=3, clock=Clock("cpu"))
    names = [setting.name for setting in SETTINGS[:3]]
    assert turns == [*names, *reversed(names), *names]


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


def timed(budget: float, layer: int, first: list[float], plain: list[float]) -> dict[str, Any]:
    return {
        "setting": Setting(budget, layer).name, "budget": budget, "layer": layer, "kept": 5, "answers_equal": True,
        "scores_difference": 0.0,
        "first_s": first, "merge_s": [0.1] * len(first), "second_s": [[0.3, 0.1, 0.1]] * len(first), "plain_s": plain,
    }  # fmt: skip


def test_speed_ups_and_targets() -> None:
    table = summary(
        [timed(1.0, 0, [10.0], []), *(timed(*row) for row in [
            (0.5, 2, [5.0], [4.0]), (0.5, 0, [4.2], [4.0]), (0.3, 0, [3.0], [2.0])
        ])]
    )  # fmt: skip
    assert [made["speed_up"] for made in table] == [1.0, 2.0, 2.381, 3.333]
    assert "met" not in table[0]
    assert (table[1]["target"], table[1]["met"]) == (2.2, False)
    assert (table[2]["target"], table[2]["met"]) == (2.25, True)
    assert table[3]["met"] is False
    assert table[1]["second_faster_than_first"] == 50.0
    assert table[1]["later_met"]
    printed = markdown(table)
    assert "| 50% at layer 2 (5) | 5.00 s | 0.10 s | 2.00× | 2.50× | 100 ms | 50× | yes |" in printed


def test_a_slow_minute_of_the_machine_falls_on_both_sides() -> None:
    """Twice as fast, while the machine is ten times as slow in the second repeat and has a hiccup in the third."""
    (_, half) = summary([timed(1.0, 0, [10.0, 100.0, 10.0], []), timed(0.5, 0, [5.0, 50.0, 9.0], [4.0, 40.0, 4.0])])
    assert half["speed_up"] == 2.0
    assert half["speed_up_span"] == [1.111, 2.0]
    assert half["plain_prompt_speed_up"] == 2.5
    assert half["share_of_plain"] == 0.8
    assert half["met"] is False


def test_one_command_writes_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shape", "tiny", "--tokens", "196", "--repeats", "1", "--dtype", "float32", "--out", str(tmp_path)]
    first_token.main([*words, "--budgets", "0.5", "--threads", "1"])
    report = json.loads((tmp_path / "first_token.json").read_text())
    assert [row["setting"] for row in report["table"]] == ["full", "50% at layer 2", "50% at layer 0"]
    assert report["calibration"]["before"]["product_1024_s"] > 0
    assert report["machine"]["threads"] == 1
    assert len(report["rows"][1]["first_s"]) == 1
    assert "vision" not in report
    assert capsys.readouterr().out.startswith("| video tokens kept |")


def test_decoding_and_vision_are_reported_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(sight, "TOWER", {**small, "image_size": 28, "patch_size": 14})
    monkeypatch.setattr(first_token, "decode_seconds", partial(sight.decode_seconds, seconds=1))
    words = ["--shape", "tiny", "--tokens", "196", "--repeats", "2", "--dtype", "float32", "--out", str(tmp_path)]
    first_token.main([*words, "--budgets", "0.5", "--layers", "0", "--threads", "1", "--vision"])
    report = json.loads((tmp_path / "first_token.json").read_text())
    for part in ("decode", "vision"):
        assert len(report[part]["each_s"]) == 2
        assert min(report[part]["each_s"]) <= report[part]["seconds_per_frame"] + 1e-5
        assert report[part]["seconds_per_frame"] > 0
    assert "apart from that, for 1 frames: decoding " in capsys.readouterr().out


def test_no_repeats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        first_token.main(["--repeats", "0"])
    assert "--repeats is 0" in capsys.readouterr().err


def test_a_layer_that_is_not_there_is_refused(model: Any) -> None:
    with pytest.raises(ModelError), first_token.attached(model, Setting(0.5, 99)):
        pass
