"""What is kept of a prefix: keys and values of every layer, and what their owner needs beside them.

Layers may be of unequal length: those above the layer where tokens are merged are shorter. An entry is never written
to once it is made. A question gets a `fork`: a cache of its own whose layers begin as the entry's tensors. Growing a
layer makes a new tensor, so a fork costs nothing until it is used and leaves the entry as it was, in every thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

__all__ = ["PrefixEntry"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrefixEntry:
    """A prefix that a model has read.

    Args:
        layers: for each layer its keys and values, each `(1, heads, S, D)`; S may differ from layer to layer.
        length: how many positions of the prompt it stands for; what follows continues from there.
        extra: other tensors of its owner.
        facts: other values of its owner, as JSON knows them.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    length: int
    extra: Mapping[str, torch.Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shapes."""
        if not self.layers:
            raise InvalidInput("The prefix has no layers", remedy="Give the keys and values of every layer.")
        for layer, (keys, values) in enumerate(self.layers):
            if keys.dim() != 4 or values.shape[:3] != keys.shape[:3] or keys.shape[0] != 1:
                raise InvalidInput(
                    f"layer {layer} has keys {tuple(keys.shape)} and values {tuple(values.shape)}",
                    remedy="Give (1, heads, S, D) for both.",
                )

    @classmethod
    def of(
        cls,
        cache: DynamicCache,
        *,
        length: int,
        extra: Mapping[str, torch.Tensor] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> PrefixEntry:
        """The entry that holds what is in a cache; the tensors are shared, not copied."""
        layers = []
        for number, layer in enumerate(cache.layers):
            if getattr(layer, "is_sliding", False):
                raise InvalidInput(
                    f"layer {number} keeps a sliding window only",
                    remedy="A prefix needs all keys: load the model without use_sliding_window.",
                )
            layers.append((layer.keys.detach(), layer.values.detach()))
        return cls(layers=tuple(layers), length=length, extra=dict(extra or {}), facts=dict(facts or {}))

    def __repr__(self) -> str:
        """Sizes, no values."""
        lengths = self.lengths
        span = f"{lengths[0]}" if len(set(lengths)) == 1 else f"{max(lengths)}…{min(lengths)}"
        return f"PrefixEntry({self.length} positions, {len(lengths)} layers of {span} tokens, {self.nbytes} bytes)"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens in each layer."""
        return tuple(keys.shape[2] for keys, _ in self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        pairs = sum(keys.nbytes + values.nbytes for keys, values in self.layers)
        return pairs + sum(tensor.nbytes for tensor in self.extra.values())

    def fork(self) -> DynamicCache:
        """A cache that begins with this prefix and may be grown freely; the entry stays as it is."""
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        cache = DynamicCache()
        for keys, values in self.layers:
            layer = DynamicLayer()
            layer.keys, layer.values = keys, values
            layer.dtype, layer.device = keys.dtype, keys.device
            layer.is_initialized = True
            cache.layers.append(layer)
        return cache

    def to(self, device: torch.device, *, layers: Sequence[torch.device]) -> PrefixEntry:
        """The same where a model needs it; itself where it is there already.

        Args:
            device: for the other tensors.
            layers: for the keys and values of each layer, as a model over several devices has them.
        """
        there = all(keys.device == place for (keys, _), place in zip(self.layers, layers, strict=True))
        if there and all(tensor.device == device for tensor in self.extra.values()):
            return self
        pairs = tuple(
            (keys.to(place), values.to(place)) for (keys, values), place in zip(self.layers, layers, strict=True)
        )
        extra = {name: tensor.to(device) for name, tensor in self.extra.items()}
        return replace(self, layers=pairs, extra=extra)
