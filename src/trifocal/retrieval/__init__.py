"""FIND: frames and words in one space, prototypes of videos, and the exact search over them.

In order of reading: `encoder` (the interface and the names), `semantic`, `dual` and `precomputed` (the three kinds),
`prototypes` (a video as a few vectors with their times), `index` and `index_files` (many videos on disk), `moment`
(what a search gives). Importing this package brings in neither torch nor transformers.
"""

from __future__ import annotations

from trifocal.retrieval.dual import DualFrameTextEncoder
from trifocal.retrieval.encoder import FrameTextEncoder, load_encoder
from trifocal.retrieval.index import ExactIndex
from trifocal.retrieval.moment import Moment, pick_moments
from trifocal.retrieval.precomputed import FeatureSequence, PrecomputedFeatures
from trifocal.retrieval.prototypes import Prototypes, build_prototypes, similarity
from trifocal.retrieval.semantic import SemanticConfig, SemanticEncoder

__all__ = [
    "DualFrameTextEncoder",
    "ExactIndex",
    "FeatureSequence",
    "FrameTextEncoder",
    "Moment",
    "PrecomputedFeatures",
    "Prototypes",
    "SemanticConfig",
    "SemanticEncoder",
    "build_prototypes",
    "load_encoder",
    "pick_moments",
    "similarity",
]
