"""Measure a retriever on a split: every video becomes prototypes once, every caption a query, and figures come of both.

A `Retriever` turns words into a query and a video's rows into prototypes. The trained model is one; `Untrained` is the
same without training, for features whose frames and texts share a space.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.features import FolderRows
from trifocal.retrieval.document import Document
from trifocal.retrieval.evaluation.metrics import (
    GROUPS,
    MomentScores,
    moment_scores,
    moment_share,
    rank_scores,
    ranks_of,
)
from trifocal.retrieval.evaluation.report import FindReport, SearchTime
from trifocal.retrieval.moment import pick_moments
from trifocal.retrieval.prototypes import Method, Prototypes, build_prototypes
from trifocal.retrieval.tokens import ClipTokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.data.captions import Caption, CaptionSet
    from trifocal.retrieval.data.collection import RetrievalData

__all__ = ["Corpus", "Retriever", "Untrained", "encode_corpus", "evaluate", "row_times"]

_ROWS = 512  # queries scored at a time


class Retriever(Protocol):
    """What is measured."""

    def encode_query(self, words: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Captions' words, each (L, d_t), to unit vectors float32 (N, D)."""
        ...

    def encode_video(self, features: NDArray[np.float32], *, times_s: NDArray[np.float64], end_s: float) -> Document:
        """A video's rows (T, d_v) at their times to all that is scored of it."""
        ...

    def encode_tokens(self, features: NDArray[np.float32], *, times_s: NDArray[np.float64], end_s: float) -> ClipTokens:
        """The same to clip tokens in the space of the queries, which moments are placed by once more."""
        ...


