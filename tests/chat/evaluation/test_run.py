"""Asking, resuming, scoring and showing, with a model that answers by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.chat import Answer, OpenVideo, Timing, TokenUse, VideoChat
from trifocal.chat.evaluation import (
    AskedAnswer,
    Item,
    accuracy,
    ask_benchmark,
    ask_text,
    by_kind,
    chosen,
    compare,
    plot,
    read_answers,
    strict_accuracy,
    summarise,
    table,
)
from trifocal.chat.model import VideoUse
from trifocal.errors import InvalidInput, ModelError, TrifocalError, VideoNotFound

OPTIONS = ("dog", "hot dog", "cat")


def items(count: int = 6) -> list[Item]:
    return [
        Item(
            id=str(number),
            video=Path(f"v{number % 2}.mp4"),
            question=f"Number {number}?",
            options=OPTIONS,
            answer=number % 3,
            kind="even" if number % 2 == 0 else "odd",
            group=f"g{number // 3}",
        )
        for number in range(count)
    ]


class Rule(VideoChat):
    """Always says "B", and counts what it is asked.

    `fails` names a video that cannot be used, `refuses` what the settings have against others (all, under "").
    """

    name, caveat = "rule", ""

    def __init__(
        self,
        *,
        fails: str = "",
        stop_after: int = 10**9,
        refuses: dict[str, TrifocalError] | None = None,
        kept: int = 30,
    ) -> None:
        self.opened: list[str] = []
        self.asked: list[str] = []
        self.fails, self.stop_after, self.refuses, self.kept = fails, stop_after, refuses or {}, kept

    def open(self, video: Any, **_: Any) -> OpenVideo:
        name = Path(video).name
        if name == self.fails:
            raise VideoNotFound(f"there is no {video}", remedy="Look for it.")
        if (refusal := self.refuses.get(name, self.refuses.get(""))) is not None:
            raise refusal
        self.opened.append(name)
        return RuleVideo(self)


class RuleVideo(OpenVideo):
    def __init__(self, chat: Rule) -> None:
        self.chat, self.first = chat, True

    @property
    def use(self) -> VideoUse:
        return VideoUse(frames=6, frames_wanted=8, video=100, kept=self.chat.kept)

    def ask(self, question: str, **_: Any) -> Answer:
        if (refusal := self.chat.refuses.get(question.partition("?")[0])) is not None:
            raise refusal
        if len(self.chat.asked) == self.chat.stop_after:
            raise KeyboardInterrupt
        self.chat.asked.append(question)
        cached, self.first = 0 if self.first else 90, False
        use = TokenUse(video=100, merged_away=100 - self.chat.kept, prompt=120, cached=cached)
        timing = Timing(merge_s=0.5, prefill_s=self.chat.kept / 30)
        return Answer(video="v", text="B", evidence=(), timing=timing, tokens=use, warnings=("cut",))

    def choice_scores(self, questions: Any, choices: Any) -> list[list[float]]:
        return [[float(len(choice)) for choice in row] for row in choices]


def test_each_video_is_opened_once_and_every_question_asked(tmp_path: Path) -> None:
    chat, told = Rule(), list[tuple[int, int]]()
    answers = ask_benchmark("vnbench", items(), chat=chat, folder=tmp_path, progress=lambda *n: told.append(n))
    assert chat.opened == ["v0.mp4", "v1.mp4"]
    assert [answer.id for answer in answers] == [str(n) for n in range(6)]
    assert [answer.right for answer in answers] == [n % 3 == 1 for n in range(6)]
    assert told[-1] == (6, 6)
    assert (
        chat.asked[0]
        == "Number 0?\nA. dog\nB. hot dog\nC. cat\nAnswer with the option's letter from the given choices directly."
    )


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole = ask_benchmark("mlvu", items(), chat=Rule(), folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        ask_benchmark("mlvu", items(), chat=Rule(stop_after=2), folder=tmp_path / "cut")
    half = (tmp_path / "cut" / "answers.jsonl").read_text()
    assert half.count("\n") == 0 or half.endswith("\n")
    with (tmp_path / "cut" / "answers.jsonl").open("a") as file:
        file.write('{"id": "3", "vid')  # a line that a crash cut short
    chat = Rule()
    again = ask_benchmark("mlvu", items(), chat=chat, folder=tmp_path / "cut")
    strip = [(a.id, a.chosen, a.text) for a in whole]
    assert [(a.id, a.chosen, a.text) for a in again] == strip
    assert len(read_answers(tmp_path / "cut")) == 6


def test_another_run_s_folder_is_refused(tmp_path: Path) -> None:
    ask_benchmark("mlvu", items(), chat=Rule(), folder=tmp_path, settings={"budget": 0.3})
    with pytest.raises(InvalidInput, match="another budget"):
        ask_benchmark("mlvu", items(), chat=Rule(), folder=tmp_path, settings={"budget": 0.5})


def test_a_video_that_cannot_be_used_is_wrong_and_says_why(tmp_path: Path) -> None:
    answers = ask_benchmark("nextqa", items(), chat=Rule(fails="v1.mp4"), folder=tmp_path)
    bad = [answer for answer in answers if answer.video == "v1.mp4"]
    assert all(answer.chosen is None and "there is no" in answer.text for answer in bad)
    assert summarise(tmp_path)["unanswered"] == 3


UNREACHABLE = InvalidInput("the budget is 12 tokens, and DyCoke keeps 32", remedy="Give more.")
TOO_LONG = ModelError("Video, question and answer may take 600 tokens", remedy="Ask a shorter question.")


@pytest.mark.parametrize(
    ("refuses", "ids", "code"),
    [
        ({"v0.mp4": UNREACHABLE}, ["0", "2", "4"], "invalid_input"),  # before any other video was asked
        ({"v1.mp4": UNREACHABLE}, ["1", "3", "5"], "invalid_input"),
        ({"v1.mp4": TOO_LONG}, ["1", "3", "5"], "model_error"),
        ({"Number 4": TOO_LONG}, ["4"], "model_error"),
    ],
)
def test_what_the_settings_refuse_is_recorded_and_the_run_goes_on(
    refuses: dict[str, TrifocalError], ids: list[str], code: str, tmp_path: Path
) -> None:
    answers = ask_benchmark("nextqa", items(), chat=Rule(refuses=refuses), folder=tmp_path)
    assert {answer.id: answer.error for answer in answers} == {str(n): code if str(n) in ids else "" for n in range(6)}
    reason = str(next(iter(refuses.values())))
    assert all(answer.text == reason and not answer.right for answer in answers if answer.error)
    # Nothing is asked again, and the refusals count as wrong but not as tokens.
    again = Rule(refuses=refuses)
    assert ask_benchmark("nextqa", items(), chat=again, folder=tmp_path) == answers
    assert again.opened == []
    summary = summarise(tmp_path)
    assert summary["failed"] == {code: len(ids)}
    assert summary["accuracy"]["count"] == 6
    assert (summary["tokens"], summary["kept"], summary["kept_share"]) == (100, 30, 0.3)
    assert summary["first_token_s"] == summary["later_token_s"] == 1.5


def many(count: int) -> list[Item]:
    return [
        Item(id=str(n), video=Path(f"{n:02}.mp4"), question=f"Number {n}?", options=OPTIONS, answer=1)
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize("refusal", [UNREACHABLE, TOO_LONG])
def test_settings_that_refuse_every_video_are_an_error_at_the_start(
    count: int, refusal: TrifocalError, tmp_path: Path
) -> None:
    chat = Rule(refuses={"": refusal}, fails="00.mp4")
    first = min(count - 1, 5)  # the missing file says nothing about the settings
    with pytest.raises(type(refusal), match=rf"not one of the first {first} videos .*; 01\.mp4: {refusal.message}"):
        ask_benchmark("nextqa", many(count), chat=chat, folder=tmp_path)
    assert {answer.error for answer in read_answers(tmp_path)} == {"video_not_found"}
    answers = ask_benchmark("nextqa", many(count), chat=chat, folder=tmp_path, keep_going=True)
    assert [answer.error for answer in answers[1:]] == [refusal.code] * (count - 1)


def test_a_model_that_cannot_weigh_options_is_an_error(tmp_path: Path) -> None:
    class Words(OpenVideo):
        def ask(self, question: str, **_: Any) -> Answer:
            raise AssertionError

    class Speaker(Rule):
        def open(self, video: Any, **_: Any) -> OpenVideo:
            return Words()

    with pytest.raises(InvalidInput, match="Words cannot weigh options"):
        ask_benchmark("nextqa", items(), chat=Speaker(), folder=tmp_path, how="likelihood")


def test_frames_and_warnings_are_kept_with_each_answer(tmp_path: Path) -> None:
    for answer in ask_benchmark("nextqa", items(), chat=Rule(), folder=tmp_path):
        assert (answer.frames, answer.frames_wanted, answer.warnings) == (6, 8, ("cut",))
    assert read_answers(tmp_path)[0].warnings == ("cut",)
    assert summarise(tmp_path)["fewer_frames"] == 6


def test_likelihood_takes_the_likeliest_option(tmp_path: Path) -> None:
    answers = ask_benchmark("playground", items(), chat=Rule(), folder=tmp_path, how="likelihood")
    assert {answer.chosen for answer in answers} == {1}  # the longest words, by this rule
    assert {(answer.kept, answer.first_token_s) for answer in answers} == {(30, None)}
    summary = summarise(tmp_path)
    assert (summary["kept"], summary["first_token_s"], summary["later_token_s"]) == (30, None, None)
    assert "| – | – |" in table([summary])


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", 1), ("B.", 1), ("(C) cat", 2), ("b", None), ("A hot dog", 1), ("A running animal", 0),
        ("The answer is C", 2), ("Answer: (B)", 1),
        ("I think it is a cat.", 2), ("a hot dog", 1), ("a dog and a cat", None), ("", None), ("D", None),
        ("Because of this, the best option is b.", 1),
    ],
)  # fmt: skip
def test_what_an_answer_means(text: str, option: int | None) -> None:
    assert chosen(text, OPTIONS) == option


@pytest.mark.parametrize("benchmark", ["videomme", "mlvu"])
def test_wordings_hold_question_and_options(benchmark: str) -> None:
    text = ask_text(benchmark, items()[0])
    assert "Number 0?" in text
    assert all(option in text for option in OPTIONS)


def test_intervals_know_of_videos() -> None:
    right = [True] * 50 + [False] * 50
    apart = accuracy(right, [str(n) for n in range(100)])
    together = accuracy(right, ["a"] * 50 + ["b"] * 50)
    assert apart.value == together.value == 0.5
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert accuracy(right, ["a"] * 50 + ["b"] * 50) == together
    with pytest.raises(InvalidInput):
        accuracy([], [])


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    chance, hits = np.random.default_rng(0), 0
    for trial in range(200):
        level = np.clip(chance.normal(0.6, 0.15, 40), 0, 1).repeat(5)
        found = accuracy(
            (chance.random(200) < level).tolist(), np.arange(40).repeat(5).astype(str).tolist(), seed=trial
        )
        hits += found.low <= 0.6 <= found.high
    assert 0.88 <= hits / 200 <= 1.0


def test_kinds_and_strict_groups() -> None:
    right, videos = [True, False, True, True], ["a", "a", "b", "b"]
    assert {kind: one.value for kind, one in by_kind(right, videos, ["x", "x", "y", "x"]).items()} == {
        "x": pytest.approx(2 / 3),
        "y": 1.0,
    }
    assert strict_accuracy(right, ["1", "1", "2", "2"], videos).value == 0.5


def test_runs_are_compared_in_a_table_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for budget in (0.5, 0.3):
        settings = {"model": "rule", "method": "sttm", "budget": budget, "layer": 2}
        chat = Rule(kept=round(100 * budget))
        ask_benchmark("vnbench", items(), chat=chat, folder=tmp_path / str(budget), settings=settings)
    rows = compare(tmp_path)
    assert [row["settings"]["budget"] for row in rows] == [0.5, 0.3]
    assert rows[1]["strict"]["count"] == 2
    assert rows[1]["kept"] == 30
    assert rows[1]["first_token_s"] == rows[1]["later_token_s"] == 1.5
    assert rows[1]["relative"] is None
    text = table(rows)
    assert text.count("\n") == 3
    assert "| vnbench | rule | sttm | 0.3 | 0.333" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1
    whole = {"model": "rule", "method": "none", "budget": "", "layer": None}
    ask_benchmark("vnbench", items(), chat=Rule(kept=100), folder=tmp_path / "none", settings=whole)
    other = {**whole, "model": "another"}
    ask_benchmark("vnbench", items(), chat=Rule(kept=60), folder=tmp_path / "other", settings=other)
    rows = compare(tmp_path)
    assert [(row["settings"]["model"], row["kept"]) for row in rows] == [
        ("another", 60), ("rule", 100), ("rule", 50), ("rule", 30)
    ]  # fmt: skip
    assert rows[0]["relative"] == rows[1]["relative"] == {"accuracy": 1.0, "first_token": 1.0, "tokens": 1.0}
    first = (0.5 + 30 / 30) / (0.5 + 100 / 30)
    assert rows[3]["relative"] == {"accuracy": 1.0, "first_token": pytest.approx(first, rel=1e-4), "tokens": 0.3}
    assert table(rows).splitlines()[-1].endswith("| 100.0% | 0.000 | 6 | 0 | 30 (30%) | 30.0% | 1.50 s | 39.1% |")
    assert plot(rows, tmp_path / "p.png").stat().st_size > 1000
    with pytest.raises(InvalidInput):
        plot([], tmp_path / "p.png")
    with pytest.raises(InvalidInput, match="holds no answers"):
        summarise(tmp_path / "absent")


def test_shares_are_of_questions_that_both_runs_answered(tmp_path: Path) -> None:
    """A run that could not ask one video is set against the whole run without it."""
    merged = {"method": "sttm", "budget": 0.3}
    ask_benchmark("mlvu", items(), chat=Rule(refuses={"v1.mp4": UNREACHABLE}), folder=tmp_path / "a", settings=merged)
    ask_benchmark("mlvu", items(), chat=Rule(kept=60), folder=tmp_path / "b", settings={"method": "none"})
    (row,) = (row for row in compare(tmp_path) if row["settings"]["method"] == "sttm")
    first = (0.5 + 30 / 30) / (0.5 + 60 / 30)
    # Of the questions 1 and 4, which "B" answers, 1 is of the video that was refused.
    assert row["relative"] == {"accuracy": 0.5, "first_token": pytest.approx(first, rel=1e-4), "tokens": 0.5}


def test_a_damaged_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(InvalidInput, match="line 1"):
        read_answers(tmp_path)
    assert AskedAnswer(id="1", video="v", kind="", group="", answer=0, chosen=None, text="").right is False
