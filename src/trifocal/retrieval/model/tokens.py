"""What the generators work on: a video's encoded clips and its tokens, the windows of clips (and frames, if asked).

A token knows which clips it covers (`spans`), so that attention over tokens can be read as attention over time. A mask
marks what is padding (only frames have any).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PrototypeSet", "VideoTokens"]


@dataclass(frozen=True, slots=True, eq=False)
class VideoTokens:
    """Tokens of B videos.

    Args:
        clips: (B, M, D), encoded clips.
        tokens: (B, V, D), windows of clips, then frames where they count as tokens.
        spans: float (B, V, 2) or (V, 2), start and end of each token in clips.
        mask: bool (B, V), False for padding; None where there is none.
    """

    clips: Tensor
    tokens: Tensor
    spans: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeSet:
    """Prototypes of B videos.

    Args:
        vectors: (B, K, D), of any length.
        attention: (B, K, V), what each takes from each token, rows of sum 1; None where a prototype *is* its span.
        spans: float (B, K, 2), start and end of each in clips, where a prototype is a span; else None.
    """

    vectors: Tensor
    attention: Tensor | None = None
    spans: Tensor | None = None
