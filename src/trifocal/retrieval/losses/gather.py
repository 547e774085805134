"""Rows of all processes of a run at each of them, with gradients: so that negatives are those of the whole batch.

Every process then computes the same loss of all rows. The gradient of its own rows is the sum over the processes of
what each says about them, weighed as each weighs its loss. Averaged over the processes afterwards, as gradient exchange
does, the weights' gradients are those of one process with the whole batch. (torch's own differentiable gather is
deprecated in `torch.distributed.nn` and private elsewhere.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gather_rows"]


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of every process, one process after the other; all processes of torch's default group must call it.

    Args:
        rows: (n, ...), any dtype; n may differ between processes and may be 0, the rest may not.

    Returns:
        (sum of n, ...), and how many rows there are before this process's own.
    """
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    sizes: list[int] = torch.cat(counts).tolist()
    before = sum(sizes[: dist.get_rank()])
    return torch.as_tensor(_Gather.apply(rows, sizes, before)), before  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """All rows forward; backward the sum over the processes of what each says about this one's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int], before: int) -> Tensor:
        ctx.own = slice(before, before + len(rows))
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # collectives want the same shape of all
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own], None, None
