"""A video that the small model has taken in: questions are answered from its prefix, by writing or by choosing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from trifocal.chat.answer import Answer, Evidence, Timing, TokenUse
from trifocal.chat.attention import frame_shares
from trifocal.chat.model import OpenVideo, VideoUse, checked_question
from trifocal.chat.prompt import assemble, chat_parts
from trifocal.chat.small.asking import answer_scores
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.chat.decoding import Decoding
    from trifocal.chat.language_model import Prefix
    from trifocal.chat.small_chat import SmallChat

__all__ = ["OpenSmallVideo", "question_attention"]

STANDS_OUT = 1e-3


class OpenSmallVideo(OpenVideo):
    """A video that the small model has prefilled; made by `SmallChat.open`.

    Args:
        chat: the model.
        prefix: its `extra` holds `frame_of` (the frame of each position, -1 for words), `neutral` (the attention of a
            question about nothing in particular) and `times_s`; its `facts` hold `video` and `merged_away`, in tokens.
        name: the path, or "frames".
        warnings: of reading the video.
        timing: what has been spent on it.
        found: whether the prefix was there before.
    """

    def __init__(
        self,
        chat: SmallChat,
        prefix: Prefix,
        *,
        name: str,
        warnings: tuple[str, ...],
        timing: Timing,
        found: bool = False,
    ) -> None:
        """Take over what was prefilled."""
        self._chat = chat
        self.prefix = prefix
        self._times_s: list[float] = prefix.extra["times_s"].tolist()
        self._name = name
        self._warnings = warnings
        self._found = found
        # Paid once, so the first answer carries it and later ones do not.
        self._unpaid: Timing | None = timing
        self._lock = threading.Lock()

    @property
    def use(self) -> VideoUse:
        """What of the video is shown."""
        frames, video = len(self._times_s), int(self.prefix.facts["video"])
        kept = video - int(self.prefix.facts["merged_away"])
        return VideoUse(frames=frames, frames_wanted=frames, video=video, kept=kept)

    def ask(
        self,
        question: str,
        *,
        decoding: Decoding | None = None,
        on_text: Callable[[str], None] | None = None,
        evidence: int = 3,
    ) -> Answer:
        """Answer a question on this video; see `OpenVideo.ask`."""
        question = checked_question(question)
        if evidence < 0:
            raise InvalidInput(f"evidence is {evidence}", remedy="Give a whole number of at least 0.")
        chat, model, prefix = self._chat, self._chat.language_model, self.prefix
        _, after = chat_parts(model, style=chat.config.style, video=(), question=question)
        rest = assemble(model, parts=after)
        generation = model.generate(prefix, rest.embeddings, decoding=decoding or chat.config.decoding, on_text=on_text)
        written = time.perf_counter()
        found = self._evidence(question, most=evidence) if evidence else ()
        evidence_s = time.perf_counter() - written if evidence else 0.0
        with self._lock:
            before, self._unpaid = self._unpaid, None
        paid = before or Timing()
        return Answer(
            video=self._name,
            text=generation.text,
            evidence=found,
            timing=Timing(
                decode_s=paid.decode_s,
                vision_s=paid.vision_s,
                merge_s=paid.merge_s,
                prefill_s=paid.prefill_s + generation.prefill_s,
                generate_s=generation.generate_s,
                evidence_s=paid.evidence_s + evidence_s,
            ),
            question=question,
            model=chat.name,
            tokens=TokenUse(
                video=int(prefix.facts["video"]),
                merged_away=int(prefix.facts["merged_away"]),
                prompt=prefix.length + len(rest.embeddings),
                cached=0 if before and not self._found else prefix.length,
                answer=len(generation.token_ids),
            ),
            finished=generation.finished,
            caveat=chat.caveat,
            warnings=self._warnings,
        )

    def _evidence(self, question: str, *, most: int) -> tuple[Evidence, ...]:
        """The frames that the question's words look at more than evenly."""
        prefix = self.prefix
        shares = frame_shares(
            question_attention(self._chat, prefix, question=question),
            neutral=prefix.extra["neutral"],
            frame_of=prefix.extra["frame_of"],
            frames=len(self._times_s),
        ).tolist()
        # A question about the whole video looks at all frames alike; then none is evidence.
        outstanding = [frame for frame, share in enumerate(shares) if share > 1 / len(shares) + STANDS_OUT]
        best = sorted(outstanding, key=lambda frame: (-shares[frame], self._times_s[frame]))[:most]
        return tuple(Evidence(time_s=self._times_s[frame], weight=shares[frame]) for frame in best)

    @torch.inference_mode()
    def choice_scores(self, questions: Sequence[str], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """How likely the model finds each of the choices of each question: the way to ask with choices.

        Args:
            questions: about this video; they do not see each other.
            choices: for each question its possible answers.

        Returns:
            Log-probabilities, in the order of the choices; the highest is the model's answer.

        Raises:
            InvalidInput: a question is empty, or there are not as many lists of choices as questions.
        """
        if len(questions) != len(choices):
            raise InvalidInput(
                f"There are {len(questions)} questions and {len(choices)} lists of choices", remedy="Give one for each."
            )
        asked = [checked_question(question) for question in questions]
        scores = answer_scores(
            self._chat.language_model, self.prefix, style=self._chat.config.style, questions=asked, answers=choices
        )
        return [[float(each.sum()) for each in row] for row in scores]


def question_attention(chat: SmallChat, prefix: Prefix, *, question: str) -> torch.Tensor:
    """What each position of the prefix receives from the question's own words, `(S,)`."""
    model = chat.language_model
    first, last = (round(share * model.layers) for share in chat.config.evidence_layers)
    words = model.embed(model.token_ids(question, literal=True))
    rows = model.attention(prefix, words, layers=range(first, max(last, first + 1)))
    return rows[:, : prefix.length].mean(0)
