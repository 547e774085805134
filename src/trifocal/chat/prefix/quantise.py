"""Keys and values in eight bits: half the bytes of bfloat16, at an error of a fraction of a percent.

Keys have a few channels that are large at every position, so each channel gets its own scale; values do not, so each
token gets its own (KIVI, Liu et al. 2024, arXiv 2402.02750, found both; it goes to two bits, where this stays at eight
and needs no groups). Symmetric, rounded to the nearest, ties to even. What was quantised once is used from then on,
also by the question that was first, so an answer never depends on where its prefix came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from trifocal.chat.prefix.entry import PrefixEntry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QuantisedEntry", "dequantise", "quantise"]

_LARGEST = 127.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QuantisedEntry:
    """A prefix with int8 keys and values.

    Args:
        layers: for each layer int8 keys `(1, heads, S, D)`, their float32 scales `(1, heads, 1, D)`, int8 values, and
            their float32 scales `(1, heads, S, 1)`.
        dtype: what the keys and values were.
        length: see `PrefixEntry`.
        extra: see `PrefixEntry`; as they were.
        facts: see `PrefixEntry`.
    """

    layers: tuple[tuple[Tensor, Tensor, Tensor, Tensor], ...]
    dtype: torch.dtype
    length: int
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(part.nbytes for layer in self.layers for part in layer) + sum(x.nbytes for x in self.extra.values())


@torch.inference_mode()
def quantise(entry: PrefixEntry) -> QuantisedEntry:
    """Eight bits for each key and value."""
    layers = []
    for keys, values in entry.layers:
        codes, scale = _to_int8(keys, dim=2)
        value_codes, value_scale = _to_int8(values, dim=3)
        layers.append((codes, scale, value_codes, value_scale))
    return QuantisedEntry(
        layers=tuple(layers),
        dtype=entry.layers[0][0].dtype,
        length=entry.length,
        extra=entry.extra,
        facts=entry.facts,
    )


@torch.inference_mode()
def dequantise(entry: QuantisedEntry) -> PrefixEntry:
    """Keys and values in the type that they had."""
    return PrefixEntry(
        layers=tuple(
            ((keys * key_scale).to(entry.dtype), (values * value_scale).to(entry.dtype))
            for keys, key_scale, values, value_scale in entry.layers
        ),
        length=entry.length,
        extra=entry.extra,
        facts=entry.facts,
    )


def _to_int8(x: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    wide = x.float()
    scale = wide.abs().amax(dim=dim, keepdim=True) / _LARGEST
    # A channel that is all zero has codes of zero whatever it is divided by.
    codes = (wide / scale.clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(-_LARGEST, _LARGEST)
    return codes.to(torch.int8), scale
