"""Indexes: prototypes of many videos on disk, changed in whole steps and searched.

In order of reading: `interface` (what every engine offers, facts and filters), `exact` (the default engine) over
`snapshot`, `changes`, `segment`, `codes` and `files`, `store` (LanceDB, for collections too large for that) over
`store_view`, `candidates` and `rows`, `combine` (several queries as one).
"""

from __future__ import annotations

from trifocal.retrieval.index.combine import combine_queries
from trifocal.retrieval.index.exact import ExactIndex
from trifocal.retrieval.index.interface import IndexItem, PrototypeIndex, VideoFacts, VideoFilter
from trifocal.retrieval.index.store import StoreIndex

__all__ = ["ExactIndex", "IndexItem", "PrototypeIndex", "StoreIndex", "VideoFacts", "VideoFilter", "combine_queries"]
