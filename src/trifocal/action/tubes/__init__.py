"""From single moments to tubes: detections, and the linkers that follow an actor through them."""

from __future__ import annotations

from trifocal.action.tubes.detections import FrameDetections, pairwise_iou, without_repeats
from trifocal.action.tubes.linking import LinkConfig, OnlineLinker, Track, link

__all__ = ["FrameDetections", "LinkConfig", "OnlineLinker", "Track", "link", "pairwise_iou", "without_repeats"]
