"""What a LanceDB table of prototypes holds, and what is found in it; changes nothing.

`StoreView` lists videos, gives their prototypes back, and searches: `candidates` says where to look, and those videos
are scored again exactly from their stored vectors. `StoreIndex` adds the verbs that write. Rows become items in `rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import LibraryDamaged, NotInLibrary
from trifocal.retrieval.index.candidates import candidates, partitions_of
from trifocal.retrieval.index.interface import (
    IndexItem,
    VideoFilter,
    check_count,
    check_queries,
    check_query,
    export_items,
)
from trifocal.retrieval.index.rows import FACTS, Names, about_of, admitted, item_of, named, prototypes_of, split_videos
from trifocal.retrieval.index.scoring import DECIMALS, exact_scores
from trifocal.retrieval.moment import Moment, pick_moments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from os import PathLike
    from pathlib import Path

    from numpy.typing import ArrayLike

    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["StoreView"]

_NAMES_AT_ONCE = 1000


class StoreView:
    """A table of prototypes, as far as it is read; see `StoreIndex`.

    Args:
        uri: where it is.
        table: the LanceDB table.

    Raises:
        LibraryDamaged: the table is not one of ours.
        InvalidInput: a later version of Trifocal wrote it.
    """

    def __init__(self, uri: str, table: Any) -> None:
        """The schema says which encoder, and how wide."""
        self.uri, self._table = uri, table
        self.encoder, self.dim = about_of(table.schema, uri)

    def __len__(self) -> int:
        """How many videos."""
        return self.count()

    def __contains__(self, video: object) -> bool:
        """Whether the video is in it."""
        return isinstance(video, str) and bool(self._table.count_rows(f"k = 0 AND {named([video])}"))

    @property
    def videos(self) -> tuple[str, ...]:
        """The ids, sorted."""
        return tuple(self.stamps())

    def stamps(self) -> dict[str, str]:
        """The owner's mark of each video."""
        rows = self._rows("k = 0", ["video", "stamp"])
        return dict(sorted(zip(rows["video"].to_pylist(), rows["stamp"].to_pylist(), strict=True)))

    def count(self, where: VideoFilter | None = None) -> int:
        """How many videos, or how many of them a filter admits."""
        condition = admitted(where)
        return int(self._table.count_rows(f"k = 0 AND {condition}" if condition else "k = 0"))

    def filter(self, where: VideoFilter) -> tuple[str, ...]:
        """The ids of the videos that a filter admits, sorted."""
        condition = admitted(where)
        rows = self._rows(f"k = 0 AND {condition}" if condition else "k = 0", ["video"])
        return tuple(sorted(rows["video"].to_pylist()))

    def partitions(self) -> int | None:
        """The number of partitions of the search index; None when there is none yet."""
        return partitions_of(self._table)

    def search(
        self,
        query: ArrayLike,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        tolerance: float = 0.02,
        share: float = 0.5,
        videos: Iterable[str] | None = None,
        without: Collection[str] = (),
        where: VideoFilter | None = None,
        probes: int | None = None,
        refine: int = 2,
        exact: bool = False,
    ) -> list[Moment]:
        """The best moments for a query.

        Args:
            query: (D,), a unit vector from the same encoder.
            top: how many moments at most.
            moments_per_video: how many of them may come from one video.
            tolerance: see `pick_moments`.
            share: see there.
            videos: search these alone; None searches all. Those that are not in it are passed over.
            without: but not these.
            where: of these, search those that it admits.
            probes: how many partitions of the search index are read; half of them by default.
            refine: how many times as many hits are compared exactly as are asked of it.
            exact: compare all rows instead.

        Returns:
            At most `top` moments, to the millisecond, by falling score; ties by video id, then start. Their scores are
            exact; that no better one was missed is certain only with `exact`, or before there is a search index.

        Raises:
            InvalidInput: a query that does not fit, a count below 1.
            LibraryDamaged: the stored vectors give scores that are not finite.
        """
        for name, number in (("top", top), ("moments_per_video", moments_per_video), ("refine", refine)):
            check_count(name, number)
        vector = check_query(query, dim=self.dim)
        chosen = None if videos is None else set(videos).difference(without)
        if chosen is not None and not chosen:
            return []
        found = candidates(
            self._table,
            vector,
            condition=admitted(where),
            names=Names(chosen, frozenset(without)),
            top=top,
            probes=probes,
            refine=refine,
            exact=exact,
        )
        moments = []
        for video, prototypes in self._prototypes(found).items():
            scores = exact_scores(vector, prototypes.vectors, folder=self.uri)
            picked = pick_moments(scores, prototypes.spans_s, count=moments_per_video, tolerance=tolerance, share=share)
            moments += [
                Moment(video, round(start, 3), round(end, 3), round(score, DECIMALS)) for start, end, score in picked
            ]
        return sorted(moments, key=Moment.sort_key)[:top]

    def search_many(
        self,
        queries: ArrayLike,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        videos: Iterable[str] | None = None,
        without: Collection[str] = (),
        where: VideoFilter | None = None,
    ) -> list[list[Moment]]:
        """`search` for each of several queries (Nq, D)."""
        chosen = None if videos is None else tuple(videos)
        return [
            self.search(
                query, top=top, moments_per_video=moments_per_video, videos=chosen, without=without, where=where
            )
            for query in check_queries(queries, dim=self.dim)
        ]

    def recall(self, queries: ArrayLike, *, top: int = 10, probes: int | None = None, refine: int = 2) -> float:
        """The part of the best `top` videos that a search finds, mean over the queries (Nq, D)."""
        shares = []
        for query in check_queries(queries, dim=self.dim):
            right = {moment.video for moment in self.search(query, top=top, exact=True)}
            found = {moment.video for moment in self.search(query, top=top, probes=probes, refine=refine)}
            shares.append(len(right & found) / max(1, len(right)))
        return float(np.mean(shares)) if shares else 1.0

    def prototypes(self, video: str) -> Prototypes:
        """The prototypes of one video.

        Raises:
            NotInLibrary: no such video.
        """
        found = self._prototypes([video])
        if video not in found:
            raise NotInLibrary(f"{video!r} is not in the index", remedy="See `videos` for what is.")
        return found[video]

    def items(self, *, without: Collection[str] = ()) -> Iterator[IndexItem]:
        """All videos with their prototypes, sorted by id, leaving out some."""
        names = [video for video in self.videos if video not in without]
        for start in range(0, len(names), _NAMES_AT_ONCE):
            rows = self._rows(named(names[start : start + _NAMES_AT_ONCE]), None)
            for _, part in sorted(split_videos(rows).items()):
                yield item_of(part, self.dim, self.uri)

    def verify(self) -> None:
        """Read every row: each video's prototypes are complete, of unit length, and have spans.

        Raises:
            LibraryDamaged: they are not, or a row cannot be read.
        """
        videos = 0
        for _ in self.items():
            videos += 1
        if (rows := self._table.count_rows("k = 0")) != videos:
            raise LibraryDamaged(f"{self.uri} holds {rows} videos, {videos} can be read", remedy="Build it again.")

    def export(self, folder: str | PathLike[str]) -> Path:
        """Write everything as plain files: `vectors.npy`, `prototypes.csv`, `about.json`; see `export_items`."""
        return export_items(folder, self.items(), encoder=self.encoder, dim=self.dim)

    def _prototypes(self, videos: list[str]) -> dict[str, Prototypes]:
        if not videos:
            return {}
        rows = self._rows(named(videos), ["video", "k", "start_s", "end_s", "vector"])
        return {video: prototypes_of(part, self.dim, self.uri) for video, part in split_videos(rows).items()}

    def _known(self, videos: Collection[str]) -> set[str]:
        """Those of the names that are in it."""
        names, found = sorted(videos), set[str]()
        for start in range(0, len(names), _NAMES_AT_ONCE):
            some = named(names[start : start + _NAMES_AT_ONCE])
            found.update(self._rows(f"k = 0 AND {some}", ["video"])["video"].to_pylist())
        return found

    def _rows(self, condition: str, columns: list[str] | None) -> Any:
        wanted = columns or ["video", "k", "stamp", *FACTS, "start_s", "end_s", "vector"]
        return self._table.search().where(condition).select(wanted).to_arrow()
