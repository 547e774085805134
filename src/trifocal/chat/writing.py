"""Writing an answer token by token: the loop that every chat model shares.

A model gives the scores of the next token; `write` chooses, streams the text and stops. It is written out here because
positions and caches differ between models (a cache may hold fewer entries than positions, once tokens are merged),
while choosing, streaming and stopping do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from trifocal.chat.decoding import Decoding

__all__ = ["Written", "continuations", "write"]


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Args:
        token_ids: the generated tokens, the end mark among them.
        text: decoded, without control tokens and surrounding space.
        finished: "end" or "length".
    """

    token_ids: tuple[int, ...]
    text: str
    finished: Literal["end", "length"]


def write(
    logits: torch.Tensor,
    *,
    step: Callable[[int, int], torch.Tensor],
    decode: Callable[[Sequence[int]], str],
    end_ids: Collection[int],
    decoding: Decoding,
    on_text: Callable[[str], None] | None = None,
) -> Written:
    """Write an answer.

    Args:
        logits: scores of its first token, `(V,)` float32.
        step: takes a token and its place in the answer, from 0, and gives the scores of the next, `(V,)` float32.
        decode: text of tokens, without control tokens.
        end_ids: tokens that end an answer.
        decoding: how words are chosen.
        on_text: called with each new piece of text as soon as it is certain.
    """
    choose = _Chooser(decoding, device=logits.device)
    stream = _TextStream(decode, on_text)
    ids: list[int] = []
    while True:
        token = choose(logits, ids)
        ids.append(token)
        if token in end_ids or len(ids) == decoding.max_new_tokens:
            break
        stream.push(ids)
        logits = step(token, len(ids) - 1)
    ended = ids[-1] in end_ids
    text = stream.close(ids[:-1] if ended else ids)
    return Written(token_ids=tuple(ids), text=text.strip(), finished="end" if ended else "length")


class _Chooser:
    """Picks the next token from scores."""

    def __init__(self, decoding: Decoding, *, device: torch.device) -> None:
        self._decoding = decoding
        self._random = torch.Generator(device=device).manual_seed(decoding.seed)

    def __call__(self, logits: torch.Tensor, so_far: Sequence[int]) -> int:
        if self._decoding.repetition_penalty != 1.0 and so_far:
            seen = torch.tensor(sorted(set(so_far)), device=logits.device)
            score, penalty = logits[seen], self._decoding.repetition_penalty
            logits = logits.index_put((seen,), torch.where(score > 0, score / penalty, score * penalty))
        if (size := self._decoding.no_repeat_ngram) and (banned := continuations(so_far, size=size)):
            logits = logits.index_fill(0, torch.tensor(sorted(banned), device=logits.device), float("-inf"))
        if self._decoding.temperature == 0.0:
            return int(logits.argmax())
        probabilities = (logits / self._decoding.temperature).softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def continuations(ids: Sequence[int], *, size: int) -> set[int]:
    """The tokens that would write a run of `size` tokens which `ids` already has."""
    tail = tuple(ids[len(ids) - size + 1 :])
    return {ids[end] for end in range(size - 1, len(ids)) if tuple(ids[end - size + 1 : end]) == tail}


class _TextStream:
    """Hands out text as it grows, never half a character."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None] | None) -> None:
        self._decode = decode
        self._on_text = on_text
        self._sent = 0

    def push(self, ids: Sequence[int]) -> None:
        # The last character may still be made of bytes to come; it is then decoded as a replacement character.
        if self._on_text is not None and not (text := self._decode(ids)).endswith("\ufffd"):
            self._send(text)

    def close(self, ids: Sequence[int]) -> str:
        text = self._decode(ids)
        if self._on_text is not None:
            self._send(text)
        return text

    def _send(self, text: str) -> None:
        if self._on_text is not None and len(text) > self._sent:
            self._on_text(text[self._sent :])
            self._sent = len(text)
