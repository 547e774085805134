from __future__ import annotations

import pytest

from trifocal.bench.ask_wording_questions import QUESTIONS, Question, is_right

OPEN = Question("clip", "What is worn?", "tie suit*")
CHOICE = Question("clip", "Is it {a suit|a swimsuit}?", "suit", "swimsuit*")


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        (OPEN, "I see a tie.", True),
        (OPEN, "Two SUITS.", True),
        (OPEN, "A necktie.", False),
        (OPEN, "", False),
        (CHOICE, "A suit, not a swimsuit.", True),
        (CHOICE, "A swimsuit, not a suit.", False),
        (CHOICE, "A swimsuit.", False),
        (CHOICE, "Neither.", False),
    ],
)
def test_marks(question: Question, answer: str, right: bool) -> None:
    assert is_right(answer, question=question) is right


def test_a_choice_is_asked_in_both_orders() -> None:
    assert OPEN.orders() == ("What is worn?",)
    assert CHOICE.orders() == ("Is it a suit or a swimsuit?", "Is it a swimsuit or a suit?")


def test_there_are_enough_questions_and_some_are_held_out() -> None:
    assert len(QUESTIONS) >= 20
    assert len({(question.clip, question.text) for question in QUESTIONS}) == len(QUESTIONS)
    assert 0.3 < sum(question.held_out for question in QUESTIONS) / len(QUESTIONS) < 0.5
    for question in QUESTIONS:
        assert (len(question.orders()) == 2) is bool(question.wrong)
