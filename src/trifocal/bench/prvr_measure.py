"""What `bench.prvr` measures of one retriever: ranks, bytes, CPU milliseconds, and the figures of collapse."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.retrieval.collapse import collapse_figures
from trifocal.retrieval.data.batches import SplitBatches
from trifocal.retrieval.evaluation.metrics import moment_share, rank_scores, ranks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from trifocal.retrieval.data import Caption, RetrievalData
    from trifocal.retrieval.model import PrototypeRetriever

__all__ = ["measure"]

_AT_ONCE = 256


def measure(model: PrototypeRetriever, data: RetrievalData, *, split: str = "test") -> dict[str, Any]:
    """One row: ranks, bytes, CPU milliseconds, and the figures of collapse.

    Args:
        model: in whatever mode.
        data: with that split.
        split: whose videos compete.
    """
    part = SplitBatches(data, data.split(split), clips=model.config.clips, max_words=model.config.max_words)
    captions = [one for video in part.videos for one in part.captions[video]]
    owner = np.repeat(np.arange(len(part)), [len(part.captions[video]) for video in part.videos])
    clips = np.stack([part.clips(video) for video in part.videos])
    began = time.process_time()
    made = model.encode_clips(clips)
    video_ms = 1e3 * (time.process_time() - began) / len(clips)
    words = [part.words(one.id) for one in captions]
    queries = model.encode_query(words)
    vectors = made.vectors.astype(np.float32)  # (Nv, K, D)
    ranks, ties = [], []
    for start in range(0, len(queries), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        cosines = (queries[rows] @ vectors.reshape(-1, vectors.shape[2]).T).reshape(-1, *vectors.shape[:2])
        found, tied = ranks_of(cosines.max(axis=2), owner[rows])
        ranks.append(found)
        ties.append(tied)
    scored = rank_scores(np.concatenate(ranks), tied=np.concatenate(ties))
    figures = collapse_figures(queries, vectors, owner, attention=made.attention).to_dict()
    figures |= _looking(captions, queries, vectors, owner, peaks=made.peaks, durations_s=data.split(split).durations_s)
    return {
        "sum_r": round(scored.sum_r, 2),
        "recall": {str(k): round(value, 2) for k, value in scored.recall.items()},
        "tied": scored.tied,
        "videos": len(part),
        "queries": len(captions),
        "prototypes": int(vectors.shape[1]),
        "bytes_per_video": int(made.vectors[0].nbytes),
        "video_ms": round(video_ms, 2),
        **_query_ms(model, words, vectors),
        "parameters": model.parameters_in_use(),
        "collapse": figures,
    }


def _looking(
    captions: Sequence[Caption],
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    owner: NDArray[np.int64],
    *,
    peaks: NDArray[np.float32],
    durations_s: Mapping[str, float],
) -> dict[str, float | None]:
    """Share of queries whose winner looks into any window of the moment, and of peaks drawn evenly over the video.

    Counted over the captions that have a moment, in videos of known length; None where there are none.
    """
    inside, chance = [], []
    for place, one in enumerate(captions):
        if one.moments_s and one.video in durations_s:
            winner = (vectors[owner[place]] @ queries[place]).argmax()
            at_s = float(peaks[owner[place], winner]) * durations_s[one.video]
            inside.append(any(start <= at_s <= end for start, end in one.moments_s))
            chance.append(min(1.0, moment_share(one.moments_s, durations_s[one.video])))
    return {
        "peak_inside": float(np.mean(inside)) if inside else None,
        "peak_chance": float(np.mean(chance)) if chance else None,
    }


def _query_ms(
    model: PrototypeRetriever, words: Sequence[NDArray[np.float32]], vectors: NDArray[np.float32]
) -> dict[str, float]:
    """Medians over 20 single queries of encoding, and of scoring all videos."""
    flat = vectors.reshape(-1, vectors.shape[2])
    encode, search = [], []
    for one in words[:21]:
        t0 = time.process_time()
        query = model.encode_query([one])[0]
        t1 = time.process_time()
        scores = (flat @ query).reshape(vectors.shape[:2]).max(axis=1)
        np.argsort(-scores)[:10]
        encode.append(1e3 * (t1 - t0))
        search.append(1e3 * (time.process_time() - t1))
    return {"encode_ms": round(float(np.median(encode[1:])), 3), "search_ms": round(float(np.median(search[1:])), 3)}
