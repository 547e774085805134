"""A segment: some of an index's videos in files that never change, mapped into memory and scored.

`write_segment` streams items to the disk until a segment is full; `Segment` opens one and gives scores: of every
vector in half precision as they lie there (`coarse`, with a bound on the error), of every vector from codes, or of some
videos exactly (`row_scores`).
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
from trifocal.retrieval.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

__all__ = ["DECIMALS", "Segment", "coarse_error", "exact_scores", "write_segment"]

DECIMALS = 6
"""Sums taken in another order differ in the last bits; scores that agree to this many decimals are ties."""

# Rows widened at a time: 4096 x 384 x 4 bytes fit the second-level cache's order of size, and were fastest of 256 to
# 16384 (bench/search). Wider vectors get fewer rows, so that the buffer stays at about 6 MB.
_BLOCK_NUMBERS = 4096 * 384
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

    def coarse(self, query: NDArray[np.float32], *, codes: Codes | None = None) -> NDArray[np.float32]:
        """The score of each video, float32 (videos,): in half precision, or estimated from codes.

        In half precision each is within `coarse_error` of the exact one.
        """
        import torch  # heavy, and not needed to build or list an index

        if codes is not None:
            rough = coarse_scores(codes, self._codes[codes], query)
        else:
            # One product over the whole matrix: threads meet once, however busy the machine is.
            half = torch.from_numpy(query.astype(np.float16))
            rough = torch.mv(torch.from_numpy(self.vectors), half).numpy().astype(np.float32)
        best: NDArray[np.float32] = np.maximum.reduceat(rough, self.starts)
        if not np.isfinite(best).all():
            raise LibraryDamaged(f"the vectors in {self.folder} are not finite", remedy=REBUILD)
        return best

    def rows_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some videos, video after video."""
        counts = self.ends[places] - self.starts[places]
        first = np.repeat(self.starts[places] - np.append(0, np.cumsum(counts)[:-1]), counts)
        rows: NDArray[np.int64] = first + np.arange(int(counts.sum()))
        return rows

    def best(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact score of each video for each query, float32 (Nq, videos)."""
        scores = exact_scores(queries, self.vectors, folder=self.folder)
        best: NDArray[np.float32] = np.maximum.reduceat(scores, self.starts, axis=1)
        return best


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


def exact_scores(queries: NDArray[np.float32], vectors: NDArray[np.float16], *, folder: object) -> NDArray[np.float32]:
    """(Nq, N): the cosine of each query with each vector in float32, rounded to `DECIMALS`.

    Raises:
        LibraryDamaged: a score is not finite; `folder` is named.
    """
    import torch

    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    matrix, query = torch.from_numpy(vectors), torch.from_numpy(queries)
    block = max(1, _BLOCK_NUMBERS // vectors.shape[1])
    wide = torch.empty((min(block, len(matrix)), vectors.shape[1]), dtype=torch.float32)
    for start in range(0, len(matrix), block):
        rows = matrix[start : start + block]
        part = wide[: len(rows)].copy_(rows)
        scores[:, start : start + len(rows)] = (query @ part.T).numpy()
    if not np.isfinite(scores).all():
        raise LibraryDamaged(f"the vectors in {folder} are not finite", remedy=REBUILD)
    return np.round(scores, DECIMALS)


def coarse_error(query: NDArray[np.float32]) -> float:
    """How far a half-precision score of a unit vector may lie from the exact one.

    The query's own rounding, times the longest vector that `Prototypes` lets through; the sum in float32 (dim × 2⁻²⁴);
    the result's rounding to half precision below 2 (2⁻¹¹); and the six decimals of the exact score.
    """
    lost = float(np.linalg.norm(query.astype(np.float64) - query.astype(np.float16)))
    return 1.005 * lost + len(query) * 2.0**-24 + 2.0**-11 + 10.0**-DECIMALS


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
