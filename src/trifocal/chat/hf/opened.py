"""A video that a Hugging Face model has read: questions fork its prefix, from any thread, and leave it as it was.

Evidence is sought only when it is asked for, and its time is told apart from that of the answer. What it is compared
with, where a question about nothing in particular looks, is found with the first question that wants evidence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trifocal.chat.answer import Answer, Evidence, Timing, TokenUse
from trifocal.chat.hf.evidence import Attended, Columns, outstanding
from trifocal.chat.model import OpenVideo, VideoUse, checked_question
from trifocal.chat.writing import write
from trifocal.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    import torch

    from trifocal.chat.decoding import Decoding
    from trifocal.chat.hf.chat import HFChat
    from trifocal.chat.prefix import PrefixEntry

__all__ = ["NEUTRAL_QUESTION", "OpenHFVideo", "columns_of"]

NEUTRAL_QUESTION = "What is shown in the video?"
NEUTRAL_TOKENS = 8
"""How much of the neutral question's answer is written to compare an answer with."""


class OpenHFVideo(OpenVideo):
    """A video that a model has read; made by `HFChat.open`. Questions may come from many threads at once."""

    def __init__(self, chat: HFChat, entry: PrefixEntry, *, name: str, paid: Timing | None) -> None:
        self.entry = entry
        self._chat = chat
        self._name = name
        # Paid once, so the first answer carries it and later ones do not.
        self._unpaid = paid
        self._lock = threading.Lock()
        self._neutral: torch.Tensor | None = None
        self._comparing = threading.Lock()

    @property
    def use(self) -> VideoUse:
        """What of the video is shown."""
        facts = self.entry.facts
        frames, wanted, video, kept = (int(facts[name]) for name in ("frames", "frames_wanted", "video", "kept"))
        return VideoUse(frames=frames, frames_wanted=wanted, video=video, kept=kept)

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
        chat, engine, facts = self._chat, self._chat.engine, self.entry.facts
        decoding = decoding or chat.config.decoding
        typed, rest = chat.prompt.question(question)
        ids = [*typed, *rest]
        self._check_fits(len(ids), decoding)
        attended = Attended(columns_of(self.entry)) if evidence else None
        started = time.perf_counter()
        cache = engine.fork(self.entry)
        logits = self._put(ids, cache=cache, words=len(typed), attended=attended)
        engine.wait()
        prefilled = time.perf_counter()
        looked_s = attended.seconds if attended else 0.0
        written = write(
            logits,
            step=self._writer(len(ids), cache=cache, attended=attended),
            decode=chat.prompt.decode,
            end_ids=chat.end_ids,
            decoding=decoding,
            on_text=on_text,
        )
        ended = time.perf_counter()
        looking_s = attended.seconds if attended else 0.0
        found = self._outstanding(attended, most=evidence) if attended else ()
        evidence_s = looking_s + time.perf_counter() - ended if attended else 0.0
        with self._lock:
            before, self._unpaid = self._unpaid, None
        paid = before or Timing()
        return Answer(
            video=self._name,
            text=written.text,
            evidence=found,
            timing=Timing(
                decode_s=paid.decode_s,
                vision_s=paid.vision_s,
                merge_s=paid.merge_s,
                prefill_s=paid.prefill_s + prefilled - started - looked_s,
                generate_s=ended - prefilled - (looking_s - looked_s),
                evidence_s=evidence_s,
            ),
            question=question,
            model=chat.name,
            tokens=TokenUse(
                video=int(facts["video"]),
                prompt=self.entry.length + len(ids),
                cached=0 if before else self.entry.length,
                answer=len(written.token_ids),
                merged_away=int(facts["video"]) - int(facts["kept"]),
            ),
            finished=written.finished,
            caveat=chat.caveat,
            warnings=tuple(facts["warnings"]),
        )

    def neutral(self) -> torch.Tensor:
        """Where a question about nothing in particular looks, or its answer, `(T,)` float32; found once."""
        with self._comparing:
            if self._neutral is None:
                self._neutral = self._looks(NEUTRAL_QUESTION)
            return self._neutral

    def _looks(self, question: str) -> torch.Tensor:
        """What each frame receives from a question or the beginning of its answer, as the configuration says."""
        chat, engine = self._chat, self._chat.engine
        typed, rest = chat.prompt.question(question)
        attended = Attended(columns_of(self.entry))
        cache = engine.fork(self.entry)
        if chat.config.evidence_from == "question":
            self._put(typed, cache=cache, words=len(typed), attended=attended)
            return attended.by_frame
        ids = [*typed, *rest]
        step = self._writer(len(ids), cache=cache, attended=attended)
        token = int(self._put(ids, cache=cache, words=len(typed), attended=attended).argmax())
        for place in range(NEUTRAL_TOKENS - 1):
            if token in chat.end_ids:
                break
            token = int(step(token, place).argmax())
        return attended.by_frame

    def _put(self, ids: Sequence[int], *, cache: Any, words: int, attended: Attended | None) -> torch.Tensor:
        """Run a question whose own words come first; the scores of the answer's first token."""
        # The answer's first token is written at the last place of the prompt.
        rows = slice(words) if self._chat.config.evidence_from == "question" else slice(-1, None)
        return self._step(ids, cache=cache, start=int(self.entry.facts["following"]), attended=attended, rows=rows)

    def _writer(self, asked: int, *, cache: Any, attended: Attended | None) -> Callable[[int, int], torch.Tensor]:
        """Runs a token of the answer behind a question of so many tokens."""
        facts = self.entry.facts
        first = max(int(facts["following"]) + asked, int(facts["above"]))
        watched = attended if self._chat.config.evidence_from == "answer" else None
        return lambda token, place: self._step(
            [token], cache=cache, start=first + place, attended=watched, rows=slice(None)
        )

    def _step(
        self, ids: Sequence[int], *, cache: Any, start: int, attended: Attended | None, rows: slice
    ) -> torch.Tensor:
        engine = self._chat.engine
        if attended is None:
            return engine.step(ids, cache=cache, start=start)
        with engine.probe.watching() as watched:
            logits = engine.step(ids, cache=cache, start=start)
        attended.add(watched, rows=rows)
        return logits

    def _outstanding(self, attended: Attended, *, most: int) -> tuple[Evidence, ...]:
        times_s = self.entry.facts["times_s"]
        frames = outstanding(attended.by_frame, neutral=self.neutral(), most=most)
        return tuple(Evidence(time_s=float(times_s[frame]), weight=share) for frame, share in frames)

    def _check_fits(self, question: int, decoding: Decoding) -> None:
        engine, facts = self._chat.engine, self.entry.facts
        merged = int(facts["video"]) - int(facts["kept"]) if engine.merges_before_layers else 0
        needed = self.entry.length - merged + question + decoding.max_new_tokens
        if needed > engine.context:
            raise ModelError(
                f"Video, question and answer may take {needed} tokens, and {self._chat.name} has room for "
                f"{engine.context}",
                remedy="Ask a shorter question, or use fewer frames or a lower max_new_tokens.",
            )


def columns_of(entry: PrefixEntry) -> Columns:
    """Which keys of the watched layer stand for which frames, as an entry keeps it."""
    column, frame, weight = (entry.extra[f"evidence.{name}"].cpu() for name in ("column", "frame", "weight"))
    return Columns(column, frame, weight, int(entry.facts["grid"][0]))
