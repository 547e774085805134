"""Which videos of a LanceDB table may be the best for a query: its search index, and how far that is trusted.

A table of few rows is compared whole. From 100,000 rows on it gets an inverted file over residual binary codes
(IVF_RQ), of which a query reads some partitions. That index was made for all videos: where a filter or a list of names
leaves little, what is left is compared whole instead. What comes out is where to look; `store` scores it exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.index.rows import Names

__all__ = ["build_search_index", "candidates", "partitions_of"]

# Below these many rows, comparing all of them is quick enough, and nothing has to be trained.
_INDEX_FROM_ROWS = 100_000
_ROWS_PER_PARTITION = 5000
# Rows that the first pass brings, at least: some thirty prototypes of each of the best videos.
_ROWS_AT_LEAST, _ROWS_PER_TOP = 300, 30
# Videos that are scored again for each one that is asked for: those behind could only change places among themselves.
_RESCORED_PER_TOP = 2
# Rows that are looked through for those of many videos; beyond, the names become a condition.
_ROWS_AT_MOST = 50_000
# What a filter or a list of names leaves is compared whole up to here: the search index, which was made for all, reads
# too little of it to find the best.
_ROWS_COMPARED, _NAMES_COMPARED = 200_000, 3_000


def build_search_index(table: Any) -> None:
    """Train the search index of a LanceDB table that has none and is large enough for one.

    Rows that are added afterwards get into it when the table is optimized; until then they are compared one by one.
    """
    from lancedb.index import BTree, IvfRq  # an optional extra

    rows = table.count_rows()
    if rows >= _INDEX_FROM_ROWS and partitions_of(table) is None:
        table.create_index("vector", config=IvfRq(distance_type="dot", num_partitions=_partitions(rows)))
        table.create_index("video", config=BTree())


def partitions_of(table: Any) -> int | None:
    """The number of partitions of a table's search index; None when there is none yet."""
    for index in table.list_indices():
        if index.columns == ["vector"]:
            return _partitions(max(table.index_stats(index.name).num_indexed_rows, 1))
    return None


def candidates(
    table: Any,
    vector: NDArray[np.float32],
    *,
    condition: str,
    names: Names,
    top: int,
    probes: int | None,
    refine: int,
    exact: bool,
) -> list[str]:
    """Videos by falling best row: twice as many as are asked for, or all where there are fewer.

    Few names are a condition of the query. Many would make it slow to read, so the best rows of all videos are
    fetched and those of others passed over; only when that takes too many rows are the names a condition after all.
    Where a filter or the names leave little, it is compared whole.

    Args:
        table: the LanceDB table, with the columns `video` and `vector`.
        vector: (D,), a unit vector.
        condition: SQL that a row must meet; "" for none.
        names: which videos are looked in.
        top: how many are asked for.
        probes: how many partitions are read; half of them by default.
        refine: how many times as many hits are compared exactly as are fetched.
        exact: compare all rows instead.
    """
    partitions, needed = partitions_of(table), _RESCORED_PER_TOP * top
    limit = max(_ROWS_AT_LEAST, _ROWS_PER_TOP * top)
    by_condition, exact = names.few, exact or partitions is None
    if not exact and names.chosen <= _NAMES_COMPARED:
        exact = by_condition = True
    elif not exact and condition:
        exact = table.count_rows(condition) <= _ROWS_COMPARED
    while True:
        search = table.search(vector, vector_column_name="vector").distance_type("dot").limit(limit)
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
            return distinct[:needed]
        if len(found) < limit:  # there are no more rows in what was read
            if exact or not (condition or names.some):
                return distinct
            exact = by_condition = True  # what is looked for may lie where the search index was not read
            continue
        limit *= 4
        by_condition = by_condition or limit > _ROWS_AT_MOST


def _partitions(rows: int) -> int:
    """A power of two with some 5000 rows in each."""
    return int(2 ** max(4, round(np.log2(rows / _ROWS_PER_PARTITION))))
