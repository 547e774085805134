"""A segment: some of an index's videos in files that never change, mapped into memory and scored.

`write_segment` streams items to the disk until a segment is full; `Segment` opens one and gives scores (`scoring`): of
all videos or some in half precision or from codes (`coarse`), of all for several queries (`wide`), of the rows of one
video exactly (`rows`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput, LibraryDamaged
from trifocal.retrieval.index.codes import Codes, coarse_scores, code_shape, make_codes
from trifocal.retrieval.index.files import NPY_HEADER_BYTES, REBUILD, StoredSegment, file_sha256, npy_header, store_file
from trifocal.retrieval.index.interface import IndexItem, VideoFacts, check_item
from trifocal.retrieval.index.scoring import check_finite, exact_scores, half_scores, wide_scores
from trifocal.retrieval.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

__all__ = ["Segment", "write_segment"]

_FACTS = tuple(entry.name for entry in fields(VideoFacts))


class Segment:
    """The videos of one segment, opened.

    Args:
        folder: the index's.
        stored: its files.
        dim: D.
        codes: the kinds of codes it has.

    Raises:
        FileNotFoundError: a file is gone.
        LibraryDamaged: the files contradict the manifest or each other.
    """

    def __init__(self, folder: Path, stored: StoredSegment, *, dim: int, codes: tuple[str, ...]) -> None:
        """Map the files; sizes, shapes and the hashes of the small files are checked."""
        self.folder, self.stored, self.dim = folder, stored, dim
        paths = {kind: folder / file.name for kind, file in stored.files.items()}
        for kind, file in stored.files.items():
            size = paths[kind].stat().st_size
            if size != file.bytes:
                raise LibraryDamaged(f"{paths[kind]} has {size} bytes, not {file.bytes}", remedy=REBUILD)
            if kind in ("spans", "videos") and file_sha256(paths[kind]) != file.sha256:
                raise LibraryDamaged(f"{paths[kind]} is not what was written", remedy=REBUILD)
        count = stored.prototypes
        self.vectors: NDArray[np.float16] = _mapped(paths["vectors"], (count, dim), np.dtype(np.float16))
        self.spans_s: NDArray[np.float32] = _mapped(paths["spans"], (count, 2), np.dtype(np.float32), keep=False)
        self._codes: dict[str, Any] = {}
        for kind in codes:
            self._codes[kind] = _mapped(paths[kind], *code_shape(_kind(kind), count, dim))
        try:
            rows = json.loads(paths["videos"].read_bytes())
            self.videos: tuple[str, ...] = tuple(rows["ids"])
            self.starts = np.asarray(rows["rows"], dtype=np.int64)
            unknown: list[None] = [None] * len(self.videos)
            self._facts = {"folder": [""] * len(unknown), "dated_s": unknown, "duration_s": unknown} | rows.get(
                "facts", {}
            )
            self.stamps: tuple[str, ...] = tuple(rows.get("stamps", [""] * len(self.videos)))
        except (ValueError, TypeError, KeyError) as error:
            raise LibraryDamaged(f"{paths['videos']} cannot be read: {error}", remedy=REBUILD) from error
        bounds = np.append(self.starts, count)
        lengths = {len(self.videos), len(self.starts), len(self.stamps), *map(len, self._facts.values())}
        counted = lengths == {stored.videos}
        if not counted or bounds[0] != 0 or (np.diff(bounds) < 1).any():
            raise LibraryDamaged(f"the list of videos in {folder} does not fit its prototypes", remedy=REBUILD)
        self.ends = bounds[1:]

    @cached_property
    def facts(self) -> tuple[VideoFacts, ...]:
        """The facts of each video; made when a filter first asks."""
        try:
            rows = zip(*(self._facts[name] for name in _FACTS), strict=True)
            return tuple(VideoFacts(**dict(zip(_FACTS, row, strict=True))) for row in rows)
        except (KeyError, TypeError, InvalidInput) as error:
            raise LibraryDamaged(f"the facts of the videos in {self.folder} are not usable", remedy=REBUILD) from error

    def item(self, place: int) -> IndexItem:
        """One video, copied out of the map."""
        rows = slice(int(self.starts[place]), int(self.ends[place]))
        prototypes = Prototypes(vectors=np.array(self.vectors[rows]), spans_s=np.array(self.spans_s[rows]))
        return IndexItem(self.videos[place], prototypes, self.facts[place], self.stamps[place])

    def coarse(
        self, query: NDArray[np.float32], *, codes: Codes | None = None, places: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """The score of each video, float32 (videos,): in half precision, or estimated from codes.

        In half precision each is within `half_error` of the exact one; then `places` may say which videos, ascending:
        their vectors are copied together.
        """
        starts = self.starts
        if codes is not None:
            rough = coarse_scores(codes, self._codes[codes], query)
        elif places is None:
            rough = half_scores(query, self.vectors)
        else:
            counts = self.ends[places] - starts[places]
            ends = np.cumsum(counts)
            rows = np.repeat(starts[places] - (ends - counts), counts) + np.arange(ends[-1])
            rough, starts = half_scores(query, self.vectors[rows]), ends - counts
        best: NDArray[np.float32] = np.maximum.reduceat(rough, starts)
        check_finite(best, folder=self.folder)
        return best

    def wide(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The score of each video for each query, float32 (Nq, videos), within `wide_error` of the exact one."""
        scores = wide_scores(queries, self.vectors, folder=self.folder)
        best: NDArray[np.float32] = np.maximum.reduceat(scores, self.starts, axis=1)
        return best

    def rows(self, query: NDArray[np.float32], place: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The exact score of each row of one video, float64 (K,), and what they span in seconds, (K, 2)."""
        rows = slice(int(self.starts[place]), int(self.ends[place]))
        return exact_scores(query, self.vectors[rows], folder=self.folder), self.spans_s[rows]


def write_segment(
    folder: Path, items: Iterator[IndexItem], *, dim: int, codes: tuple[str, ...], most_rows: int, after: str | None
) -> tuple[StoredSegment, str] | None:
    """Write the next items, sorted by id, as one segment; it holds at least one video, and about `most_rows` rows.

    The vectors go straight to the disk, in the order they come, so memory holds one video at a time.

    Args:
        folder: the index's.
        items: pulled until the segment is full.
        dim: D.
        codes: the kinds of codes to write beside the vectors.
        most_rows: after these many the segment is full.
        after: the id that the first one has to come behind; None when any is first.

    Returns:
        The segment, and its last id; None when there was no item left.

    Raises:
        InvalidInput: an id twice, out of order or not a string, or prototypes of another width.
    """
    ids: list[str] = []
    rows: list[int] = []
    spans: list[NDArray[np.float32]] = []
    facts: list[dict[str, Any]] = []
    stamps: list[str] = []
    total = 0

    def write_vectors(file: BinaryIO) -> None:
        nonlocal total
        file.write(b"\0" * NPY_HEADER_BYTES)
        last = after
        while total < most_rows and (item := next(items, None)) is not None:
            check_item(item, dim=dim, after=last or "")
            file.write(np.ascontiguousarray(item.prototypes.vectors, dtype="<f2").data)
            last = item.video
            ids.append(item.video)
            rows.append(total)
            spans.append(item.prototypes.spans_s)
            facts.append(asdict(item.facts))
            stamps.append(item.stamp)
            total += len(item.prototypes)
        file.seek(0)
        file.write(npy_header((total, dim)))

    def write_spans(file: BinaryIO) -> None:
        np.save(file, np.concatenate(spans).astype("<f4"), allow_pickle=False)

    def write_videos(file: BinaryIO) -> None:
        columns = {name: [entry[name] for entry in facts] for name in _FACTS}
        table = {"ids": ids, "rows": rows, "facts": columns, "stamps": stamps}
        file.write(json.dumps(table, ensure_ascii=False).encode())

    vectors = store_file(folder, "vectors", ".npy", write_vectors)
    if not ids:
        (folder / vectors.name).unlink()
        return None
    files = {
        "vectors": vectors,
        "spans": store_file(folder, "spans", ".npy", write_spans),
        "videos": store_file(folder, "videos", ".json", write_videos),
    }
    for kind in codes:
        written = np.load(folder / vectors.name, mmap_mode="r", allow_pickle=False)
        files[kind] = store_file(folder, kind, ".npy", _saver(make_codes(_kind(kind), written)))
    return StoredSegment(videos=len(ids), prototypes=total, files=files), ids[-1]


def _saver(array: NDArray[Any]) -> Callable[[BinaryIO], None]:
    return lambda file: np.save(file, array, allow_pickle=False)


def _kind(name: str) -> Codes:
    if name == "binary":
        return "binary"
    if name == "int8":
        return "int8"
    raise InvalidInput(f"codes are {name!r}", remedy="Give int8 or binary.")


def _mapped(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], *, keep: bool = True) -> Any:
    try:
        # Copy-on-write, never written: torch warns of arrays that are read-only.
        array = np.load(path, mmap_mode="c" if keep else None, allow_pickle=False)
    except ValueError as error:
        raise LibraryDamaged(f"{path} cannot be read: {error}", remedy=REBUILD) from error
    if array.shape != shape or array.dtype != dtype:
        raise LibraryDamaged(f"{path} holds {array.dtype} {array.shape}, not {dtype} {shape}", remedy=REBUILD)
    return array
