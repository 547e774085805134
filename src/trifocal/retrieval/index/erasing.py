"""Taking videos out of a LanceDB table so that no byte of them is left, without writing the rest of it anew.

A deletion in Lance hides rows; their bytes stay in the data files, and their codes in the search index, until a file is
compacted, which happens to files of which more than a tenth is hidden. So one commit hides the rows that are to go and
writes a good tenth of each file concerned again: the next compaction must then take those files, and takes the hidden
rows out of the search index as well, which is not trained again. A process killed after that commit has left nothing
but the compaction to do, which any later `sweep` does.
"""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

__all__ = ["hide_and_loosen", "sweep"]

# Lance compacts a file by itself when more than a tenth of its rows is hidden.
_SHARE = 0.11
_ADDRESS_BITS = 32
"""A row id is the number of its fragment (data file), then the row's place there."""


def hide_and_loosen(table: Any, condition: str) -> int:
    """Hide the rows of a condition, and write a tenth of the files that hold them again, in one commit.

    Args:
        table: a LanceDB table with the columns `video` and `k`, which together name a row.
        condition: SQL; what it names goes.

    Returns:
        How many rows went.
    """
    import pyarrow as pa  # comes with LanceDB

    found = table.search().where(condition).with_row_id(True).select(["video"]).to_arrow()
    if not found.num_rows:
        return 0
    columns = table.schema.names
    fragments = sorted({row >> _ADDRESS_BITS for row in found["_rowid"].to_pylist()})
    loose = pa.concat_tables(_tenth(table, fragment, condition, columns) for fragment in fragments)
    (
        table.merge_insert(["video", "k"])
        .when_matched_update_all()
        .when_not_matched_by_source_delete(condition)
        .execute(loose.cast(table.schema))
    )
    return int(found.num_rows)


def sweep(table: Any) -> None:
    """Compact what is loose, bring the search index up to date, and delete all files that only older states need.

    Other processes must not be writing meanwhile; readers in the middle of a query may have to repeat it.
    """
    with warnings.catch_warnings():  # it warns of what is wanted here
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(2):  # the first brings the index up to date after it has deleted, so its old one is still there
            table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def _tenth(table: Any, fragment: int, condition: str, columns: list[str]) -> Any:
    """Rows of a fragment that stay, enough of them to loosen it."""
    own = f"_rowid >= {fragment << _ADDRESS_BITS} AND _rowid < {(fragment + 1) << _ADDRESS_BITS}"
    most = int(table.count_rows(own) * _SHARE) + 1
    return table.search().where(f"{own} AND NOT ({condition})").select(columns).limit(most).to_arrow()