@dataclass(frozen=True, slots=True)
class Untrained:
    """Prototypes straight from frame features, and the last word (the whole sentence) as the query.

    Args:
        prototypes: K, at most so many a video.
        method: see `build_prototypes`.
    """

    prototypes: int = 32
    method: Method = "adjacent"

    def encode_query(self, words: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `Retriever`."""
        rows = np.stack([one[-1] for one in words])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return unit

    def encode_video(self, features: NDArray[np.float32], *, times_s: NDArray[np.float64], end_s: float) -> Document:
        """See `Retriever`."""
        return Document(build_prototypes(features, times_s=times_s, end_s=end_s, k=self.prototypes, method=self.method))

    def encode_tokens(self, features: NDArray[np.float32], *, times_s: NDArray[np.float64], end_s: float) -> ClipTokens:
        """See `Retriever`."""
        return ClipTokens.pack(features, times_s=times_s, end_s=end_s)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A split as vectors.

    Args:
        videos: ids.
        documents: of each.
        ends_s: where each ends.
        captions: in the order of the queries.
        queries: float32 (N, D).
        owner: int64 (N,), the place of each query's video.
        query_ms: milliseconds to encode one query, the median over single ones.
        video_ms: milliseconds to make one video's prototypes from its rows, the median.
    """

    videos: tuple[str, ...]
    documents: tuple[Document, ...]
    ends_s: tuple[float, ...]
    captions: tuple[Caption, ...]
    queries: NDArray[np.float32]
    owner: NDArray[np.int64]
    query_ms: float
    video_ms: float

    @property
    def prototypes(self) -> tuple[Prototypes, ...]:
        """Those of each video."""
        return tuple(one.prototypes for one in self.documents)


def encode_corpus(
    retriever: Retriever,
    data: RetrievalData,
    captions: CaptionSet,
    *,
    batch: int = 256,
    timed: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Encode all videos and captions of a split.

    Args:
        retriever: what encodes.
        data: where rows come from.
        captions: of the split.
        batch: captions at a time.
        timed: single queries that are timed; 0 for none.
        progress: told how many videos are done and how many there are.

    Raises:
        InvalidInput: no captions.
        NotInLibrary: a video or a caption without rows.
    """
    videos = captions.videos()
    if not videos:
        raise InvalidInput("the split has no captions", remedy="Choose another one.")
    made, ends, spent = [], [], []
    for done, video in enumerate(videos):
        if progress is not None:
            progress(done, len(videos))
        rows = data.features.read(video)
        times_s, end_s = row_times(data, video, len(rows), captions.durations_s.get(video))
        began = time.perf_counter()
        made.append(retriever.encode_video(rows, times_s=times_s, end_s=end_s))
        spent.append(1000 * (time.perf_counter() - began))
        ends.append(end_s)
    words = [data.words.read(one.id) for one in captions]
    queries = np.concatenate(
        [retriever.encode_query(words[start : start + batch]) for start in range(0, len(words), batch)]
    )
    times = []
    for one in words[:timed]:
        began = time.perf_counter()
        retriever.encode_query([one])
        times.append(1000 * (time.perf_counter() - began))
    place = {video: index for index, video in enumerate(videos)}
    return Corpus(
        videos=videos,
        documents=tuple(made),
        ends_s=tuple(ends),
        captions=captions.captions,
        queries=queries,
        owner=np.array([place[one.video] for one in captions], dtype=np.int64),
        query_ms=float(np.median(times)) if times else 0.0,
        video_ms=float(np.median(spent)),
    )


def evaluate(
    retriever: Retriever,
    data: RetrievalData,
    *,
    split: str = "test",
    timing: bool = True,
    sharpen: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> FindReport:
    """All figures of a retriever on a split.

    Args:
        retriever: what is measured.
        data: the set.
        split: its part.
        timing: measure milliseconds too.
        sharpen: place each moment once more by scoring all clip tokens of the right video; reads videos again.
        progress: told how many videos are done and how many there are.

    Raises:
        InvalidInput: no such split, or nothing in it.
        NotInLibrary: a video or a caption without rows.
    """
    captions = data.split(split)
    corpus = encode_corpus(retriever, data, captions, timed=20 if timing else 0, progress=progress)
    stacked = np.concatenate([one.vectors for one in corpus.prototypes])  # (sum of K, D)
    starts = np.cumsum([0] + [len(one) for one in corpus.prototypes[:-1]])
    ranks, tied = _ranks(corpus, stacked, starts)
    shares = np.array([_share(one, captions) for one in corpus.captions])
    groups = {}
    for low, high in GROUPS:
        chosen = (shares > low) & (shares <= high)
        if chosen.any():
            groups[f"({low:g}, {high:g}]"] = rank_scores(ranks[chosen], tied=tied[chosen])
    whole = sum(one.whole.nbytes for one in corpus.documents if one.whole is not None)
    return FindReport(
        data=data.name,
        split=split,
        videos=len(corpus.videos),
        ranks=rank_scores(ranks, tied=tied),
        chance_sum_r=_chance(len(corpus.videos)),
        groups=groups,
        moments=_moments(corpus),
        sharpened=_sharpened(retriever, data, captions, corpus) if sharpen else None,
        peak="attention" if all(one.peaks_s is not None for one in corpus.documents) else "middle",
        bytes_per_video=float((stacked.nbytes + whole) / len(corpus.videos)),
        prototypes_per_video=len(stacked) / len(corpus.videos),
        query_ms=corpus.query_ms if timing else None,
        video_ms=corpus.video_ms if timing else None,
        search=_timed(corpus, stacked, starts) if timing else (),
    )


def row_times(
    data: RetrievalData, video: str, count: int, duration_s: float | None
) -> tuple[NDArray[np.float64], float]:
    """When a video's rows are, and where it ends: as stored, else evenly over its duration, else one a second."""
    if isinstance(data.features, FolderRows):
        return data.features.times_s(video), data.features.end_s(video)
    end_s = float(count) if duration_s is None else duration_s
    times_s: NDArray[np.float64] = (np.arange(count, dtype=np.float64) + 0.5) * (end_s / count)
    return times_s, end_s


def _ranks(
    corpus: Corpus, stacked: NDArray[np.float16], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    vectors = stacked.astype(np.float32)
    wholes = [one.whole for one in corpus.documents if one.whole is not None]
    whole = np.stack(wholes).astype(np.float32) if len(wholes) == len(corpus.documents) else None  # (Nv, D)
    share = 0.0 if whole is None else corpus.documents[0].whole_share
    ranks, tied = [], []
    for start in range(0, len(corpus.queries), _ROWS):
        queries = corpus.queries[start : start + _ROWS]
        scores = np.maximum.reduceat(queries @ vectors.T, starts, axis=1)
        if whole is not None:
            scores = (1 - share) * scores + share * (queries @ whole.T)
        found, ties = ranks_of(scores, corpus.owner[start : start + _ROWS])
        ranks.append(found)
        tied.append(ties)
    return np.concatenate(ranks), np.concatenate(tied)


def _share(one: Caption, captions: CaptionSet) -> float:
    """How much of its video a caption's moments fill; NaN where that is unknown."""
    duration = captions.durations_s.get(one.video)
    return moment_share(one.moments_s, duration) if one.moments_s and duration else float("nan")


def _moments(corpus: Corpus) -> MomentScores:
    """Where prototypes alone put the moments: the winner's peak (its middle, where it has none), and the best span."""
    peaks, spans, truths, ends = [], [], [], []
    for query, one, owner in zip(corpus.queries, corpus.captions, corpus.owner, strict=True):
        if not one.moments_s:
            continue
        document = corpus.documents[owner]
        scores = document.prototypes.vectors.astype(np.float32) @ query
        winner = int(np.argmax(scores))
        place = document.prototypes.spans_s[winner].mean() if document.peaks_s is None else document.peaks_s[winner]
        peaks.append(float(place))
        ((start, end, _),) = pick_moments(scores, document.prototypes.spans_s, count=1)
        spans.append((start, end))
        truths.append(one.moments_s)
        ends.append(corpus.ends_s[owner])
    return moment_scores(peaks, spans, truths, ends)


def _sharpened(retriever: Retriever, data: RetrievalData, captions: CaptionSet, corpus: Corpus) -> MomentScores:
    """Where all clip tokens of the right video put the moments: the stretch that stands out, and its best token."""
    asked: dict[int, list[int]] = {}
    for number, (one, owner) in enumerate(zip(corpus.captions, corpus.owner, strict=True)):
        if one.moments_s:
            asked.setdefault(int(owner), []).append(number)
    peaks, spans, truths, ends = [], [], [], []
    for owner, numbers in asked.items():
        video = corpus.videos[owner]
        rows = data.features.read(video)
        times_s, end_s = row_times(data, video, len(rows), captions.durations_s.get(video))
        tokens = retriever.encode_tokens(rows, times_s=times_s, end_s=end_s)
        for number in numbers:
            query = corpus.queries[number]
            ((start, end),) = tokens.sharpen(query)
            inside = (tokens.times_s >= start) & (tokens.times_s <= end)
            best = int(np.argmax(np.where(inside, tokens.vectors() @ query, -np.inf)))
            peaks.append(float(tokens.times_s[best]))
            spans.append((start, end))
            truths.append(corpus.captions[number].moments_s)
            ends.append(corpus.ends_s[owner])
    return moment_scores(peaks, spans, truths, ends)


def _chance(videos: int) -> float:
    """SumR of a random order: the sum of min(K / videos, 1), in percent."""
    return sum(100.0 * min(1.0, k / videos) for k in (1, 5, 10, 100))


def _timed(corpus: Corpus, stacked: NDArray[np.float16], starts: NDArray[np.int64]) -> tuple[SearchTime, ...]:
    """Milliseconds of scoring one query against the first videos of the corpus: five sizes, medians of 20 queries."""
    vectors = stacked.astype(np.float32)
    ends = np.append(starts, len(vectors))
    found = []
    for size in sorted({max(1, round(len(corpus.videos) * part / 5)) for part in range(1, 6)}):
        rows, cuts = vectors[: ends[size]], starts[:size]
        times = []
        for query in corpus.queries[:21]:
            began = time.perf_counter()
            scores = np.maximum.reduceat(rows @ query, cuts)
            np.argpartition(-scores, min(9, size - 1))[:10]
            times.append(1000 * (time.perf_counter() - began))
        found.append(SearchTime(size, float(np.median(times[1:] or times))))
    return tuple(found)
