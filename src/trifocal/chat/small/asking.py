"""Questions with known answers put to the model in one pass: what training and the judging of choices share.

The prompt is word for word that of `SmallChat`: what comes before the question, the question, the answer and its end
mark. `answer_scores` packs them (see `packing`): a video once, behind it its questions, behind each its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from trifocal.chat.prompt import Assembled, Part, PromptStyle, assemble, chat_parts
from trifocal.chat.small.packing import Stretch, score

if TYPE_CHECKING:
    from trifocal.chat.language_model import LanguageModel
    from trifocal.chat.prefix.entry import PrefixEntry

__all__ = ["answer_scores", "prefix_of"]


def prefix_of(model: LanguageModel, *, style: PromptStyle, video: Sequence[Part]) -> Assembled:
    """The prompt up to the question, which all questions on a video share."""
    before, _ = chat_parts(model, style=style, video=video, question="")
    return assemble(model, parts=before)


def answer_scores(
    model: LanguageModel,
    prefix: torch.Tensor | PrefixEntry,
    *,
    style: PromptStyle,
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
) -> list[list[torch.Tensor]]:
    """How likely the model finds each answer to each question.

    Args:
        model: reads them.
        prefix: the embeddings of `prefix_of`, `(N, C)`, or what `prefill` made of them.
        style: the words.
        questions: on the same video.
        answers: for each question one or more.

    Returns:
        For each question and answer the log-probability of each of its tokens, the end mark last, `(n,)` float32.

    Raises:
        InvalidInput: there is no question, or a question or answer without a token.
    """
    fresh = isinstance(prefix, torch.Tensor)
    stretches = [Stretch(prefix)] if isinstance(prefix, torch.Tensor) else []
    for question, choices in zip(questions, answers, strict=True):
        _, after = chat_parts(model, style=style, video=(), question=question)
        stretches.append(Stretch(assemble(model, parts=after).embeddings, after=0 if fresh else -1))
        asked = len(stretches) - 1
        for choice in choices:
            ids = [*model.token_ids(choice, literal=True), model.end_id]
            stretches.append(Stretch(model.embed(ids), after=asked, targets=torch.tensor(ids)))
    scores = iter(score(model.model, stretches, behind=None if isinstance(prefix, torch.Tensor) else prefix))
    return [[next(scores) for _ in choices] for choices in answers]
