"""Low-rank changes to a frozen language model: what is trained of it, and how that becomes part of its weights.

`W x` becomes `W x + up (down x) · scale` (Hu et al. 2021, arXiv 2106.09685), with `up` zero at the start. For use the
product is added to W once, so that an answer costs what it costs without. Thirty lines instead of a library, because
that library is needed to train only and what is shipped must load without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from trifocal.errors import InvalidInput, WeightsCorrupt

__all__ = ["LowRank", "attach", "fold", "low_rank_tensors"]


class LowRank(nn.Module):
    """A frozen linear layer with a low-rank change."""

    def __init__(self, base: nn.Linear, *, rank: int) -> None:
        """The change starts as nothing."""
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., inputs)` to `(..., outputs)`."""
        changed: torch.Tensor = self.base(x) + (x @ self.down.T) @ self.up.T
        return changed


def attach(model: nn.Module, *, rank: int, names: tuple[str, ...]) -> dict[str, LowRank]:
    """Put a change on every linear layer whose last name is among `names`.

    Args:
        model: frozen.
        rank: of each change, at least 1.
        names: for example `("q_proj", "v_proj")`.

    Returns:
        The changes by the full name of their layer, in the model's order.

    Raises:
        InvalidInput: no layer has such a name, or the rank is below 1.
    """
    if rank < 1:
        raise InvalidInput(f"rank is {rank}", remedy="Give a whole number of at least 1.")
    found = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in names
    ]
    if not found:
        raise InvalidInput(f"No layer is named {', '.join(names)}", remedy="Name layers that the model has.")
    changes = {}
    for name, layer in found:
        parent, _, last = name.rpartition(".")
        changes[name] = LowRank(layer, rank=rank)
        setattr(model.get_submodule(parent), last, changes[name])
    return changes


def low_rank_tensors(changes: Mapping[str, LowRank]) -> dict[str, torch.Tensor]:
    """The trained tensors by name, as `fold` takes them."""
    return {
        f"{name}.{part}": getattr(change, part).detach() for name, change in changes.items() for part in ("down", "up")
    }


@torch.no_grad()
def fold(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Make changes part of the weights of a model that has none attached.

    Args:
        model: changed in place.
        tensors: from `low_rank_tensors`.

    Raises:
        WeightsCorrupt: a change belongs to no layer of the model, or its shape does not fit.
    """
    for name in sorted({key.rpartition(".")[0] for key in tensors}):
        try:
            weight = model.get_submodule(name).get_parameter("weight")
            weight.add_(tensors[f"{name}.up"].to(weight) @ tensors[f"{name}.down"].to(weight))
        except (AttributeError, KeyError, RuntimeError) as error:
            raise WeightsCorrupt(
                f"The trained change of {name} does not fit the language model ({error})",
                remedy="Use the weights with the language model that they were trained with.",
            ) from error
