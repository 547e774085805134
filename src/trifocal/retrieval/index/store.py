"""The engine for large collections: LanceDB, one row per prototype, on a disk, on object storage or behind a server.

The address decides which: a folder, `s3://...` or another storage that LanceDB knows, `db://...` for its server. Up to
some hundred thousand prototypes every row is compared; beyond, `optimize` builds an inverted file over residual binary
codes (IVF_RQ), whose hits are refined, gathered by video, and scored again exactly from the stored vectors.
`recall` says what that costs against comparing everything. Needs the extra `scale`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged, LibraryNotFound, MissingExtra, NotInLibrary
from trifocal.retrieval.index.erasing import hide_and_loosen, sweep
from trifocal.retrieval.index.interface import (
    IndexItem,
    VideoFilter,
    as_items,
    check_count,
    check_item,
    check_queries,
    check_query,
    export_items,
)
from trifocal.retrieval.index.rows import (
    FACTS,
    Names,
    about_of,
    admitted,
    batch_of,
    batches_of,
    item_of,
    named,
    prototypes_of,
    schema_of,
    split_videos,
)
from trifocal.retrieval.index.scoring import DECIMALS, exact_scores
from trifocal.retrieval.moment import Moment, pick_moments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["StoreIndex"]

TABLE = "prototypes"

# Below these many rows, comparing all of them is quick enough, and nothing has to be trained.
_INDEX_FROM_ROWS = 100_000
_ROWS_PER_PARTITION = 5000
# Rows that the first pass brings, at least: some thirty prototypes of each of the best videos.
_ROWS_AT_LEAST, _ROWS_PER_TOP = 300, 30
# Videos that are scored again for each one that is asked for: those behind could only change places among themselves.
_RESCORED_PER_TOP = 2
_NAMES_AT_ONCE = 1000
# Rows that are looked through for those of many videos; beyond, the names become a condition.
_ROWS_AT_MOST = 50_000
# What a filter or a list of names leaves is compared whole up to here: the search index, which was made for all, reads
# too little of it to find the best.
_ROWS_COMPARED, _NAMES_COMPARED = 200_000, 3_000


class StoreIndex:
    """Prototypes of many videos in a LanceDB table. Make one with `create` or `open`; implements `PrototypeIndex`.

    Every change is one commit of the table; readers see it at their next call. Several processes, also on several
    machines, may write at once: LanceDB puts their commits in order.

    Attributes:
        uri: where it is.
        encoder: the id of the encoder that made the vectors.
        dim: D, their width.
    """

    def __init__(self, uri: str, database: Any, table: Any) -> None:
        """Use `create` or `open` instead."""
        self.uri = uri
        self._name = str(table.name)
        self._database, self._table = database, table
        self.encoder, self.dim = about_of(table.schema, uri)

    def __len__(self) -> int:
        """How many videos."""
        return self.count()

    def __contains__(self, video: object) -> bool:
        """Whether the video is in it."""
        return isinstance(video, str) and bool(self._table.count_rows(f"k = 0 AND {named([video])}"))

    def __repr__(self) -> str:
        """Where it is and how much it holds."""
        return f"StoreIndex({self.uri!r}, {self._table.count_rows()} prototypes, encoder={self.encoder!r})"

    @classmethod
    def create(
        cls, uri: str | PathLike[str], *, encoder: str, dim: int, table: str = TABLE, **options: Any
    ) -> StoreIndex:
        """Make an empty index.

        Args:
            uri: a folder, or an address that LanceDB knows.
            encoder: the id of the encoder (`FrameTextEncoder.id`).
            dim: D.
            table: the name of the table; an address may hold several.
            options: passed on to `lancedb.connect`, such as `storage_options`, `api_key` or `host_override`.

        Raises:
            InvalidInput: there is one already, an empty encoder id, a width below 1.
            MissingExtra: LanceDB is not installed.
        """
        if not encoder:
            raise InvalidInput("the encoder's id is empty", remedy="Give `FrameTextEncoder.id`.")
        check_count("dim", dim)
        database = _connect(uri, options)
        if table in _tables(database):
            raise InvalidInput(f"there is an index in {uri} already", remedy="Open it, or give another address.")
        return cls(str(uri), database, database.create_table(table, schema=schema_of(encoder, dim)))

    @classmethod
    def open(
        cls, uri: str | PathLike[str], *, encoder: str | None = None, table: str = TABLE, **options: Any
    ) -> StoreIndex:
        """Open an index.

        Args:
            uri: where `create` made it.
            encoder: the id of the encoder that the queries will come from; None leaves that to the caller.
            table: its name.
            options: as for `create`.

        Raises:
            LibraryNotFound: none there.
            LibraryDamaged: the table is not one of ours.
            EncoderMismatch: another encoder made it.
            MissingExtra: LanceDB is not installed.
        """
        database = _connect(uri, options)
        if table not in _tables(database):
            raise LibraryNotFound(f"{uri} holds no index", remedy="Make one with StoreIndex.create.")
        index = cls(str(uri), database, database.open_table(table))
        if encoder is not None and encoder != index.encoder:
            raise EncoderMismatch(
                f"the index in {uri} was made by the encoder {index.encoder}, not by {encoder}",
                remedy="Search with the encoder that made it, or index the videos again (`trifocal reindex`).",
            )
        return index

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

    def add(self, items: Iterable[tuple[Any, ...]]) -> int:
        """Add videos that are not in it, in one commit; they are streamed.

        Returns:
            How many.

        Raises:
            InvalidInput: a video that is in it, or twice among them; prototypes of another width.
        """
        import pyarrow as pa  # comes with LanceDB

        known, seen = set(self.stamps()), set[str]()

        def checked() -> Iterator[IndexItem]:
            for item in as_items(items):
                check_item(item, dim=self.dim)
                if item.video in known or item.video in seen:
                    raise _there_already(item.video)
                seen.add(item.video)
                yield item

        batches = batches_of(checked(), self._table.schema)
        first = next(batches, None)
        if first is not None:
            whole = (batch for part in ([first], batches) for batch in part)
            self._table.add(pa.RecordBatchReader.from_batches(self._table.schema, whole))
        return len(seen)

    def replace(self, items: Iterable[tuple[Any, ...]]) -> int:
        """Put videos in, in place of those of the same id, in one commit; they are held in memory until it.

        Returns:
            How many.

        Raises:
            InvalidInput: a video twice among them; prototypes of another width.
        """
        given: dict[str, IndexItem] = {}
        for item in as_items(items):
            check_item(item, dim=self.dim)
            if item.video in given:
                raise _there_already(item.video)
            given[item.video] = item
        if given:
            rows = batch_of(list(given.values()), self._table.schema)
            (
                self._table.merge_insert(["video", "k"])
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(named(given))  # prototypes that the old one had more than the new
                .execute(rows)
            )
        return len(given)

    def remove(self, videos: Iterable[str]) -> int:
        """Take videos out, in one commit. Their bytes stay on the disk for a while; `erase` leaves none.

        Returns:
            How many.

        Raises:
            NotInLibrary: one is not in it; then nothing is removed.
        """
        gone = set(videos)
        for video in sorted(gone - self._known(gone)):
            raise NotInLibrary(f"{video!r} is not in the index", remedy="See `videos` for what is.")
        if gone:
            self._table.delete(named(gone))
        return len(gone)

    def erase(self, videos: Iterable[str]) -> int:
        """Take videos out so that no byte of them is left; no other process may be writing meanwhile.

        The files that hold them are written again, and the search index without them; it is not trained anew. When it
        is killed, the next `erase`, even of nothing, completes it.

        Returns:
            How many there were; a name that is not in the index is passed over.
        """
        gone = self._known(set(videos))
        if gone:
            hide_and_loosen(self._table, named(gone))
        sweep(self._table)
        return len(gone)

    def optimize(self) -> None:
        """Merge small files, bring the search index up to date (or build it, from 100,000 rows on), drop old states.

        Readers of other processes that are in the middle of a query keep what they have open for an hour.
        """
        from lancedb.index import BTree, IvfRq  # an optional extra

        rows = self._table.count_rows()
        if rows >= _INDEX_FROM_ROWS and self.partitions() is None:
            partitions = 2 ** max(4, round(np.log2(rows / _ROWS_PER_PARTITION)))
            self._table.create_index("vector", config=IvfRq(distance_type="dot", num_partitions=partitions))
            self._table.create_index("video", config=BTree())
        self._table.optimize(cleanup_older_than=timedelta(hours=1))

    def purge(self) -> None:
        """Write the table anew, so that no byte of what was removed or replaced is left; for use when no one reads.

        All of it is read, written and indexed again; to take some videos out, `erase` does a fraction of that.
        """
        import pyarrow as pa

        schema = self._table.schema
        batches = batches_of(self.items(), schema)
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        self._table = self._database.create_table(self._name, reader, schema=schema, mode="overwrite")
        sweep(self._table)
        self.optimize()

    @staticmethod
    def tables(uri: str | PathLike[str], **options: Any) -> list[str]:
        """The names of the tables at an address, sorted; see `create`."""
        return sorted(_tables(_connect(uri, options)))

    def drop_tables(self, names: Iterable[str]) -> None:
        """Delete other tables at the same address, those of them that there are."""
        for name in sorted({*names} & {*_tables(self._database)} - {self._name}):
            self._database.drop_table(name)

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
        names = Names(chosen, frozenset(without))
        found = self._candidates(vector, admitted(where), names, top, probes=probes, refine=refine, exact=exact)
        moments = []
        for video, prototypes in self._prototypes(found[: _RESCORED_PER_TOP * top]).items():
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

    def _candidates(
        self,
        vector: NDArray[np.float32],
        condition: str,
        names: Names,
        top: int,
        *,
        probes: int | None,
        refine: int,
        exact: bool,
    ) -> list[str]:
        """Videos by falling best row, at least those asked for as long as there are so many.

        Few names are a condition of the query. Many would make it slow to read, so the best rows of all videos are
        fetched and those of others passed over; only when that takes too many rows are the names a condition after all.
        Where a filter or the names leave little, it is compared whole.
        """
        partitions, needed = self.partitions(), _RESCORED_PER_TOP * top
        limit = max(_ROWS_AT_LEAST, _ROWS_PER_TOP * top)
        by_condition, exact = names.few, exact or partitions is None
        if not exact and names.chosen <= _NAMES_COMPARED:
            exact = by_condition = True
        elif not exact and condition:
            exact = self._table.count_rows(condition) <= _ROWS_COMPARED
        while True:
            search = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(limit)
            if exact:
                search = search.bypass_vector_index()
            else:
                search = search.nprobes(probes or max(1, (partitions or 1) // 2)).refine_factor(refine)
            asked = " AND ".join(part for part in (condition, names.condition if by_condition else "") if part)
            if asked:
                search = search.where(asked, prefilter=True)
            found = search.select(["video", "_distance"]).to_arrow()["video"].to_pylist()
            distinct = [video for video in dict.fromkeys(found) if by_condition or names.admit(video)]
            if len(distinct) >= needed:
                return distinct
            if len(found) < limit:  # there are no more rows in what was read
                if exact or not (condition or names.some):
                    return distinct
                exact = by_condition = True  # what is looked for may lie where the search index was not read
                continue
            limit *= 4
            by_condition = by_condition or limit > _ROWS_AT_MOST

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

    def partitions(self) -> int | None:
        """The number of partitions of the search index; None when there is none yet."""
        for index in self._table.list_indices():
            if index.columns == ["vector"]:
                rows = self._table.index_stats(index.name).num_indexed_rows
                return int(2 ** max(4, round(np.log2(max(rows, 1) / _ROWS_PER_PARTITION))))
        return None


def _there_already(video: str) -> InvalidInput:
    return InvalidInput(
        f"the video {video!r} is there already",
        remedy="Give each video once; `replace` puts it in place of what is there.",
    )


def _connect(uri: str | PathLike[str], options: dict[str, Any]) -> Any:
    os.environ.setdefault("LANCE_LOG", "error")  # it would print a warning for every table that it makes
    try:
        import lancedb  # an optional extra
    except ImportError as error:
        raise MissingExtra(
            "the store for large collections needs LanceDB, which is not installed",
            remedy='Run: pip install "trifocal[scale]".',
        ) from error
    # At once: what another process commits is seen at the next call.
    return lancedb.connect(os.fspath(uri), **{"read_consistency_interval": timedelta(0), **options})


def _tables(database: Any) -> list[str]:
    return list(database.list_tables().tables)
