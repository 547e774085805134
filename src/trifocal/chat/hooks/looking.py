"""What the last token of a prompt looks at in one layer, for methods that choose by the question (FastV).

Fast attention kernels do not give their weights, and switching the model to slow attention would change it for
everybody. So the one row that matters is computed beside the model: the last token of each row goes through the layer's
attention a second time, in a shallow copy of the module that is set to eager attention, against the keys that the layer
has made anyway. That costs one token's projections and one row of weights, not a table of all pairs.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LastTokenProbe"]

Keep = Callable[[int], "torch.Tensor | None"]


class LastTokenProbe:
    """Watches one layer's attention for the thread that asks, and leaves the model as it is.

    Args:
        attention: the self-attention module of the layer.
    """

    def __init__(self, attention: nn.Module) -> None:
        self._here = threading.local()
        self._handles = [
            attention.register_forward_pre_hook(self._enter, with_kwargs=True),
            attention.register_forward_hook(self._leave, with_kwargs=True),
        ]

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def ask(self, keep: Keep | None) -> None:
        """Look at this thread's next pass through the layer, or at none.

        Args:
            keep: gives for a number of keys which are no padding, `(B, keys)` bool, or None for all.
        """
        self._here.__dict__.update(keep=keep, found=None)

    def take(self) -> torch.Tensor | None:
        """What the last token of each row looked at, `(B, S)` float32, averaged over heads; None if not asked for."""
        found: torch.Tensor | None = self._here.__dict__.pop("found", None)
        return found

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _enter(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if getattr(self._here, "keep", None) is None or kwargs.get("past_key_values") is not None:
            return None
        return args, {**kwargs, "past_key_values": _Held()}  # nobody keeps the keys, so they are noted here

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        keep: Keep | None = getattr(self._here, "keep", None)
        if keep is None:
            return
        self._here.keep = None
        cache = kwargs["past_key_values"]
        held: Any = cache if isinstance(cache, _Held) else cache.layers[module.layer_idx]
        given = {**kwargs, "hidden_states": args[0]} if args else kwargs
        with torch.no_grad():
            self._here.found = _last_row(module, given, held.keys, held.values, keep(held.keys.shape[-2]))


def _last_row(
    module: nn.Module, kwargs: dict[str, Any], keys: torch.Tensor, values: torch.Tensor, keep: torch.Tensor | None
) -> torch.Tensor:
    """The weights of each row's last token that is no padding, on the places of this call, `(B, S)`."""
    eager: Any = copy.copy(module)
    config: Any = copy.copy(module.config)
    config._attn_implementation = "eager"  # noqa: SLF001  (the one switch that transformers has)
    eager.__dict__["config"] = config
    states = kwargs["hidden_states"]
    batch, length = states.shape[:2]
    row = torch.arange(batch, device=states.device)
    last = torch.full_like(row, length - 1)
    mask = None
    if keep is not None:
        keep = keep.to(states.device)
        # Rows may be padded at the right: then the last token stands before the last place.
        last = last - keep[:, -length:].flip(1).int().argmax(1)
        mask = torch.zeros(keep.shape, dtype=states.dtype, device=states.device)
        mask = mask.masked_fill(~keep, torch.finfo(states.dtype).min)[:, None, None]
    rotation = tuple(
        part.expand(batch, *part.shape[1:])[row, last][:, None]  # (B, 1, D)
        for part in kwargs["position_embeddings"]
    )
    given = {
        **kwargs,
        "hidden_states": states[row, last][:, None],
        "position_embeddings": rotation,
        "attention_mask": mask,
        "past_key_values": _Held(keys, values),
    }
    weights: torch.Tensor = eager.forward(**given)[1]  # (B, heads, 1, keys)
    return weights[:, :, 0, -length:].float().mean(1)


class _Held:
    """As much of a cache as attention asks for: it keeps the first keys and values that come, and gives those."""

    def __init__(self, keys: torch.Tensor | None = None, values: torch.Tensor | None = None) -> None:
        self.keys, self.values = keys, values

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The ones held."""
        if self.keys is None or self.values is None:
            self.keys, self.values = keys, values
        return self.keys, self.values
