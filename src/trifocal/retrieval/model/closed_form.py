"""A start without gradient steps: least squares from whole videos to their captions' last words, or plain identity.

Weak labels are enough for a linear map: each caption's sentence vector y against the mean x of its whole video, which
is its moment plus the rest of the video as noise,

    M = argmin Σ ‖y − M x‖² + λ ‖M‖²,   M = (Σ y xᵀ)(Σ x xᵀ + λ I)⁻¹

and words keep their orthogonal map W, so that clips get W M. The query is the last word alone. No moment is looked at.
It is a start for training and a mark to compare with; figures that use it say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trifocal.errors import InvalidInput
from trifocal.retrieval.model.encoders import LinearEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from trifocal.retrieval.model.batch import RetrievalBatch
    from trifocal.retrieval.model.retriever import PrototypeRetriever

__all__ = ["closed_form_start", "last_words", "query_by_last_word"]

# Times the pooling's rate a logit of 40 above all others: the last word alone.
_ALONE = 5.0


def last_words(batch: RetrievalBatch) -> Tensor:
    """Each caption's last word, where CLIP and this project's readers keep the sentence: (N, text_dim)."""
    place = torch.arange(batch.word_mask.shape[1], device=batch.words.device)
    last = (batch.word_mask * place).amax(dim=1)
    return batch.words[torch.arange(len(last), device=last.device), last]


def query_by_last_word(model: PrototypeRetriever) -> None:
    """Set the pooling of words to the last one alone; for a model with `pool_edges`.

    Raises:
        InvalidInput: the model pools without edges.
    """
    edges = model.text.pool.edges
    if edges is None:
        raise InvalidInput("the model's pooling knows no last word", remedy="Use pool_edges=True.")
    with torch.no_grad():
        edges.copy_(torch.tensor([0.0, _ALONE]))


def closed_form_start(model: PrototypeRetriever, batches: Iterable[RetrievalBatch], *, ridge: float = 1.0) -> None:
    """Solve for the clips' map and set it; queries become the last word alone.

    Args:
        model: with linear encoders and `pool_edges`.
        batches: the training split, once.
        ridge: λ.

    Raises:
        InvalidInput: another kind of model, no batches, or λ not above 0.
    """
    video, text = model.video, model.text.encoder
    if not (isinstance(video, LinearEncoder) and isinstance(text, LinearEncoder)):
        raise InvalidInput(f"the encoder is {model.config.encoder!r}", remedy="Use encoder='linear'.")
    if not ridge > 0:
        raise InvalidInput(f"ridge is {ridge}", remedy="Give a number above 0.")
    d_v, d_t = model.config.video_dim, model.config.text_dim
    square = torch.zeros(d_v, d_v, dtype=torch.float64)
    cross = torch.zeros(d_t, d_v, dtype=torch.float64)
    seen = 0
    for batch in batches:
        x = batch.clips.mean(dim=1)[batch.owner].double().cpu()  # (N, d_v)
        y = last_words(batch).double().cpu()  # (N, d_t)
        square += x.T @ x
        cross += y.T @ x
        seen += len(y)
    if not seen:
        raise InvalidInput("there are no batches", remedy="Give the training split.")
    solved = torch.linalg.solve(square + ridge * torch.eye(d_v, dtype=torch.float64), cross.T).T  # (d_t, d_v)
    with torch.no_grad():
        weight = text.project.weight
        video.project.weight.copy_(weight @ solved.to(weight))
    query_by_last_word(model)
