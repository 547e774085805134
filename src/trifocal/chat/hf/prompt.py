"""The words round the video, cut where the question begins.

The chat template of the model is rendered once with a stand-in for the question; what comes before the stand-in is the
prefix that all questions share. Both sides are split into tokens apart, so a question never changes the prefix. A
question is what a stranger typed: control tokens spelt out in it are letters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trifocal.errors import ModelError

if TYPE_CHECKING:
    from trifocal.chat.hf.processor import FrameProcessor

__all__ = ["ChatPrompt"]

_QUESTION = "\x00question\x00"


class ChatPrompt:
    """The conversation about one video, as one model was trained to see it.

    Args:
        tokenizer: of the model, one of the fast kind.
        processor: knows where the template has the video, and the template where the tokenizer has none for videos.
        template: a chat template that wins over both; None for the model's own.
        system: the system message; empty leaves the model's own.

    Raises:
        ModelError: there is no template, or it has no place for a video and a question.
    """

    def __init__(
        self, tokenizer: Any, *, processor: FrameProcessor, template: str | None = None, system: str = ""
    ) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer", remedy="Load the model's folder with tokenizer.json."
            )
        template = template or processor.template or getattr(tokenizer, "chat_template", None)
        if not template:
            raise ModelError("The model has no chat template", remedy="Give one as chat_template.")
        serialised = backend.to_str()
        self._tokenizer = Tokenizer.from_str(serialised)
        self._literal = Tokenizer.from_str(serialised)
        self._literal.encode_special_tokens = True
        messages: list[dict[str, Any]] = []
        if system:
            messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
        content = [{"type": "video"}, {"type": "text", "text": _QUESTION}]
        messages.append({"role": "user", "content": content})
        rendered = str(
            tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
        )
        head, found_video, tail = rendered.partition(processor.marker)
        between, found_question, self._after = tail.partition(_QUESTION)
        if not found_video or not found_question:
            raise ModelError(
                f"The chat template gives {rendered.replace(_QUESTION, '(question)')!r:.300}, without "
                f"{processor.marker!r} and a question behind it",
                remedy="Give the model's template for videos as chat_template.",
            )
        self._head, self._between = head, between
        self.token = str(self._tokenizer.id_to_token(processor.placeholder))
        # Where the tokenizer begins every text with a mark of its own and the template does not write it.
        marks = self._tokenizer.encode("").ids[:1]
        written = self._tokenizer.encode(head, add_special_tokens=False).ids[:1]
        self._begin = [] if marks == written else marks
        self.fingerprint = hashlib.sha256(
            "\x00".join((head, processor.marker, between, hashlib.sha256(serialised.encode()).hexdigest())).encode()
        ).hexdigest()

    def before(self, video: str) -> list[int]:
        """Tokens of everything up to the question; `video` is what stands for the video."""
        text = self._head + video + self._between
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [*self._begin, *ids]

    def question(self, typed: str) -> tuple[list[int], list[int]]:
        """Tokens of the question, and of what follows it up to where the answer begins."""
        return (
            self._literal.encode(typed, add_special_tokens=False).ids,
            self._tokenizer.encode(self._after, add_special_tokens=False).ids,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without control tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
