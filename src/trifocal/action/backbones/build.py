"""From a configuration to a body and a neck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trifocal.action.backbones.csn import CsnBody, ProjectedLevels
from trifocal.action.backbones.image2d import ImageBody, TemporalNeck
from trifocal.action.backbones.vit import SpatialPyramid, VitBody
from trifocal.action.config import CsnConfig, DetectorConfig, VitConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_backbone"]


def build_backbone(config: DetectorConfig) -> tuple[nn.Module, nn.Module]:
    """The body and the neck that `config.backbone` names, with random weights."""
    backbone, width = config.backbone, config.width
    if isinstance(backbone, VitConfig):
        return VitBody(backbone, frames=config.frames), SpatialPyramid(backbone.width, width)
    if isinstance(backbone, CsnConfig):
        return CsnBody(backbone), ProjectedLevels(width)
    return ImageBody(backbone), TemporalNeck(backbone, width)
