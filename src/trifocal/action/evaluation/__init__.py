"""How good detections are: frame-mAP, video-mAP, diagnosis, tables and plots.

`tables` holds truth and detections as arrays, `sampling` reads tubes off at labelled frames, `linking` makes tubes of
single frames; `frame_map` and `video_map` measure, `multisports` and `reference_video_map` measure by others' rules;
`diagnosis` says what goes wrong; `report` does all of it.
"""

from __future__ import annotations

from trifocal.action.evaluation.class_tubes import ClassTube, split_tubes, truth_tubes
from trifocal.action.evaluation.diagnosis import Oracles, error_kinds, oracles
from trifocal.action.evaluation.frame_map import FrameScores, frame_map
from trifocal.action.evaluation.linking import link_classes
from trifocal.action.evaluation.report import Evaluation, evaluate, save_plot
from trifocal.action.evaluation.tables import Detections, FrameTruth
from trifocal.action.evaluation.video_map import VideoScores, video_map

__all__ = [
    "ClassTube",
    "Detections",
    "Evaluation",
    "FrameScores",
    "FrameTruth",
    "Oracles",
    "VideoScores",
    "error_kinds",
    "evaluate",
    "frame_map",
    "link_classes",
    "oracles",
    "save_plot",
    "split_tubes",
    "truth_tubes",
    "video_map",
]
