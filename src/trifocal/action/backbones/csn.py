"""ir-CSN, the interaction-reduced channel-separated network (arXiv 1904.02811), and the projection of its stages.

Bottleneck blocks whose 3×3×3 convolution is depthwise. The last three stages are used; a fourth level is a strided
convolution of the last. While nothing trains, batch norms are folded into the convolutions on the way and blocks are
added in place, which takes half of the memory and time.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.backbones.pixels import normalize_clip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.config import CsnConfig

__all__ = ["STAGE_WIDTHS", "CsnBody", "ProjectedLevels"]

EPSILON = 1e-3
STAGE_WIDTHS = (256, 512, 1024, 2048)


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=EPSILON, momentum=0.1)


def _folded(conv: nn.Conv3d, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its norm inside."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale.view(-1, 1, 1, 1, 1), norm.bias - norm.running_mean * scale


class Bottleneck(nn.Module):
    """1×1×1, depthwise 3×3×3, 1×1×1, plus the input or its projection."""

    def __init__(self, inputs: int, outputs: int, *, stride: tuple[int, int, int], project: bool) -> None:
        super().__init__()
        inner = outputs // 4
        self.conv1 = nn.Conv3d(inputs, inner, 1, bias=False)
        self.bn1 = _norm(inner)
        self.conv3 = nn.Conv3d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn3 = _norm(inner)
        self.conv4 = nn.Conv3d(inner, outputs, 1, bias=False)
        self.bn4 = _norm(outputs)
        self.shortcut = (
            nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), _norm(outputs)) if project else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, C', T', H', W'); `x` may be overwritten while gradients are off and nothing trains."""
        if not self.training and not torch.is_grad_enabled() and not torch.compiler.is_exporting():
            return self._lean(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn3(self.conv3(y)))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.bn4(self.conv4(y)) + shortcut)

    def _lean(self, x: Tensor) -> Tensor:
        """The same with folded norms, channels last, and the sum written over the input where it fits."""
        channels_last = x.permute(0, 2, 3, 4, 1).contiguous()  # (B, T, H, W, C)
        weight, bias = _folded(self.conv1, self.bn1)
        y = F.linear(channels_last, weight.flatten(1), bias).relu_()
        weight, bias = _folded(self.conv3, self.bn3)
        y = _depthwise(y, weight, bias, stride=cast("tuple[int, int, int]", self.conv3.stride)).relu_()
        weight, bias = _folded(self.conv4, self.bn4)
        weight = weight.flatten(1)
        if self.shortcut is None:
            out = channels_last
        else:
            conv, norm = cast("nn.Conv3d", self.shortcut[0]), cast("nn.BatchNorm3d", self.shortcut[1])
            t, h, w = cast("tuple[int, int, int]", conv.stride)
            project, offset = _folded(conv, norm)
            out = F.linear(channels_last[:, ::t, ::h, ::w], project.flatten(1), offset)
            del channels_last, x
        flat = out.flatten(0, 3)
        # Autocast leaves what writes in place alone.
        flat.addmm_(y.flatten(0, 3).to(flat.dtype), weight.t().to(flat.dtype)).add_(bias).relu_()
        return out.permute(0, 4, 1, 2, 3)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor, *, stride: tuple[int, int, int]) -> Tensor:
    """Depthwise 3×3×3 convolution of (B, T, H, W, C), as three 2-D ones per frame: a CPU has fast kernels for those."""
    frames = range(0, x.shape[1], stride[0])
    planes = x.permute(0, 1, 4, 2, 3)  # (B, T, C, H, W), channels last in memory
    out = []
    for frame in frames:
        total: Tensor | None = None
        for tap in range(3):
            source = frame + tap - 1
            if not 0 <= source < x.shape[1]:
                continue
            part = F.conv2d(
                planes[:, source],
                weight[:, :, tap],
                bias if total is None else None,
                stride=stride[1:],
                padding=1,
                groups=len(weight),
            )
            total = part if total is None else total.add_(part)
        assert total is not None
        out.append(total.permute(0, 2, 3, 1))
    return torch.stack(out, 1)


class CsnBody(nn.Module):
    """The network: maps of its last three stages, at strides 8, 16 and 16 (32 with `last_stride`).

    Args:
        config: its depth.
    """

    per_frame = False
    preprocess = staticmethod(normalize_clip)

    def __init__(self, config: CsnConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = _norm(64)
        strides = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2) if config.last_stride else (2, 1, 1))
        stages, inputs = [], 64
        for blocks, outputs, stride in zip(config.blocks, STAGE_WIDTHS, strides, strict=True):
            stage = [
                Bottleneck(
                    inputs if number == 0 else outputs,
                    outputs,
                    stride=stride if number == 0 else (1, 1, 1),
                    project=number == 0,
                )
                for number in range(blocks)
            ]
            stages.append(nn.Sequential(*stage))
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, T, H, W) → (B, T', H', W', C): strides in time and space (2, 8), (4, 16), (8, 16)."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_exporting():
            x = F.relu(self.bn1(self.conv1(clips)))
        else:
            weight, bias = _folded(self.conv1, self.bn1)
            x = F.conv3d(
                clips, weight, bias, self.conv1.stride, cast("tuple[int, int, int]", self.conv1.padding)
            ).relu_()
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.permute(0, 2, 3, 4, 1))
        return tuple(maps[1:])


class ProjectedLevels(nn.Module):
    """Each stage to the model's width, normalised in groups; the fourth level halves the last stage once more.

    Args:
        width: D, a multiple of 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        plain = [nn.Conv3d(channels, width, 1) for channels in STAGE_WIDTHS[1:]]
        self.projections = nn.ModuleList([*plain, nn.Conv3d(STAGE_WIDTHS[-1], width, 3, (1, 2, 2), 1)])
        self.norms = nn.ModuleList(nn.GroupNorm(32, width) for _ in self.projections)
        for projection in self.projections:
            nn.init.xavier_uniform_(cast("nn.Conv3d", projection).weight)
            nn.init.zeros_(cast("Tensor", projection.bias))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Three maps (B, T, H, W, C) → four levels (B, T', H', W', D)."""
        levels = []
        for source, projection, norm in zip((*features, features[-1]), self.projections, self.norms, strict=True):
            level = norm(projection(source.permute(0, 4, 1, 2, 3)))
            levels.append(level.permute(0, 2, 3, 4, 1))
        return levels
