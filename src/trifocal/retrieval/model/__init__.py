"""The trained retriever: its configuration and presets, its batches, and the model.

In order of reading: `config` and `presets`, `batch`, `windows` (clip tokens by prefix sums), `encoders`, `tokens`, the
generators (`attention`, the paper's; `merged`; `coverage`), `heads` (training only), `network`, `timing` (where a
prototype looks), `retriever` (the network in use), `closed_form` (a start without steps), `saving`.
"""

from __future__ import annotations

from trifocal.retrieval.model.batch import RetrievalBatch, clip_edges, uniform_clips
from trifocal.retrieval.model.closed_form import closed_form_start, query_by_last_word
from trifocal.retrieval.model.config import RetrieverConfig
from trifocal.retrieval.model.presets import PRESET_RECIPES, PRESETS, Recipe, preset
from trifocal.retrieval.model.retriever import EncodedVideos, PrototypeRetriever, RetrieverOutput
from trifocal.retrieval.model.windows import span_means, window_spans

__all__ = [
    "PRESETS",
    "PRESET_RECIPES",
    "EncodedVideos",
    "PrototypeRetriever",
    "Recipe",
    "RetrievalBatch",
    "RetrieverConfig",
    "RetrieverOutput",
    "clip_edges",
    "closed_form_start",
    "preset",
    "query_by_last_word",
    "span_means",
    "uniform_clips",
    "window_spans",
]
