"""What is searched: the segments of an index as one commit left them; it never changes after.

A search reads all of it, in half precision as it lies there; that leaves the few videos that the rounding (bounded,
`half_error`) cannot rule out, and those are scored exactly, in float64 (`scoring`). With codes the first pass reads
those instead and leaves a shortlist of a fixed length. Several queries are compared in float32 at once, and what that
leaves of each is scored exactly too, so they find what each would alone.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import LibraryDamaged, NotInLibrary
from trifocal.retrieval.index.files import REBUILD, read_manifest
from trifocal.retrieval.index.scoring import DECIMALS, half_error, wide_error
from trifocal.retrieval.index.segment import Segment
from trifocal.retrieval.moment import Moment, pick_moments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from trifocal.retrieval.index.codes import Codes
    from trifocal.retrieval.index.files import Manifest
    from trifocal.retrieval.index.interface import VideoFacts, VideoFilter

__all__ = ["Snapshot"]

# A writer may delete the files of the manifest just read; then there is a newer manifest to read.
_READ_TRIES = 5
# Below this part of all videos, those chosen are copied together and compared; above, comparing all is cheaper.
_DIRECT_SHARE = 1 / 8
# Queries scored in one reading of the vectors: the scores of 100,000 videos x 32 take 13 MB a query.
_QUERIES_AT_ONCE = 16


class Snapshot:
    """The opened segments. A video's place is its position in their concatenation.

    Args:
        manifest: the commit.
        segments: opened, in its order.
    """

    def __init__(self, manifest: Manifest, segments: tuple[Segment, ...]) -> None:
        """Number the videos."""
        self.manifest, self.segments = manifest, segments
        self.ids: tuple[str, ...] = tuple(video for segment in segments for video in segment.videos)
        self.first = np.cumsum([0, *(len(segment.videos) for segment in segments)]).astype(np.int64)
        self.by_id = np.array(sorted(range(len(self.ids)), key=self.ids.__getitem__), dtype=np.int64)
        self.rank = np.empty(len(self.ids), dtype=np.int64)
        self.rank[self.by_id] = np.arange(len(self.ids))
        self.videos: tuple[str, ...] = tuple(self.ids[place] for place in self.by_id.tolist())
        self.place = {video: place for place, video in enumerate(self.ids)}

    @classmethod
    def open(cls, folder: Path) -> Snapshot:
        """The latest commit of an index folder.

        Raises:
            LibraryNotFound: no index there.
            LibraryDamaged: its files are missing, or contradict the manifest or each other.
        """
        manifest = read_manifest(folder)
        for attempt in range(_READ_TRIES):
            try:
                dim, codes = manifest.dim, manifest.codes
                parts = [Segment(folder, stored, dim=dim, codes=codes) for stored in manifest.segments]
                break
            except FileNotFoundError as error:
                newer = read_manifest(folder)
                if newer == manifest or attempt == _READ_TRIES - 1:
                    raise LibraryDamaged(f"{error.filename} is missing", remedy=REBUILD) from error
                manifest = newer
        snapshot = cls(manifest, tuple(parts))
        if len(snapshot.place) != len(snapshot.ids):
            raise LibraryDamaged(f"the index in {folder} holds a video twice", remedy=REBUILD)
        return snapshot

    @cached_property
    def facts(self) -> tuple[VideoFacts, ...]:
        """The facts of each video, by place."""
        return tuple(facts for segment in self.segments for facts in segment.facts)

    def stamps(self) -> dict[str, str]:
        """The owner's mark of each video."""
        marks = [stamp for segment in self.segments for stamp in segment.stamps]
        return {self.ids[place]: marks[place] for place in self.by_id.tolist()}

    def at(self, video: str) -> tuple[Segment, int]:
        """The segment of a video, and its place there.

        Raises:
            NotInLibrary: no such video.
        """
        place = self.place_of(video)
        number = int(np.searchsorted(self.first, place, side="right")) - 1
        return self.segments[number], place - int(self.first[number])

    def place_of(self, video: str) -> int:
        """See `at`."""
        place = self.place.get(video)
        if place is None:
            raise NotInLibrary(f"{video!r} is not in the index", remedy="See `videos` for what is.")
        return place

    def chosen(
        self, videos: Iterable[str] | None, without: Collection[str], where: VideoFilter | None
    ) -> NDArray[np.int64] | None:
        """The places that are named, not excluded, and admitted, ascending; None for all."""
        if videos is None and not without and (where is None or where.empty):
            return None
        kept = np.ones(len(self.ids), dtype=bool)
        if videos is not None:
            kept[:] = False
            kept[self._places(videos)] = True
        kept[self._places(without)] = False
        places = np.flatnonzero(kept)
        if where is not None and not where.empty:
            admitted = [place for place in places.tolist() if where.admits(self.facts[place])]
            places = np.array(admitted, dtype=np.int64)
        return places

    def _places(self, videos: Iterable[str]) -> list[int]:
        return [self.place[video] for video in videos if video in self.place]

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The score of each video for each query in float32 (Nq, videos), in the order of `videos`."""
        if not self.segments:
            return np.zeros((len(queries), 0), dtype=np.float32)
        scores = np.empty((len(queries), len(self.ids)), dtype=np.float32)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):  # a segment's row scores are held for these alone
            group = slice(start, start + _QUERIES_AT_ONCE)
            scores[group] = self._wide(queries[group])[:, self.by_id]
        return scores

    def search(
        self,
        query: NDArray[np.float32],
        *,
        top: int,
        moments_per_video: int,
        tolerance: float,
        share: float,
        chosen: NDArray[np.int64] | None,
        codes: Codes | None,
        shortlist: int,
    ) -> list[Moment]:
        """The best moments for one query (D,) among the chosen places; see `ExactIndex.search`."""
        places = self._shortlist(query, top, chosen=chosen, codes=codes, shortlist=shortlist)
        return self._moments(
            query, places, top=top, moments_per_video=moments_per_video, tolerance=tolerance, share=share
        )

    def search_many(
        self,
        queries: NDArray[np.float32],
        *,
        top: int,
        moments_per_video: int,
        tolerance: float,
        share: float,
        chosen: NDArray[np.int64] | None,
    ) -> list[list[Moment]]:
        """The same for several queries (Nq, D), with one reading of the vectors for every 16 of them."""
        places = np.arange(len(self.ids)) if chosen is None else chosen
        if not len(places):
            return [[] for _ in queries]
        found = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            group = queries[start : start + _QUERIES_AT_ONCE]
            for query, row in zip(group, self._wide(group), strict=True):
                left = _not_ruled_out(places, row[places], top, error=wide_error(len(query)))
                found.append(
                    self._moments(
                        query, left, top=top, moments_per_video=moments_per_video, tolerance=tolerance, share=share
                    )
                )
        return found

    def _wide(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """A float32 score for each query and place, (Nq, videos)."""
        return np.concatenate([segment.wide(queries) for segment in self.segments], axis=1)

    def coarse(self, query: NDArray[np.float32], *, codes: Codes | None = None) -> NDArray[np.float32]:
        """The first pass: a score for each place, float32 (videos,)."""
        return np.concatenate([segment.coarse(query, codes=codes) for segment in self.segments])

    def _coarse_of(self, query: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """A half-precision score for each of some places, ascending, in their order."""
        if len(places) >= _DIRECT_SHARE * len(self.ids):
            return self.coarse(query)[places]
        return np.concatenate([self.segments[number].coarse(query, places=local) for number, local in self._by(places)])

    def _by(self, places: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """The segments that some places, ascending, lie in, and the places there."""
        cuts = np.searchsorted(places, self.first)
        spans = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        return [(number, places[a:b] - self.first[number]) for number, (a, b) in enumerate(spans) if a < b]

    def _shortlist(
        self,
        query: NDArray[np.float32],
        top: int,
        *,
        chosen: NDArray[np.int64] | None,
        codes: Codes | None,
        shortlist: int,
    ) -> NDArray[np.int64]:
        """The places, ascending, that may be among the best `top`; with codes, of those that a first pass leaves."""
        places = np.arange(len(self.ids)) if chosen is None else chosen
        if codes is not None and len(places) > top and len(places) >= _DIRECT_SHARE * len(self.ids):
            best = self.coarse(query, codes=codes)[places]
            order: NDArray[np.int64] = np.lexsort((self.rank[places], -best))[: max(top, shortlist)]
            places = np.sort(places[order])
        if len(places) <= top:
            return places
        return _not_ruled_out(places, self._coarse_of(query, places), top, error=half_error(query))

    def _moments(
        self,
        query: NDArray[np.float32],
        places: NDArray[np.int64],
        *,
        top: int,
        moments_per_video: int,
        tolerance: float,
        share: float,
    ) -> list[Moment]:
        """The best moments of some places, ascending, scored exactly."""
        rows = [self.segments[number].rows(query, place) for number, local in self._by(places) for place in local]
        best = np.array([scores.max() for scores, _ in rows])  # (places,)
        # Every one of the best `top` videos gives a moment at least as good as any moment of the others.
        leading = np.lexsort((self.rank[places], -best))[:top].tolist()
        moments = [
            Moment(self.ids[places[i]], round(start, 3), round(end, 3), round(score, DECIMALS))
            for i in leading
            for start, end, score in pick_moments(*rows[i], count=moments_per_video, tolerance=tolerance, share=share)
        ]
        return sorted(moments, key=Moment.sort_key)[:top]


def _not_ruled_out(
    places: NDArray[np.int64], scores: NDArray[np.float32], top: int, *, error: float
) -> NDArray[np.int64]:
    """Of places and their scores, each within `error` of the exact one, those that may be among the best `top`.

    `top` places score at least the `top`-th of these scores less the error, so a place whose score is below that by
    another error cannot be one of the best.
    """
    if len(places) <= top:
        return places
    left: NDArray[np.int64] = places[scores >= np.partition(scores, -top)[-top] - 2 * error]
    return left
