"""From cells of frames to tokens of the language model: the trained counterpart of class-name mixtures.

A token is a linear function of its cell and of its whole frame, so that what a cell shows is said together with the
place that it is in. When and where the cell is comes in a second field, added only after tokens were
merged: two cells that look alike are then alike, whenever they are, and what is merged gets the mean of their places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trifocal.errors import InvalidInput

__all__ = ["Projector", "ProjectorConfig"]

WAVES = 6


@dataclass(frozen=True, slots=True)
class ProjectorConfig:
    """The sizes of a projector.

    Args:
        features: of the classifier at a cell.
        colours: of the histogram at a cell.
        width: of the language model.
    """

    features: int = 1280
    colours: int = 125
    width: int = 576

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least in (("features", 1), ("colours", 0), ("width", 1)):
            if (value := getattr(self, name)) < least:
                raise InvalidInput(f"{name} is {value}", remedy=f"Give a whole number of at least {least}.")

    @property
    def inputs(self) -> int:
        """What a token is computed from: the cell, and the mean features of its frame."""
        return 2 * self.features + self.colours


class Projector(nn.Module):
    """Cells to tokens.

    Attributes:
        centre: mean of each input over the training videos, `(inputs,)`.
        scale: what each input is multiplied by, `(inputs,)`.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: ProjectorConfig) -> None:
        """Without training it gives zeros."""
        super().__init__()
        self.config = config
        self.register_buffer("centre", torch.zeros(config.inputs))
        self.register_buffer("scale", torch.ones(config.inputs))
        self.linear = nn.Linear(config.inputs, config.width)
        self.place = nn.Linear(4 * WAVES + 2, config.width, bias=False)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.zeros_(self.place.weight)

    def inputs(self, cells: torch.Tensor) -> torch.Tensor:
        """What a token is computed from, centred and scaled: `(T, H, W, F + colours)` to `(T, H, W, inputs)`."""
        expected = self.config.features + self.config.colours
        if cells.ndim != 4 or cells.shape[-1] != expected or not cells.numel():
            raise InvalidInput(f"cells has shape {tuple(cells.shape)}", remedy=f"Give (T, H, W, {expected}).")
        cells = cells.to(self.centre)
        whole = cells[..., : self.config.features].mean(dim=(1, 2), keepdim=True)  # (T, 1, 1, F)
        return (torch.cat([cells, whole.expand(*cells.shape[:3], -1)], dim=-1) - self.centre) * self.scale

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """What is seen: `(T, H, W, F + colours)` to tokens `(T, H, W, C)`."""
        tokens: torch.Tensor = self.linear(self.inputs(cells))
        return tokens

    def places(self, times_s: Sequence[float], *, grid: tuple[int, int]) -> torch.Tensor:
        """When and where each cell is, to be added to its token.

        Args:
            times_s: when each frame is shown.
            grid: H and W.

        Returns:
            `(T, H, W, C)`.
        """
        times = torch.tensor(list(times_s), dtype=torch.float32, device=self.centre.device)
        share = times / times.max().clamp(min=1e-6)  # of the video, so that a long one looks like a short one
        waves = torch.arange(1, WAVES + 1, device=times.device) * math.pi
        when = torch.cat([(share[:, None] * waves).cos(), (share[:, None] * waves).sin()], dim=-1)  # (T, 2 WAVES)
        rows, columns = ((torch.arange(side, device=times.device) + 0.5) / side for side in grid)
        where = [(side[:, None] * waves).cos() for side in (rows, columns)]  # (H, WAVES), (W, WAVES)
        shape = (len(times), *grid, -1)
        parts = (
            when[:, None, None].expand(shape),
            where[0][None, :, None].expand(shape),
            where[1][None, None].expand(shape),
            share[:, None, None, None].expand(shape),
            (times / 60.0)[:, None, None, None].expand(shape),
        )
        placed: torch.Tensor = self.place(torch.cat(parts, dim=-1).to(self.place.weight.dtype))
        return placed
