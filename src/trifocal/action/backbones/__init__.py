"""The networks that look at the pixels, behind one adapter: a body and a neck.

A body turns clips (B, 3, T, H, W) into a tuple of maps (B, T', H', W', C); a neck turns those into the levels of the
detector, a list of (B, T', H', W', D), fine to coarse. A body has `preprocess`, which makes its input of uint8 frames,
and `per_frame`, true where a frame's maps do not depend on its neighbours, so that overlapping clips can share them.
"""

from __future__ import annotations

from trifocal.action.backbones.build import build_backbone

__all__ = ["build_backbone"]
