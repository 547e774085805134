"""What a detector gives, and what it can be asked to give besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NO_OBJECT", "PERSON", "AttentionRequest", "DetectorOutput", "LayerOutput"]

PERSON, NO_OBJECT = 1, 2
"""What the numbers of `person_logits` mean; number 0 is unused, as published."""


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """What one decoder layer says. In keyframe mode there is no T.

    Args:
        class_logits: (B, [T,] Q, A).
        boxes_cxcywh: (B, [T,] Q, 4), shares of the clip's own size without padding, 0 to 1.
        person_logits: (B, [T,] Q, 3): unused, person, nobody; for softmax.
    """

    class_logits: Tensor
    boxes_cxcywh: Tensor
    person_logits: Tensor


@dataclass(frozen=True, slots=True)
class DetectorOutput(LayerOutput):
    """What the last decoder layer says.

    Args:
        class_logits: as of a layer; minus infinity for actors left out by `keep_above`.
        boxes_cxcywh: as of a layer.
        person_logits: as of a layer.
        aux_outputs: the earlier layers, first to last but one; empty unless asked for (always there in training).
        attention: per layer asked for, maps (B, [T,] Q, A, H, W) that each sum to 1, or (B, [T,] Q, M, A, H, W) of
            single heads; zero for actors left out.
    """

    aux_outputs: tuple[LayerOutput, ...] = ()
    attention: tuple[Tensor, ...] = ()

    @property
    def person_scores(self) -> Tensor:
        """(B, [T,] Q): how sure it is that the actor is somebody."""
        return self.person_logits.softmax(-1)[..., PERSON]

    @property
    def class_scores(self) -> Tensor:
        """(B, [T,] Q, A): the chance of each class, by itself."""
        return self.class_logits.sigmoid()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRequest:
    """Which attention maps to give.

    Args:
        layers: decoder layers; negative ones count from the last.
        heads: "content" averages the heads that tell classes apart, "all" averages all heads (what the published code
            shows: half of it is the actor's position), "each" gives every head.
    """

    layers: tuple[int, ...] = (-1,)
    heads: Literal["content", "all", "each"] = "content"

    def __post_init__(self) -> None:
        """Check the names."""
        if self.heads not in ("content", "all", "each"):
            raise InvalidInput(f"heads is {self.heads!r}", remedy='Give "content", "all" or "each".')

    def numbers(self, count: int) -> tuple[int, ...]:
        """The layers as numbers from 0.

        Raises:
            InvalidInput: a model of `count` layers has no such layer.
        """
        for layer in self.layers:
            if not -count <= layer < count:
                raise InvalidInput(f"attention of layer {layer}", remedy=f"Give {-count} to {count - 1}.")
        return tuple(layer % count for layer in self.layers)
