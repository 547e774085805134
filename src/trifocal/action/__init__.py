"""DETECT: who does what, where and when, with one query and one attention map for every action class.

The model of "Classification Matters" (ECCV 2024, arXiv 2407.19698), written from its specification. In order of
reading: `config`, `backbones`, `deformable` and `encoder`, `resample`, `localize`, `classify`, `decoder`, `detector`
and `output`; `reference` speaks the published names. In use: `model` (network, names, rate), `watch` (moments of any
length of video), `tubes` (linking), `detect` (all of it), `render`, `heatmaps` and `webvtt` (to look at).
"""

from __future__ import annotations

from trifocal.action.adapters import to_supervision
from trifocal.action.config import PRESETS, CsnConfig, DetectorConfig, ImageConfig, VitConfig, preset
from trifocal.action.detect import DetectConfig, DetectReport, detect
from trifocal.action.detector import Detector, pad_clips
from trifocal.action.heatmaps import heat
from trifocal.action.model import ActionModel, load_action_model
from trifocal.action.output import AttentionRequest, DetectorOutput, LayerOutput
from trifocal.action.render import annotated, draw_actors, overlay
from trifocal.action.tube import Tube
from trifocal.action.tube_files import tubes_as_labels, write_tubes
from trifocal.action.tubes import FrameDetections, LinkConfig, OnlineLinker, Track, link
from trifocal.action.watch import WatchConfig, watch
from trifocal.action.webvtt import action_spans, write_webvtt

__all__ = [
    "PRESETS",
    "ActionModel",
    "AttentionRequest",
    "CsnConfig",
    "DetectConfig",
    "DetectReport",
    "Detector",
    "DetectorConfig",
    "DetectorOutput",
    "FrameDetections",
    "ImageConfig",
    "LayerOutput",
    "LinkConfig",
    "OnlineLinker",
    "Track",
    "Tube",
    "VitConfig",
    "WatchConfig",
    "action_spans",
    "annotated",
    "detect",
    "draw_actors",
    "heat",
    "link",
    "load_action_model",
    "overlay",
    "pad_clips",
    "preset",
    "to_supervision",
    "tubes_as_labels",
    "watch",
    "write_tubes",
    "write_webvtt",
]
