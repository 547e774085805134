"""Whether prototypes have collapsed: figures to look at beside the ranking, after every epoch and of every model.

A collapsed model ranks like one vector a video, and its losses do not say so: the orthogonality loss can fall while one
prototype goes on winning every query. So: how alike a video's prototypes are, how many different ones win for a video's
queries and over the whole set, how spread their attention is, and how often the winner looks into the true moment.
Moments serve these figures only; nothing is trained on them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.evaluation.metrics import moment_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["CollapseFigures", "collapse_figures"]


@dataclass(frozen=True, slots=True)
class CollapseFigures:
    """How a model uses its prototypes.

    Args:
        mean_cosine: between two prototypes of one video, the mean over pairs and videos; near 1 they are one vector.
        winners_per_video: distinct winning prototypes among a video's own queries, the mean over videos.
        queries_per_video: what that can be at most.
        winners_corpus: distinct prototypes (by number, 0..K−1) that win for any query with its own video.
        prototypes: K, what that can be at most.
        top_winner_share: share of queries, 0 to 1, that the commonest winner takes.
        attention_entropy: of a prototype's attention over clips in nats, the mean; None where it is not known. Even
            attention over M clips has log M.
        peak_inside: share of queries, 0 to 1, whose winner looks most at a clip inside a true moment, among those
            that have one; None without moments.
        peak_chance: the same for a peak drawn evenly over the video: the mean share of the video that a moment fills.
    """

    mean_cosine: float
    winners_per_video: float
    queries_per_video: float
    winners_corpus: int
    prototypes: int
    top_winner_share: float
    attention_entropy: float | None = None
    peak_inside: float | None = None
    peak_chance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def collapse_figures(
    queries: ArrayLike,
    vectors: ArrayLike,
    owner: ArrayLike,
    *,
    attention: ArrayLike | None = None,
    peaks: ArrayLike | None = None,
    moments: Sequence[ArrayLike] | NDArray[Any] | None = None,
) -> CollapseFigures:
    """The figures of a set of queries with their own videos.

    Args:
        queries: (N, D), unit vectors.
        vectors: (B, K, D), unit vectors.
        owner: (N,), the query's video, 0..B−1.
        attention: (B, K, M), rows of sum 1: what each prototype takes from each clip.
        peaks: (B, K), where each looks most, as a share of the video.
        moments: of each query start and end as shares of the video, (2,), or (m, 2) where it has several and any will
            do, or (0, 2) where they are not known and it does not count; N of them; needs `peaks`.

    Raises:
        InvalidInput: shapes that do not fit, no queries, or moments without peaks.
    """
    q, p, own = np.asarray(queries, np.float32), np.asarray(vectors, np.float32), np.asarray(owner)
    if q.ndim != 2 or p.ndim != 3 or q.shape[1:] != p.shape[2:] or own.shape != (len(q),) or not len(q):
        raise InvalidInput(
            f"queries {q.shape}, vectors {p.shape} and owners {own.shape} do not fit",
            remedy="Give (N, D), (B, K, D) and (N,), with at least one query.",
        )
    if own.min() < 0 or own.max() >= len(p):
        raise InvalidInput(f"an owner is outside 0..{len(p) - 1}", remedy="Give the query's video.")
    if moments is not None and peaks is None:
        raise InvalidInput("there are moments but no peaks", remedy="Give the prototypes' peaks too.")
    K = p.shape[1]
    winner = np.einsum("nd,nkd->nk", q, p[own]).argmax(axis=1)  # (N,)
    wins = np.zeros((len(p), K), dtype=np.int64)
    np.add.at(wins, (own, winner), 1)
    asked = wins.sum(axis=1) > 0
    total = p.sum(axis=1)  # (B, D); |Σ p|² = Σ |p|² + the sum of the cosines off the diagonal
    pairs = (np.square(total).sum(axis=-1) - np.square(p).sum(axis=(1, 2))) / max(1, K * (K - 1))
    entropy = None
    if attention is not None:
        a = np.asarray(attention, np.float64)
        entropy = float(-(a * np.log(np.maximum(a, 1e-12))).sum(axis=-1).mean())
    inside = chance = None
    if moments is not None and peaks is not None:
        if len(moments) != len(q):
            raise InvalidInput(f"there are {len(moments)} moments of {len(q)} queries", remedy="Give one a query.")
        places = np.asarray(peaks, np.float64)[own, winner]
        windows = [np.asarray(one, np.float64).reshape(-1, 2) for one in moments]
        known = [(place, one) for place, one in zip(places, windows, strict=True) if len(one)]
        if known:
            inside = float(np.mean([((one[:, 0] <= place) & (place <= one[:, 1])).any() for place, one in known]))
            chance = float(np.mean([moment_share(np.clip(one, 0, 1).tolist(), 1.0) for _, one in known]))
    return CollapseFigures(
        mean_cosine=float(pairs.mean()) if K > 1 else 1.0,
        winners_per_video=float((wins[asked] > 0).sum(axis=1).mean()),
        queries_per_video=float(wins[asked].sum(axis=1).mean()),
        winners_corpus=int((wins.sum(axis=0) > 0).sum()),
        prototypes=K,
        top_winner_share=float(wins.sum(axis=0).max() / len(q)),
        attention_entropy=entropy,
        peak_inside=inside,
        peak_chance=chance,
    )
