"""Frozen networks that several lenses share.

`efficientnet_lite0` classifies frames and cells of frames, `imagenet_classes` names the classes, `sentence_encoder`
turns sentences into vectors, `dual_encoder` wraps any CLIP, SigLIP or SigLIP 2 checkpoint. All run in inference mode,
take a device and a dtype, and keep no global state; their weights come through `trifocal.weights`.
"""

from __future__ import annotations

from trifocal.backbones.dual_encoder import DualEncoder, load_dual_encoder
from trifocal.backbones.efficientnet_lite0 import EfficientNetLite0, load_efficientnet_lite0
from trifocal.backbones.imagenet_classes import ImageNetClass, load_class_names
from trifocal.backbones.sentence_encoder import SentenceEncoder, load_sentence_encoder

__all__ = [
    "DualEncoder",
    "EfficientNetLite0",
    "ImageNetClass",
    "SentenceEncoder",
    "load_class_names",
    "load_dual_encoder",
    "load_efficientnet_lite0",
    "load_sentence_encoder",
]
