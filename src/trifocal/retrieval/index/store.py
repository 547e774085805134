"""The engine for large collections: LanceDB, one row per prototype, on a disk, on object storage or behind a server.

The address decides which: a folder, `s3://...` or another storage that LanceDB knows, `db://...` for its server. Up to
some hundred thousand prototypes every row is compared; beyond, `optimize` builds an inverted file over residual binary
codes (IVF_RQ), whose hits are refined, gathered by video, and scored again exactly from the stored vectors.
`recall` says what that costs against comparing everything. Needs the extra `scale`. The verbs that read are in
`store_view`, those that write here.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryNotFound, MissingExtra, NotInLibrary
from trifocal.retrieval.index.candidates import build_search_index
from trifocal.retrieval.index.erasing import hide_and_loosen, sweep
from trifocal.retrieval.index.interface import IndexItem, as_items, check_count, check_item
from trifocal.retrieval.index.rows import batch_of, batches_of, named, schema_of
from trifocal.retrieval.index.store_view import StoreView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

__all__ = ["StoreIndex"]

TABLE = "prototypes"


class StoreIndex(StoreView):
    """Prototypes of many videos in a LanceDB table. Make one with `create` or `open`; implements `PrototypeIndex`.

    Every change is one commit of the table; readers see it at their next call. Several processes, also on several
    machines, may write at once: LanceDB puts their commits in order. The verbs that read are those of `StoreView`.

    Attributes:
        uri: where it is.
        encoder: the id of the encoder that made the vectors.
        dim: D, their width.
    """

    def __init__(self, uri: str, database: Any, table: Any) -> None:
        """Use `create` or `open` instead."""
        super().__init__(uri, table)
        self._name, self._database = str(table.name), database

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
        build_search_index(self._table)
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
