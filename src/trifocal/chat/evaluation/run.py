"""Asking a benchmark's questions: each video is taken in once, and all its questions are asked of it.

Every answer is one line of `answers.jsonl` as soon as it is there, so an interrupted run goes on where it stopped and
ends the same. `settings.json` says what was run; a folder with other settings is refused.

A video that cannot be used, or whose tokens the settings cannot bring to the budget or into the context, is recorded
with the reason, and the run goes on. Where the first videos are all refused it is the settings that are wrong, and
the run stops with nothing recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from trifocal._version import __version__
from trifocal.chat.evaluation.item import LETTERS, Item
from trifocal.chat.evaluation.prompts import ask_text, chosen
from trifocal.errors import InvalidInput, ModelError, VideoError

if TYPE_CHECKING:
    from trifocal.chat.answer import Answer
    from trifocal.chat.decoding import Decoding
    from trifocal.chat.model import OpenVideo, VideoChat, VideoUse

__all__ = ["AskedAnswer", "ask_benchmark", "read_answers"]

ANSWERS: Final = "answers.jsonl"
SETTINGS: Final = "settings.json"
PATIENCE: Final = 5
"""So many videos in a row that the settings refuse, before any that they do not, are no accident."""

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
        error: why there is no answer, as the error's code (`video_not_found`, `invalid_input`, `model_error`, …); ""
            for a question that was answered.
        tokens: that stood for the video before merging; 0 where it is not known.
        kept: after merging.
        frames: of the video that were shown; 0 where it is not known.
        frames_wanted: by the settings; more than `frames` where they did not fit into the model's context.
        first_token_s: merging and prefill; for later questions on a video, what they cost beyond the first. None where
            nothing was written, as when options are weighed.
        cached: tokens of the prompt that an earlier question had paid for.
        warnings: of the answer.
    """

    id: str
    video: str
    kind: str
    group: str
    answer: int
    chosen: int | None
    text: str
    error: str = ""
    tokens: int = 0
    kept: int = 0
    frames: int = 0
    frames_wanted: int = 0
    first_token_s: float | None = None
    cached: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether the right option was answered; never where there was no answer."""
        return not self.error and self.chosen == self.answer


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
    keep_going: bool = False,
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
        keep_going: record refusals even when no video could be asked yet.
        progress: called with questions done and in all.

    Returns:
        The answers in the order of the questions.

    Raises:
        InvalidInput: the folder holds a run with other settings, the model cannot weigh options, or the settings refuse
            every one of the first videos.
        ModelError: not one of the first videos fits into the model's context.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder, {"benchmark": benchmark, "how": how, **(settings or {})})
    done = {answer.id: answer for answer in read_answers(folder)}
    left = [item for item in items if item.id not in done]
    progress(len(items) - len(left), len(items))
    by_video = groupby(sorted(left, key=lambda item: str(item.video)), key=lambda item: item.video)
    asked = (
        pair
        for video, of_video in by_video
        for pair in _of_video(benchmark, list(of_video), video, chat=chat, how=how, decoding=decoding)
    )
    proven = keep_going or any(not answer.error for answer in done.values())
    with (folder / ANSWERS).open("a", encoding="utf-8") as file:
        for answer, _ in asked if proven else _once_proven(asked):
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
            values = json.loads(line)
            out.append(AskedAnswer(**{**values, "warnings": tuple(values.get("warnings", ()))}))
        except (ValueError, TypeError, AttributeError) as error:
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


_Asked = tuple[AskedAnswer, InvalidInput | ModelError | None]
"""An answer, and what the settings had against the question."""


def _once_proven(asked: Iterator[_Asked]) -> Iterator[_Asked]:
    """Hold refusals back until a question is answered; settings that refuse every one of the first videos are wrong."""
    held: list[_Asked] = []
    refused: dict[str, InvalidInput | ModelError] = {}
    for answer, refusal in asked:
        if not answer.error:
            yield from (*held, (answer, refusal))
            yield from asked
            return
        if refusal is None:
            yield answer, None  # the file is to blame, which says nothing about the settings
            continue
        held.append((answer, refusal))
        refused.setdefault(answer.video, refusal)
        if len(refused) == PATIENCE:
            break
    if refused:
        name, first = next(iter(refused.items()))
        raise type(first)(
            f"not one of the first {len(refused)} videos can be asked with these settings; {name}: {first.message}",
            remedy=first.remedy,
        ) from first


def _of_video(
    benchmark: str, items: list[Item], video: Path, *, chat: VideoChat, how: How, decoding: Decoding | None
) -> Iterator[_Asked]:
    """The answers about a video; one that cannot be used is wrong for all its questions, and says why."""
    try:
        opened = chat.open(video)
    except (VideoError, InvalidInput, ModelError) as error:
        yield from (_failed(item, error) for item in items)
        return
    if how == "likelihood":
        yield from _weighed(opened, items)
        return
    for item in items:
        try:
            answer = opened.ask(ask_text(benchmark, item), decoding=decoding, evidence=0)
        except (InvalidInput, ModelError) as error:
            yield _failed(item, error)
        else:
            yield _row(item, chosen(answer.text, item.options), answer.text, answer=answer, use=opened.use), None


def _weighed(opened: OpenVideo, items: list[Item]) -> Iterator[_Asked]:
    if not hasattr(opened, "choice_scores"):
        raise InvalidInput(
            f"{type(opened).__name__} cannot weigh options by likelihood", remedy="Leave out --likelihood."
        )
    try:
        scores = cast("_Scores", opened).choice_scores(
            [item.question for item in items], [item.options for item in items]
        )
    except (InvalidInput, ModelError) as error:
        yield from (_failed(item, error) for item in items)
        return
    for item, row in zip(items, scores, strict=True):
        best = max(range(len(row)), key=lambda place: (row[place], -place))
        yield _row(item, best, f"{LETTERS[best]}. {item.options[best]}", use=opened.use), None


def _failed(item: Item, error: VideoError | InvalidInput | ModelError) -> _Asked:
    return _row(item, None, str(error), error=error.code), None if isinstance(error, VideoError) else error


def _row(
    item: Item,
    option: int | None,
    text: str,
    *,
    answer: Answer | None = None,
    use: VideoUse | None = None,
    error: str = "",
) -> AskedAnswer:
    tokens = answer.tokens if answer is not None else use
    return AskedAnswer(
        id=item.id,
        video=item.video.name,
        kind=item.kind,
        group=item.group,
        answer=item.answer,
        chosen=option,
        text=text,
        error=error,
        tokens=tokens.video if tokens else 0,
        kept=tokens.kept if tokens else 0,
        frames=use.frames if use else 0,
        frames_wanted=use.frames_wanted if use else 0,
        first_token_s=round(answer.timing.merge_s + answer.timing.prefill_s, 4) if answer else None,
        cached=answer.tokens.cached if answer else 0,
        warnings=answer.warnings if answer else (),
    )
