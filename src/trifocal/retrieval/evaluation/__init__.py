"""Measuring retrieval: recall and SumR, groups, moments, bytes and milliseconds.

In order of reading: `metrics` (the figures), `run` (from a data set to figures), `report` (what comes of it).
"""

from __future__ import annotations

from trifocal.retrieval.evaluation.metrics import (
    MomentScores,
    RankScores,
    moment_scores,
    moment_share,
    rank_scores,
    ranks_of,
)
from trifocal.retrieval.evaluation.report import FindReport, SearchTime, plot
from trifocal.retrieval.evaluation.run import Corpus, Retriever, Untrained, encode_corpus, evaluate

__all__ = [
    "Corpus",
    "FindReport",
    "MomentScores",
    "RankScores",
    "Retriever",
    "SearchTime",
    "Untrained",
    "encode_corpus",
    "evaluate",
    "moment_scores",
    "moment_share",
    "plot",
    "rank_scores",
    "ranks_of",
]
