"""The wording round the video: which tokens go where in the conversation.

A prompt is a list of parts: words, what a user typed, and tokens that stand for a frame or for the whole video.
`PromptStyle` holds the words, `lay_out` puts frames between them, `assemble` turns the parts into embeddings and
remembers which position stands for which frame. All that comes before the question is one prefix, the same for every
question on a video. Knows the language model only through how it splits and embeds words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.chat.language_model import LanguageModel

__all__ = ["Assembled", "Part", "PromptStyle", "Tokens", "Typed", "Words", "assemble", "chat_parts", "lay_out"]

_VIDEO = "\x00video\x00"
_QUESTION = "\x00question\x00"


@dataclass(frozen=True, slots=True)
class Words:
    """Text of the template, in which control tokens count."""

    text: str


@dataclass(frozen=True, slots=True)
class Typed:
    """Text that a user typed, in which control tokens are only letters."""

    text: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """Video tokens.

    Args:
        embeddings: `(N, C)`.
        frame: which frame they stand for; -1 for the whole video.
    """

    embeddings: torch.Tensor
    frame: int


Part = Words | Typed | Tokens


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """The words of the prompt.

    The defaults were chosen by `trifocal.bench.ask_wording`. Any of the texts but `question` may be empty.

    Args:
        system: the system message; empty leaves the model's own.
        video: introduces the tokens of the whole video, where there are any.
        video_end: follows them.
        frames: introduces the frames, where they have tokens.
        frame: introduces each frame; `{time}` becomes its seconds with one decimal.
        separator: between two tokens of a frame or of the whole video.
        frame_end: follows each frame.
        question: follows the video; `{question}` becomes the question.
        examples: conversations held before this one, each what is seen (as words in place of the tokens), a question
            and its answer.
    """

    system: str = "You answer questions about a video. Answer in one short sentence."
    video: str = "Objects seen:"
    video_end: str = "."
    frames: str = "\nFrame by frame:"
    frame: str = ""
    separator: str = ","
    frame_end: str = ","
    question: str = "\n{question}"
    examples: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check that the question has its place."""
        if self.question.count("{question}") != 1:
            raise InvalidInput(f"The question's wording is {self.question!r}", remedy="Put {question} in it once.")


@dataclass(frozen=True, slots=True)
class Assembled:
    """A stretch of prompt as the model reads it.

    Args:
        embeddings: `(N, C)`.
        frame_of: the frame that each position stands for, `(N,)` int64 on the CPU; -1 for words and the whole video.
        video_tokens: how many of the positions are video tokens.
    """

    embeddings: torch.Tensor
    frame_of: torch.Tensor
    video_tokens: int


def lay_out(
    style: PromptStyle, *, frame_tokens: torch.Tensor, times_s: Sequence[float], video_tokens: torch.Tensor
) -> list[Part]:
    """The video as parts of a prompt.

    Args:
        style: the words.
        frame_tokens: what stands for each frame, `(T, N, C)`; N may be 0.
        times_s: when each frame is shown.
        video_tokens: what stands for the whole video, `(M, C)`; M may be 0.

    Raises:
        InvalidInput: there are no frames, or not a time for each.
    """
    if len(frame_tokens) == 0:
        raise InvalidInput("There are no frames to ask about", remedy="Give at least one frame.")
    if len(frame_tokens) != len(times_s):
        raise InvalidInput(
            f"There are {len(frame_tokens)} frames and {len(times_s)} times", remedy="Give one for each."
        )
    parts: list[Part] = []
    if len(video_tokens):
        parts += [
            Words(style.video),
            *_separated(video_tokens, frame=-1, separator=style.separator),
            Words(style.video_end),
        ]
    if frame_tokens.shape[1]:
        parts.append(Words(style.frames))
        for frame, (tokens, time_s) in enumerate(zip(frame_tokens, times_s, strict=True)):
            parts += [Words(style.frame.replace("{time}", f"{time_s:.1f}"))]
            parts += [*_separated(tokens, frame=frame, separator=style.separator), Words(style.frame_end)]
    return parts


def chat_parts(
    model: LanguageModel, *, style: PromptStyle, video: Sequence[Part], question: str
) -> tuple[list[Part], list[Part]]:
    """The whole conversation, cut where the question begins.

    Args:
        model: renders its chat template.
        style: the words.
        video: from `lay_out`.
        question: what was typed.

    Returns:
        The parts up to the question, which no question changes, and the rest.
    """
    messages = [{"role": "system", "content": style.system}] if style.system else []
    for seen, asked, answer in style.examples:
        messages.append({"role": "user", "content": seen + style.question.replace("{question}", asked)})
        messages.append({"role": "assistant", "content": answer})
    messages.append({"role": "user", "content": _VIDEO + style.question.replace("{question}", _QUESTION)})
    before, _, rest = model.render(messages).partition(_VIDEO)
    between, _, after = rest.partition(_QUESTION)
    return [Words(before), *video, Words(between)], [Typed(question), Words(after)]


def assemble(model: LanguageModel, *, parts: Sequence[Part]) -> Assembled:
    """Turn parts into what the model reads.

    Args:
        model: splits words into tokens and embeds them.
        parts: in order; empty ones are passed over.
    """
    embeddings, frame_of, video_tokens = [model.embed([])], [], 0
    for part in parts:
        if isinstance(part, Tokens):
            piece, frame = part.embeddings.to(model.embeddings), part.frame
            video_tokens += len(piece)
        else:
            piece, frame = model.embed(model.token_ids(part.text, literal=isinstance(part, Typed))), -1
        embeddings.append(piece)
        frame_of += [frame] * len(piece)
    return Assembled(
        embeddings=torch.cat(embeddings), frame_of=torch.tensor(frame_of, dtype=torch.long), video_tokens=video_tokens
    )


def _separated(tokens: torch.Tensor, *, frame: int, separator: str) -> list[Part]:
    if not separator:
        return [Tokens(tokens, frame=frame)]
    parts: list[Part] = []
    for token in tokens:
        parts += [Tokens(token[None], frame=frame), Words(separator)]
    return parts[:-1]
