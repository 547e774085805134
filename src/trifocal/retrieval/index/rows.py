"""Items as rows of an Arrow table and back, and filters as conditions on its columns; what `store` keeps.

    video, stamp, folder: text · k: int32 · dated_s, duration_s: float64, may be null · start_s, end_s: float32
    vector: D float16

The schema's metadata names the encoder, the width and the version of this layout.
"""

from __future__ import annotations

import json
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput, LibraryDamaged
from trifocal.retrieval.index.interface import IndexItem, VideoFacts, VideoFilter
from trifocal.retrieval.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "FACTS",
    "Names",
    "about_of",
    "admitted",
    "batch_of",
    "batches_of",
    "item_of",
    "named",
    "prototypes_of",
    "schema_of",
    "split_videos",
]

FACTS = ("folder", "dated_s", "duration_s")

_KEY, _FORMAT, _VERSION = b"trifocal", "trifocal-prototypes", 1
_VIDEOS_PER_BATCH = 1024
# More names than this are better looked up among the rows of a query than written into it.
_NAMES_IN_A_CONDITION = 200
_REBUILD = "Build the index again from the library's prototypes."


def schema_of(encoder: str, dim: int) -> Any:
    """The Arrow schema of an index."""
    import pyarrow as pa  # an optional extra; `store` has found LanceDB, which needs it

    about = {"format": _FORMAT, "version": _VERSION, "encoder": encoder, "dim": dim}
    text, number, second = pa.string(), pa.float64(), pa.float32()
    columns = {"video": text, "k": pa.int32(), "stamp": text, "folder": text, "dated_s": number}
    columns |= {"duration_s": number, "start_s": second, "end_s": second, "vector": pa.list_(pa.float16(), dim)}
    return pa.schema(list(columns.items()), metadata={_KEY: json.dumps(about, sort_keys=True).encode()})


def about_of(schema: Any, where: str) -> tuple[str, int]:
    """The encoder's id and the width that a schema speaks of.

    Raises:
        LibraryDamaged: it is not one of ours.
        InvalidInput: a later version of Trifocal wrote it.
    """
    try:
        about = json.loads((schema.metadata or {})[_KEY])
        version, encoder, dim = about["version"], about["encoder"], about["dim"]
        known = about["format"] == _FORMAT and isinstance(encoder, str) and schema.field("vector").type.list_size == dim
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LibraryDamaged(f"the table in {where} is no index ({error})", remedy=_REBUILD) from error
    if version != _VERSION:
        raise InvalidInput(f"the index in {where} has version {version}", remedy="Update Trifocal.")
    if not known:
        raise LibraryDamaged(f"the table in {where} is no index", remedy=_REBUILD)
    return encoder, dim


