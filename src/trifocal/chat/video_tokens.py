"""From what an image classifier sees at each place to tokens that a language model can read, without any training.

A token is the probability-weighted mean of the language model's own input embeddings of the class names (a convex
combination of embeddings, Norouzi et al. 2013, arXiv 1312.5650), here at each cell of the classifier's feature map. The
language model has never seen such mixtures, so the closer a token is to one word the better it is understood: keeping
few classes and sharpening their probabilities is what the options are for. Pure tensor code; it knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from trifocal.errors import InvalidInput

__all__ = ["class_embeddings", "likeliest_classes", "video_tokens"]


def class_embeddings(embeddings: torch.Tensor, *, token_ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Each class as the mean of the input embeddings of the tokens of its name.

    Args:
        embeddings: the input embeddings of the vocabulary, `(V, C)`.
        token_ids: for each class the tokens of its name.

    Returns:
        `(A, C)`, dtype and device of `embeddings`.

    Raises:
        InvalidInput: there is no class, or a name has no token.
    """
    lengths = [len(ids) for ids in token_ids]
    if not lengths or min(lengths) == 0:
        raise InvalidInput("A class has no token in its name", remedy="Give each class a name that is not empty.")
    flat = torch.tensor([token for ids in token_ids for token in ids], device=embeddings.device)
    owner = torch.repeat_interleave(torch.tensor(lengths, device=embeddings.device))  # (tokens,)
    sums = embeddings.new_zeros(len(lengths), embeddings.shape[1]).index_add_(0, owner, embeddings[flat])  # (A, C)
    return sums / torch.tensor(lengths, device=embeddings.device, dtype=embeddings.dtype)[:, None]


def video_tokens(
    cell_logits: torch.Tensor,
    class_embeddings: torch.Tensor,
    *,
    grid: int | None = None,
    top_k: int | None = None,
    temperature: float = 1.0,
    norm: float | None = None,
) -> torch.Tensor:
    """A video token for each cell: the probability-weighted mean of the class embeddings.

    Args:
        cell_logits: class scores at each cell, `(T, A, H, W)`.
        class_embeddings: `(A, C)`.
        grid: average the scores to this many cells a side first; 1 gives the classifier's own verdict on the frame.
            `None` keeps `H × W`.
        top_k: keep only the likeliest classes of each cell, the probabilities scaled to sum to 1; `None` keeps all.
        temperature: divides the scores; below 1 it sharpens.
        norm: scale each token to this length; `None` leaves it. A mean is shorter than what it averages.

    Returns:
        `(T, H, W, C)`, or `(T, grid, grid, C)`, with the dtype of `class_embeddings`.

    Raises:
        InvalidInput: a shape or an option cannot be used.
    """
    classes = class_embeddings.shape[0]
    if cell_logits.ndim != 4 or cell_logits.shape[1] != classes:
        raise InvalidInput(
            f"cell_logits has the shape {tuple(cell_logits.shape)}", remedy=f"Give (T, {classes}, H, W)."
        )
    if temperature <= 0.0:
        raise InvalidInput(f"temperature is {temperature}", remedy="Give a number above 0.")
    if top_k is not None and not 1 <= top_k <= classes:
        raise InvalidInput(f"top_k is {top_k}", remedy=f"Give a whole number from 1 to {classes}, or None.")
    if grid is not None:
        if not 1 <= grid <= min(cell_logits.shape[2:]):
            raise InvalidInput(f"grid is {grid}", remedy=f"Give 1 to {min(cell_logits.shape[2:])}, or None.")
        cell_logits = F.adaptive_avg_pool2d(cell_logits, grid)  # (T, A, grid, grid)
    scores = cell_logits.permute(0, 2, 3, 1).to(class_embeddings.dtype) / temperature  # (T, H, W, A)
    if top_k is None:
        tokens = scores.softmax(-1) @ class_embeddings  # (T, H, W, C)
    else:
        best, index = scores.topk(top_k, dim=-1)  # (T, H, W, top_k)
        tokens = torch.einsum("thwk,thwkc->thwc", best.softmax(-1), class_embeddings[index])
    return tokens if norm is None else F.normalize(tokens, dim=-1) * norm


def likeliest_classes(logits: torch.Tensor, *, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes that a whole frame most likely shows.

    Args:
        logits: class scores of whole frames, `(T, A)`.
        count: how many to give.

    Returns:
        Class numbers `(T, count)` int64 and their probabilities `(T, count)`, likeliest first, ties by lower number.

    Raises:
        InvalidInput: `count` is not from 1 to A.
    """
    if not 1 <= count <= logits.shape[-1]:
        raise InvalidInput(f"count is {count}", remedy=f"Give a whole number from 1 to {logits.shape[-1]}.")
    probabilities, index = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    return index[..., :count], probabilities[..., :count]
