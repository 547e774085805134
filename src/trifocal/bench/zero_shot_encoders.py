"""The real clips again, by whole encoders: does one that was trained elsewhere find them as well as the default does?

Every encoder makes documents the way the library does: frames two a second, then the trained model's prototypes, or
adjacent merging where the encoder has no documents of its own. The 40 queries of each clip rank the clips; figures are
those of `zero_shot.evaluate`, and beside them how many queries one encoder ranks better than the default and how many
worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trifocal import video
from trifocal.bench.zero_shot_queries import QUERIES
from trifocal.errors import InvalidInput
from trifocal.retrieval import build_prototypes, load_encoder
from trifocal.retrieval.encoder import DocumentEncoder
from trifocal.retrieval.trained import TrainedEncoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval import FrameTextEncoder
    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["DEFAULT", "compare_encoders", "rank_figures"]

DEFAULT = "default"
FPS = 2.0


def compare_encoders(folders: Sequence[Path | str], paths: Mapping[str, Path]) -> dict[str, Any]:
    """The default and trained encoders on the same clips.

    Args:
        folders: what `trifocal train find` wrote.
        paths: files by clip; those without queries are left out.

    Returns:
        Figures by encoder, the default first, ready for JSON.

    Raises:
        InvalidInput: fewer than two clips that have queries, or a folder without a trained encoder.
    """
    known = {clip: paths[clip] for clip in sorted(paths) if clip in QUERIES}
    if len(known) < 2:
        raise InvalidInput(f"only {sorted(known)} have queries", remedy=f"Give at least two of {', '.join(QUERIES)}.")
    ranks: dict[str, dict[str, NDArray[np.int64]]] = {}
    seen: dict[tuple[str, str], _Frames] = {}
    for name in (DEFAULT, *map(str, folders)):
        encoder = load_encoder(name)
        below = encoder.base if isinstance(encoder, TrainedEncoder) else encoder
        for clip, path in known.items():
            if (below.id, clip) not in seen:
                seen[below.id, clip] = _read(below, path)
        documents = {clip: _document(encoder, seen[below.id, clip]).vectors.astype(np.float32) for clip in known}
        ranks[name] = {clip: _ranks(encoder.encode_query(list(QUERIES[clip])), documents, right=clip) for clip in known}
    return {name: rank_figures(of, against=ranks[DEFAULT]) for name, of in ranks.items()}


def rank_figures(ranks: Mapping[str, NDArray[np.int64]], *, against: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Means over clips, and how many queries are ranked better and worse than by another encoder.

    Args:
        ranks: by clip, the rank from 1 of each of its queries.
        against: the other encoder's, of the same queries.
    """
    return {
        "mrr": round(float(np.mean([(1 / of).mean() for of in ranks.values()])), 4),
        "recall_1": round(float(np.mean([(of == 1).mean() for of in ranks.values()])), 4),
        "better": int(sum((of < against[clip]).sum() for clip, of in ranks.items())),
        "worse": int(sum((of > against[clip]).sum() for clip, of in ranks.items())),
        "queries": int(sum(len(of) for of in ranks.values())),
        "mrr_per_clip": {clip: round(float((1 / of).mean()), 4) for clip, of in ranks.items()},
    }


class _Frames(NamedTuple):
    """A clip's encoded frames (T, D) at their times, and its end."""

    rows: NDArray[np.float32]
    times_s: NDArray[np.float64]
    end_s: float


def _read(encoder: FrameTextEncoder, path: Path) -> _Frames:
    with video.open(path) as opened:
        read = opened.read(video.Sampling.at_fps(FPS, size=encoder.frame_size))
        end_s = max(opened.info.duration_s or 0.0, float(read.times_s[-1]))
    return _Frames(encoder.encode_frames(read.images), read.times_s, end_s)


def _document(encoder: FrameTextEncoder, frames: _Frames) -> Prototypes:
    make = encoder.encode_document if isinstance(encoder, DocumentEncoder) else build_prototypes
    return make(frames.rows, times_s=frames.times_s, end_s=frames.end_s)


def _ranks(
    queries: NDArray[np.float32], documents: Mapping[str, NDArray[np.float32]], *, right: str
) -> NDArray[np.int64]:
    """Rank of the right clip: 1 + the clips that score strictly more."""
    scores = {clip: (queries @ vectors.T).max(axis=1) for clip, vectors in documents.items()}
    found: NDArray[np.int64] = 1 + np.sum([one > scores[right] for one in scores.values()], axis=0)
    return found
