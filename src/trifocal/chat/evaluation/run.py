"""Asking a benchmark's questions: each video is taken in once, and all its questions are asked of it.

Every answer is one line of `answers.jsonl` as soon as it is there, so an interrupted run goes on where it stopped and
ends the same. `settings.json` says what was run; a folder with other settings is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from trifocal._version import __version__
from trifocal.chat.evaluation.item import LETTERS, Item
from trifocal.chat.evaluation.prompts import ask_text, chosen
from trifocal.errors import InvalidInput, VideoError

if TYPE_CHECKING:
    from trifocal.chat.answer import Answer
    from trifocal.chat.decoding import Decoding
    from trifocal.chat.model import OpenVideo, VideoChat

__all__ = ["AskedAnswer", "ask_benchmark", "read_answers"]

ANSWERS: Final = "answers.jsonl"
SETTINGS: Final = "settings.json"

How = Literal["letters", "likelihood"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAnswer:
    """What came of one question.

    Args:
        id: of the question.
        video: its file's name.
        kind: of question.
        group: for strict scores.
        answer: the right option, from 0.
        chosen: the option that was answered; None where it could not be told, or the video could not be used.
        text: what the model said, or the error.
        tokens: that stood for the video before merging.
        kept: after merging.
        first_token_s: merging and prefill; for later questions on a video, what they cost beyond the first.
        cached: tokens of the prompt that an earlier question had paid for.
    """

    id: str
    video: str
    kind: str
    group: str
    answer: int
    chosen: int | None
    text: str
    tokens: int = 0
    kept: int = 0
    first_token_s: float = 0.0
    cached: int = 0

    @property
    def right(self) -> bool:
        """Whether the right option was answered."""
        return self.chosen == self.answer


class _Scores(Protocol):
    """A video of which choices can be weighed without words."""

    def choice_scores(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]], /
    ) -> Sequence[Sequence[float]]: ...


def ask_benchmark(
    benchmark: str,
    items: Sequence[Item],
    *,
    chat: VideoChat,
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    how: How = "letters",
    decoding: Decoding | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[AskedAnswer]:
    """Ask all questions that have not been asked yet.

    Args:
        benchmark: whose wording is used.
        items: the questions.
        chat: the model.
        folder: of this run; made where it is missing.
        settings: what else distinguishes this run (model, method, budget); kept beside the answers.
        how: "letters" asks in the benchmark's words and reads the letter; "likelihood" compares how likely the model
            finds each option's words, for models too small to follow a format.
        decoding: how answers are written.
        progress: called with questions done and in all.

    Returns:
        The answers in the order of the questions.

    Raises:
        InvalidInput: the folder holds a run with other settings, or the model cannot weigh options.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder, {"benchmark": benchmark, "how": how, **(settings or {})})
    done = {answer.id: answer for answer in read_answers(folder)}
    left = [item for item in items if item.id not in done]
    progress(len(items) - len(left), len(items))
    with (folder / ANSWERS).open("a", encoding="utf-8") as file:
        for video, of_video in groupby(sorted(left, key=lambda item: str(item.video)), key=lambda item: item.video):
            for answer in _of_video(benchmark, list(of_video), video, chat=chat, how=how, decoding=decoding):
                file.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
                done[answer.id] = answer
                progress(sum(item.id in done for item in items), len(items))
    return [done[item.id] for item in items]


def read_answers(folder: str | Path) -> list[AskedAnswer]:
    """The answers that a folder holds; a line that was cut short by a crash is left out, and asked again."""
    path = Path(folder) / ANSWERS
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole, _, rest = text.rpartition("\n")
    if rest:
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    out = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            out.append(AskedAnswer(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"{path}, line {number} is damaged: {error}", remedy="Remove that line; it is asked again."
            ) from error
    return out


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    path = folder / SETTINGS
    wanted = json.loads(json.dumps({**settings, "version": __version__}))
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
        differ = sorted(key for key in wanted.keys() | held.keys() if wanted.get(key) != held.get(key))
        if differ:
            raise InvalidInput(
                f"{folder} holds a run with another {', '.join(differ)}", remedy="Give another folder, or remove it."
            )
        return
    path.write_text(json.dumps(wanted, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _of_video(
    benchmark: str, items: list[Item], video: Path, *, chat: VideoChat, how: How, decoding: Decoding | None
) -> list[AskedAnswer]:
    """A video that cannot be used is wrong for all its questions, and says why; the run goes on."""
    try:
        opened = chat.open(video)
    except VideoError as error:
        return [_row(item, None, str(error)) for item in items]
    if how == "likelihood":
        return _weighed(opened, items)
    out = []
    for item in items:
        answer = opened.ask(ask_text(benchmark, item), decoding=decoding, evidence=0)
        out.append(_row(item, chosen(answer.text, item.options), answer.text, answer))
    return out


def _weighed(opened: OpenVideo, items: list[Item]) -> list[AskedAnswer]:
    if not hasattr(opened, "choice_scores"):
        raise InvalidInput(
            f"{type(opened).__name__} cannot weigh options by likelihood", remedy="Leave out --likelihood."
        )
    scores = cast("_Scores", opened).choice_scores([item.question for item in items], [item.options for item in items])
    out = []
    for item, row in zip(items, scores, strict=True):
        best = max(range(len(row)), key=lambda place: (row[place], -place))
        out.append(_row(item, best, f"{LETTERS[best]}. {item.options[best]}"))
    return out


def _row(item: Item, option: int | None, text: str, answer: Answer | None = None) -> AskedAnswer:
    use, timing = (answer.tokens, answer.timing) if answer is not None else (None, None)
    return AskedAnswer(
        id=item.id,
        video=item.video.name,
        kind=item.kind,
        group=item.group,
        answer=item.answer,
        chosen=option,
        text=text,
        tokens=use.video if use else 0,
        kept=use.video - use.merged_away if use else 0,
        first_token_s=round(timing.merge_s + timing.prefill_s, 4) if timing else 0.0,
        cached=use.cached if use else 0,
    )
