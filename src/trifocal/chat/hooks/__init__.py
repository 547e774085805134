"""How merging is attached to a model of transformers, from the inside out.

`spans` (where a video is), `shorten` (hidden states), `positions`, `cache` (the memory in the cache), `run` (one
forward call), `attach` (the forward pre-hooks). `trifocal.chat.accelerate` is the way in.
"""

from __future__ import annotations

from trifocal.chat.hooks.cache import MergedLayer, Record, fork, merged_layer, merged_state, restore_merged
from trifocal.chat.hooks.positions import Positions
from trifocal.chat.hooks.run import Usage
from trifocal.chat.hooks.shorten import MergedVideo
from trifocal.chat.hooks.spans import Call, VideoSpan

__all__ = [
    "Call",
    "MergedLayer",
    "MergedVideo",
    "Positions",
    "Record",
    "Usage",
    "VideoSpan",
    "fork",
    "merged_layer",
    "merged_state",
    "restore_merged",
]
