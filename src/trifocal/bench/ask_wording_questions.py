"""The questions that chose the prompt of the small chat model, with what counts as right.

An open question is right when the answer names one of the words in `right`. A choice between two is asked in both
orders, because a small model likes what it heard first or last: it is right when in both the first of the two that the
answer names is the right one. Words are whole words; a trailing star stands for any ending. `held_out` questions took
no part in choosing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["QUESTIONS", "Question", "is_right"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a clip.

    Args:
        clip: the clip's file name without its ending.
        text: what is asked; a choice is written `{right choice|wrong choice}`.
        right: words that a right answer has one of, separated by spaces.
        wrong: the words of the other choice; empty for open questions.
        held_out: whether it is kept from choosing.
    """

    clip: str
    text: str
    right: str
    wrong: str = ""
    held_out: bool = False

    def orders(self) -> tuple[str, ...]:
        """The question as it is asked: once, or in both orders of a choice."""
        choice = re.search(r"\{(.+)\|(.+)\}", self.text)
        if choice is None:
            return (self.text,)
        return tuple(
            self.text.replace(choice[0], f"{first} or {second}")
            for first, second in (choice.groups(), choice.groups()[::-1])
        )


def is_right(answer: str, *, question: Question) -> bool:
    """Whether an answer is right by the rule above."""
    right, wrong = _first(answer, question.right), _first(answer, question.wrong)
    return right is not None and (wrong is None or right < wrong)


def _first(answer: str, words: str) -> int | None:
    pattern = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words.split())
    found = re.search(rf"\b({pattern})\b", answer.lower()) if pattern else None
    return found.start() if found else None


_STREET = "street* car cars bicycle* bike* tram traffic road taxi* vehicle* rickshaw* city van minivan minibus bus"
_SPORT = "gym* bar bars ball balls sport* beam exercis* athlet* player* basketball volleyball"
_ANIMAL = "animal* rabbit bunny hay grass meadow hill field nature bird penguin albatross"
_PEOPLE = "man men people person boy* room office"

QUESTIONS = (
    Question("bikes", "What is shown in the video?", _STREET),
    Question("bikes", "Is this {a street|a forest}?", "street* city road", "forest*"),
    Question("bikes", "Is the video {about traffic|about cooking}?", "traffic vehicle*", "cook* food"),
    Question("bikes", "Which vehicles can be seen?", _STREET, held_out=True),
    Question("bikes", "Is it filmed {in a city|in a kitchen}?", "city street*", "kitchen*", held_out=True),
    Question("bikes", "What could one travel with here?", _STREET, held_out=True),
    Question("carphone_pristine", "What is shown in the video?", "tie suit man car person seat driver"),
    Question("carphone_pristine", "What is the person wearing?", "tie suit"),
    Question("carphone_pristine", "Is the man {in a car|in a kitchen}?", "car vehicle", "kitchen*"),
    Question("carphone_pristine", "Is it {a suit|a swimsuit}?", "suit tie", "swimsuit*", held_out=True),
    Question("carphone_pristine", "Are the clothes {formal|sporty}?", "formal suit tie", "sport*", held_out=True),
    Question("carphone_pristine", "What does the man have round his neck?", "tie bow", held_out=True),
    Question("basketball", "What is shown in the video?", _SPORT),
    Question("basketball", "What do the people exercise with?", "bar bars ball balls beam"),
    Question("basketball", "Is this {a gym|a kitchen}?", "gym*", "kitchen*"),
    Question("basketball", "Is the video {about sport|about cooking}?", "sport*", "cook* food"),
    Question("basketball", "Where was this filmed?", "gym* sport* court stadium arena", held_out=True),
    Question("basketball", "Which sports equipment can be seen?", "bar bars ball balls beam", held_out=True),
    Question("bigbuckbunny", "What is shown in the video?", _ANIMAL),
    Question("bigbuckbunny", "Does the video show {an animal|a machine}?", "animal* bird", "machine*"),
    Question("bigbuckbunny", "Is it set {in nature|in an office}?", "nature outdoor* field", "office*"),
    Question("bigbuckbunny", "Which animal could it be?", "rabbit bunny hare", held_out=True),
    Question("bigbuckbunny", "Is it {an animal|a car}?", "animal* bird", "car vehicle", held_out=True),
    Question("two_men", "Is this {a room|a beach}?", "room office gym*", "beach*"),
    Question("two_men", "Is it {indoors|outdoors}?", "indoor* inside", "outdoor* outside"),
    Question("two_men", "What is shown in the video?", _PEOPLE, held_out=True),
    Question("two_men", "Does it show {a room|a mountain}?", "room office gym*", "mountain*", held_out=True),
    Question("arm_wrestling", "What is shown in the video?", f"{_PEOPLE} arm table"),
    Question("arm_wrestling", "Is it {indoors|outdoors}?", "indoor* inside", "outdoor* outside"),
    Question("arm_wrestling", "Does it show {people|a landscape}?", "people person man men", "landscape*"),
    Question("arm_wrestling", "Is it {a room|a forest}?", "room office shop", "forest*", held_out=True),
)
