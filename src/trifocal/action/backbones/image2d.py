"""A frozen image network, seen frame by frame, and small convolutions over time that join what it sees.

The cheap way to watch a clip on a CPU. A frame's maps depend on the frame alone, so windows that overlap share them,
and training can keep them instead of the pixels. The network is EfficientNet-Lite0 with its published ImageNet weights;
only the neck trains and only the neck is saved.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.backbones.pixels import normalize_clip
from trifocal.backbones.efficientnet_lite0 import PIXEL_MEAN, PIXEL_SCALE, EfficientNetLite0, load_efficientnet_lite0

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.config import ImageConfig

__all__ = ["STRIDE_CHANNELS", "ImageBody", "TemporalNeck"]

STRIDE_CHANNELS = {4: 24, 8: 40, 16: 112, 32: 320}
_LAST_BLOCK = {4: 3, 8: 5, 16: 11, 32: 16}
"""By stride: the number of the block after which its map is taken."""


class ImageBody(nn.Module):
    """EfficientNet-Lite0's maps at several strides, frozen; the weights are fetched when they are first needed.

    Args:
        config: which strides.
    """

    per_frame = True

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.strides = config.strides
        self._network: list[EfficientNetLite0] = []

    @staticmethod
    def preprocess(frames: Tensor) -> Tensor:
        """uint8 (T, H, W, 3) → float32 (3, T, H, W), about -1 to 1."""
        mean, scale = PIXEL_MEAN / 255, PIXEL_SCALE / 255
        return normalize_clip(frames, mean=(mean,) * 3, std=(scale,) * 3)

    def network(self, like: Tensor) -> EfficientNetLite0:
        """The network, on the device of `like`.

        Raises:
            WeightsUnavailable: its weights are neither cached nor to be had.
        """
        # In a list, so that it is no submodule: it is not saved, not trained, and not made before it is needed.
        if not self._network:
            self._network.append(load_efficientnet_lite0())
        return self._network[0].to(like.device)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, T, H, W) → a map (B, T, ceil(H / s), ceil(W / s), C) for each stride s."""
        network = self.network(clips)
        images = clips.transpose(1, 2).flatten(0, 1).to(memory_format=torch.channels_last)  # (B * T, 3, H, W)

        def see(x: Tensor) -> tuple[Tensor, ...]:
            x = network.stem(x)
            found = {}
            for number, block in enumerate(network.blocks.children(), 1):
                if number > _LAST_BLOCK[self.strides[-1]]:
                    break
                x = block(x)
                found[number] = x
            return tuple(found[_LAST_BLOCK[stride]] for stride in self.strides)

        with torch.no_grad():
            exporting = torch.compiler.is_exporting()
            parts = (
                [see(images)] if exporting or images.device.type != "cpu" else [see(image) for image in images.split(1)]
            )
        maps = [torch.cat(level) for level in zip(*parts, strict=True)]
        return tuple(level.permute(0, 2, 3, 1).unflatten(0, (len(clips), -1)) for level in maps)


class TemporalBlock(nn.Module):
    """Every channel over three frames, then channels with one another; plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.over_time = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), groups=width)
        self.mix = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, W, D) → (B, T, H, W, D)."""
        moved = self.over_time(self.norm(x).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        return x + cast("Tensor", self.mix(F.gelu(moved)))


class TemporalNeck(nn.Module):
    """Levels of one width out of the image network's maps, joined over time.

    Args:
        config: which strides, and how many blocks over time.
        width: D.
    """

    def __init__(self, config: ImageConfig, width: int) -> None:
        super().__init__()
        self.joined = config.temporal_stride
        self.projections = nn.ModuleList(
            nn.Linear(STRIDE_CHANNELS[stride] * self.joined, width) for stride in config.strides
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in config.strides)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(TemporalBlock(width) for _ in range(config.temporal_layers))) for _ in config.strides
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """A map (B, T, H', W', C) per stride → levels (B, T, H', W', D)."""
        levels = []
        for source, projection, norm, blocks in zip(features, self.projections, self.norms, self.blocks, strict=True):
            # Kept features may be stored in half precision; the neck's own decides.
            frames = source.to(cast("nn.Linear", projection).weight.dtype)
            frames = frames.unflatten(1, (-1, self.joined))  # (B, T', joined, H, W, C)
            levels.append(blocks(norm(projection(frames.movedim(2, 4).flatten(4)))))
        return levels
