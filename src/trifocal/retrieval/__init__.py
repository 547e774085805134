"""FIND: frames and words in one space, prototypes of videos, and the exact search over them.

In order of reading: `encoder` (the interface and the names), `semantic`, `dual` and `precomputed` (the three kinds),
`prototypes` (a video as a few vectors with their times), `index/` (many videos on disk), `moment` (what a search
gives). Importing this package brings in neither torch nor transformers.
"""

from __future__ import annotations

from trifocal.retrieval.dual import DualFrameTextEncoder
from trifocal.retrieval.encoder import DocumentEncoder, FrameTextEncoder, load_encoder
from trifocal.retrieval.index import (
    ExactIndex,
    IndexItem,
    PrototypeIndex,
    StoreIndex,
    VideoFacts,
    VideoFilter,
    combine_queries,
)
from trifocal.retrieval.moment import Moment, pick_moments, scan_moments, temporal_nms
from trifocal.retrieval.precomputed import FeatureSequence, PrecomputedFeatures
from trifocal.retrieval.prototypes import Prototypes, build_prototypes, similarity
from trifocal.retrieval.semantic import SemanticConfig, SemanticEncoder
from trifocal.retrieval.tokens import ClipTokens
from trifocal.retrieval.trained import TrainedEncoder

__all__ = [
    "ClipTokens",
    "DocumentEncoder",
    "DualFrameTextEncoder",
    "ExactIndex",
    "FeatureSequence",
    "FrameTextEncoder",
    "IndexItem",
    "Moment",
    "PrecomputedFeatures",
    "PrototypeIndex",
    "Prototypes",
    "SemanticConfig",
    "SemanticEncoder",
    "StoreIndex",
    "TrainedEncoder",
    "VideoFacts",
    "VideoFilter",
    "build_prototypes",
    "combine_queries",
    "load_encoder",
    "pick_moments",
    "scan_moments",
    "similarity",
    "temporal_nms",
]