def batch_of(items: list[IndexItem], schema: Any) -> Any:
    """Items as one table."""
    import pyarrow as pa

    counts = [len(item.prototypes) for item in items]
    vectors = np.concatenate([item.prototypes.vectors for item in items])  # (N, D)
    spans = np.concatenate([item.prototypes.spans_s for item in items])

    def each(values: Iterable[Any]) -> list[Any]:
        return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]

    columns = {
        "video": pa.array(each(item.video for item in items), pa.string()),
        "k": pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
        "stamp": pa.array(each(item.stamp for item in items), pa.string()),
        "folder": pa.array(each(item.facts.folder for item in items), pa.string()),
        "dated_s": pa.array(each(item.facts.dated_s for item in items), pa.float64()),
        "duration_s": pa.array(each(item.facts.duration_s for item in items), pa.float64()),
        "start_s": pa.array(spans[:, 0]),
        "end_s": pa.array(spans[:, 1]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    return pa.table(columns, schema=schema)


def batches_of(items: Iterable[IndexItem], schema: Any) -> Iterator[Any]:
    """Items as record batches, some thousand videos each."""
    source = iter(items)
    while block := list(islice(source, _VIDEOS_PER_BATCH)):
        yield from batch_of(block, schema).to_batches()


def split_videos(rows: Any) -> dict[str, Any]:
    """A table by video, each part by k."""
    videos = np.array(rows["video"].to_pylist(), dtype=object)
    if not len(videos):
        return {}
    order = np.lexsort((rows["k"].to_numpy(), videos))
    rows, videos = rows.take(order), videos[order]
    cuts = np.flatnonzero(np.append(True, videos[1:] != videos[:-1]))
    ends = np.append(cuts[1:], len(videos))
    return {str(videos[start]): rows.slice(start, end - start) for start, end in zip(cuts, ends, strict=True)}


def prototypes_of(rows: Any, dim: int, where: str) -> Prototypes:
    """The prototypes of one video's rows.

    Raises:
        LibraryDamaged: a row is missing or twice there, or holds what no prototype can be.
    """
    flat: NDArray[np.float16] = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    spans = np.stack([rows[name].to_numpy() for name in ("start_s", "end_s")], axis=1).astype(np.float32)
    if rows["k"].to_pylist() != list(range(rows.num_rows)):
        raise LibraryDamaged(
            f"the prototypes of {rows['video'][0].as_py()!r} in {where} are not complete", remedy=_REBUILD
        )
    try:
        # Copied: Arrow's memory is read-only, and torch warns of that.
        return Prototypes(vectors=flat.reshape(rows.num_rows, dim).copy(), spans_s=spans)
    except InvalidInput as error:
        raise LibraryDamaged(
            f"the prototypes of {rows['video'][0].as_py()!r} in {where} are damaged: {error.message}", remedy=_REBUILD
        ) from error


def item_of(rows: Any, dim: int, where: str) -> IndexItem:
    """One video's rows as an item."""
    first = {name: rows[name][0].as_py() for name in ("video", "stamp", *FACTS)}
    facts = VideoFacts(**{name: first[name] for name in FACTS})
    return IndexItem(first["video"], prototypes_of(rows, dim, where), facts, first["stamp"])


def named(videos: Collection[str]) -> str:
    """The condition that a row is of one of these videos."""
    return f"video IN ({', '.join(_text(video) for video in sorted(videos))})"


class Names:
    """Which videos a search looks in, by name.

    Args:
        chosen: these alone; None for all.
        without: but not these.

    Attributes:
        chosen: how many are named; infinite for all.
        some: whether anything is narrowed.
        few: whether the names fit into a condition that is quick to read.
    """

    def __init__(self, chosen: set[str] | None, without: frozenset[str]) -> None:
        """Nothing is written out before it is asked for."""
        self._chosen, self._without = chosen, without
        self.some = chosen is not None or bool(without)
        self.chosen = math.inf if chosen is None else len(chosen)
        self.few = len(without if chosen is None else chosen) <= _NAMES_IN_A_CONDITION

    @property
    def condition(self) -> str:
        """The same as SQL; "" when all are looked in."""
        if self._chosen is not None:
            return named(self._chosen)
        return f"NOT ({named(self._without)})" if self._without else ""

    def admit(self, video: str) -> bool:
        """Whether a video is looked in."""
        return video in self._chosen if self._chosen is not None else video not in self._without


def admitted(where: VideoFilter | None) -> str:
    """The condition that a filter admits a row's video; "" when it admits all."""
    if where is None:
        return ""
    conditions = []
    if where.folder is not None:
        folder = where.folder.rstrip("/")
        conditions.append(f"(folder = {_text(folder)} OR starts_with(folder, {_text(folder + '/')}))")
    for column, sign, value in (
        ("dated_s", ">=", where.after_s),
        ("dated_s", "<", where.before_s),
        ("duration_s", ">=", where.shortest_s),
        ("duration_s", "<=", where.longest_s),
    ):
        if value is not None:
            conditions.append(f"{column} {sign} {float(value)!r}")
    return " AND ".join(conditions)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
