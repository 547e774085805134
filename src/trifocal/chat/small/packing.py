"""Many questions about one video in a single forward pass: stretches of prompt in a tree.

A stretch sees itself up to each position, and the stretches it follows on; stretches that follow on the same one do
not see each other, and count their positions from where that one ends. So a video stands in the pass once, each
question follows on it, and each possible answer follows on its question. The results are those of separate passes (a
test holds them equal), at a fraction of the cost; training and the scoring of choices both use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from trifocal.chat.prefix.entry import PrefixEntry

__all__ = ["Stretch", "last_states", "score"]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A piece of prompt.

    Args:
        embeddings: `(N, C)`, N at least 1.
        after: number of the stretch it follows on, lower than its own; -1 for none.
        targets: for a stretch that is scored, its tokens, `(N,)` int64; `None` for others. The first is predicted from
            the last position of the stretch before.
    """

    embeddings: torch.Tensor
    after: int = -1
    targets: torch.Tensor | None = None


def last_states(
    model: LlamaForCausalLM, stretches: Sequence[Stretch], *, behind: PrefixEntry | None = None
) -> list[torch.Tensor]:
    """Run stretches through the model.

    Args:
        model: llama-shaped.
        stretches: each after the one it follows on.
        behind: a prefix that the model has read already, which every stretch sees; it stays as it is.

    Returns:
        The last hidden states `(N, C)` of each.

    Raises:
        InvalidInput: a stretch is empty or follows on one that is not before it.
    """
    lengths = [len(stretch.embeddings) for stretch in stretches]
    for number, stretch in enumerate(stretches):
        if not -1 <= stretch.after < number or not lengths[number]:
            raise InvalidInput(
                f"Stretch {number} has {lengths[number]} tokens and follows on {stretch.after}",
                remedy="Give stretches that are not empty, each after the one it follows on.",
            )
    device = stretches[0].embeddings.device
    # Which stretches a stretch sees whole, and where it begins.
    seen = torch.zeros(len(stretches), len(stretches), dtype=torch.bool)
    starts = [0] * len(stretches)
    for number, stretch in enumerate(stretches):
        if stretch.after >= 0:
            seen[number] = seen[stretch.after]
            seen[number, stretch.after] = True
            starts[number] = starts[stretch.after] + lengths[stretch.after]
    of = torch.repeat_interleave(torch.arange(len(stretches)), torch.tensor(lengths))  # (S,)
    positions = torch.cat([torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
    mask = seen[of][:, of] | ((of[:, None] == of) & (positions[:, None] >= positions))  # (S, S)
    allowed: torch.Tensor = mask[None, None].to(device)
    if behind is not None:
        positions = positions + behind.length
        allowed = F.pad(allowed, (behind.length, 0), value=True)  # (1, 1, S, prefix + S)
    embeddings = torch.cat([stretch.embeddings for stretch in stretches])[None]  # (1, S, C)
    if model.config._attn_implementation == "eager":  # noqa: SLF001  the only place where it is written
        allowed = torch.zeros_like(allowed, dtype=embeddings.dtype).masked_fill(~allowed, float("-inf"))
    output = model.model(
        inputs_embeds=embeddings,
        attention_mask=allowed,
        position_ids=positions[None].to(device),
        past_key_values=None if behind is None else behind.fork(),
        use_cache=behind is not None,
    )
    states: torch.Tensor = output.last_hidden_state[0]  # (S, C)
    return list(torch.split(states, lengths))


def score(
    model: LlamaForCausalLM, stretches: Sequence[Stretch], *, behind: PrefixEntry | None = None
) -> list[torch.Tensor]:
    """The log-probability of each token of the stretches that have targets.

    Args:
        model: llama-shaped.
        stretches: those with targets follow on another.
        behind: see `last_states`.

    Returns:
        `(N,)` float32 for each stretch that has targets, in their order.

    Raises:
        InvalidInput: see `last_states`; or a stretch to be scored follows on none.
    """
    states = last_states(model, stretches, behind=behind)
    before, targets, lengths = [], [], []
    for number, stretch in enumerate(stretches):
        if stretch.targets is None:
            continue
        if stretch.after < 0:
            raise InvalidInput(f"Stretch {number} is to be scored and follows on none", remedy="Put a prompt first.")
        before += [states[stretch.after][-1:], states[number][:-1]]
        targets.append(stretch.targets)
        lengths.append(len(stretch.targets))
    if not targets:
        return []
    logits = model.lm_head(torch.cat(before)).float()  # (answers' tokens, V)
    flat = -F.cross_entropy(logits, torch.cat(targets).to(logits.device), reduction="none")
    return list(torch.split(flat, lengths))
