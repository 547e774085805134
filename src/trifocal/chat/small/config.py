"""How the small model looks at a video: its settings, and what it asks of a classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from trifocal.chat.decoding import Decoding
from trifocal.chat.prompt import PromptStyle
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from trifocal.merging import MergeConfig

__all__ = ["FrameNetwork", "SmallChatConfig"]


class FrameNetwork(Protocol):
    """An image classifier that can be applied at every cell of its feature map."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width that it is made for."""

    def preprocess(self, frames: NDArray[np.uint8], /) -> torch.Tensor:
        """`(T, H, W, 3)` uint8 to what `features` takes."""

    def features(self, images: torch.Tensor, /) -> torch.Tensor:
        """A feature map `(T, F, h, w)`."""

    def classify_cells(self, feature_map: torch.Tensor, /) -> torch.Tensor:
        """Class scores at each cell, `(T, A, h, w)`, whose mean over the cells is the verdict on the frame."""


@dataclass(frozen=True, slots=True)
class SmallChatConfig:
    """How the small model looks at a video.

    Args:
        frames: how many frames, evenly spaced.
        grid: cells a side that each frame is given as; 0 leaves the cells out.
        top_k: classes that are mixed in a cell's token; `None` mixes all. Without effect on trained weights, as are
            `temperature`, `frame_names` and, for the cells, `norm`.
        temperature: of a cell's class probabilities.
        frame_names: how many of a frame's likeliest classes are given as a token each.
        video_names: how many of the whole video's likeliest classes are given as a token each.
        norm: length of each token, as a multiple of the mean length of the vocabulary's embeddings; `None` leaves it.
        merge: how the cells' tokens are merged before the language model reads them; `None` keeps all.
        style: the words. Merged or trained tokens stand without a separator.
        decoding: how answers are written.
        evidence_layers: layers whose attention is read, as shares of the depth; see `trifocal.chat.attention`.
        batch_size: frames that go through the classifier at a time.
    """

    frames: int = 8
    grid: int = 1
    top_k: int | None = 3
    temperature: float = 1.0
    frame_names: int = 0
    video_names: int = 6
    norm: float | None = 1.0
    merge: MergeConfig | None = None
    style: PromptStyle = field(default_factory=PromptStyle)
    decoding: Decoding = field(default_factory=Decoding)
    evidence_layers: tuple[float, float] = (0.1, 0.33)
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least in (("frames", 1), ("batch_size", 1), ("grid", 0), ("frame_names", 0), ("video_names", 0)):
            if (value := getattr(self, name)) < least:
                raise InvalidInput(f"{name} is {value}", remedy=f"Give a whole number of at least {least}.")
        if self.grid == self.frame_names == self.video_names == 0:
            raise InvalidInput("grid, frame_names and video_names are all 0", remedy="Give the model something to see.")
        if self.merge is not None and (self.grid == 0 or self.frame_names):
            raise InvalidInput(
                f"tokens are to be merged, and grid is {self.grid} and frame_names {self.frame_names}",
                remedy="Merging works on cells: give a grid of at least 1, and no frame_names.",
            )
        first, last = self.evidence_layers
        if not 0.0 <= first < last <= 1.0:
            raise InvalidInput(
                f"evidence_layers is {self.evidence_layers}", remedy="Give two rising shares from 0 to 1."
            )
