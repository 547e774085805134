"""DETECT: who does what, where and when, with one query and one attention map for every action class.

The model of "Classification Matters" (ECCV 2024, arXiv 2407.19698), written from its specification. In order of
reading: `config`, `backbones`, `deformable` and `encoder`, `resample`, `localize`, `classify`, `decoder`, `detector`
and `output`; `reference` speaks the published names.
"""

from __future__ import annotations

from trifocal.action.config import PRESETS, CsnConfig, DetectorConfig, ImageConfig, VitConfig, preset
from trifocal.action.detector import Detector, pad_clips
from trifocal.action.output import AttentionRequest, DetectorOutput, LayerOutput

__all__ = [
    "PRESETS",
    "AttentionRequest",
    "CsnConfig",
    "Detector",
    "DetectorConfig",
    "DetectorOutput",
    "ImageConfig",
    "LayerOutput",
    "VitConfig",
    "pad_clips",
    "preset",
]
