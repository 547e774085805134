"""An exact index: every prototype of every video in one memory-mapped half-precision matrix.

A search reads all of it, twice as fast as an exact product would: first in half precision as it lies there, which
leaves the few videos that the rounding (bounded, `_coarse_error`) cannot rule out; those are widened to float32 and
scored exactly. Nothing is approximate, no index is trained, and 10,000 videos take some 20 ms on one core (see
`trifocal.bench.search`); for collections too large for that there are approximate stores. `index_files` says how the
files are written and swapped. Torch is imported at the first search, not with the module.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged, NotInLibrary
from trifocal.retrieval.index_files import REBUILD, Manifest, file_sha256, read_manifest, write_index
from trifocal.retrieval.moment import Moment, pick_moments
from trifocal.retrieval.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ExactIndex"]

# Rows widened at a time: 4096 x 384 x 4 bytes fit the second-level cache's order of size, and were fastest of 256 to
# 16384 (bench/search). Wider vectors get fewer rows, so that the buffer stays at about 6 MB.
_BLOCK_NUMBERS = 4096 * 384
# Sums taken in another order differ in the last bits; scores that agree to this many decimals are ties.
_DECIMALS = 6
# A writer may delete the files of the manifest just read; then there is a newer manifest to read.
_READ_TRIES = 5


class ExactIndex:
    """Prototypes of many videos, searched exactly. Make one with `build` or `open`; it never changes after.

    Attributes:
        folder: where its files lie.
        encoder: the id of the encoder that made the vectors.
        dim: D, their width.
        videos: the ids, sorted.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, vectors: NDArray[np.float16], spans_s: NDArray[np.float32], rows: Any
    ) -> None:
        """Use `open` or `build` instead."""
        self.folder, self.manifest = folder, manifest
        self.encoder, self.dim = manifest.encoder, manifest.dim
        self._vectors, self._spans_s = vectors, spans_s
        self.videos: tuple[str, ...] = tuple(rows["ids"])
        self._starts = np.asarray(rows["rows"], dtype=np.int64)
        self._ends = np.append(self._starts[1:], len(vectors)).astype(np.int64)
        self._place = {video: place for place, video in enumerate(self.videos)}

    def __len__(self) -> int:
        """How many videos."""
        return len(self.videos)

    def __contains__(self, video: object) -> bool:
        """Whether the video is in it."""
        return video in self._place

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        return f"ExactIndex({len(self)} videos, vectors=float16 {self._vectors.shape}, encoder={self.encoder!r})"

    @classmethod
    def build(
        cls,
        folder: str | PathLike[str],
        items: Iterable[tuple[str, Prototypes]],
        *,
        encoder: str,
        dim: int,
    ) -> ExactIndex:
        """Write an index of all `items`, in place of the one in `folder` if there is one, and open it.

        The same items give the same files, byte for byte. One process may write at a time (the library sees to that);
        any number may read meanwhile.

        Args:
            folder: made when missing.
            items: pairs of video id and prototypes, sorted by id, each id once. May be a generator, also one over
                the index that is about to be replaced (`items`).
            encoder: the id of the encoder that made them (`FrameTextEncoder.id`).
            dim: D; given, because an empty index has one too.

        Raises:
            InvalidInput: an id twice or out of order, prototypes of another width, an empty encoder id.
        """
        if not encoder:
            raise InvalidInput("the encoder's id is empty", remedy="Give `FrameTextEncoder.id`.")
        if type(dim) is not int or dim < 1:
            raise InvalidInput(f"dim is {dim!r}", remedy="Give a whole number of at least 1.")
        write_index(Path(folder), items, encoder=encoder, dim=dim)
        return cls.open(folder, encoder=encoder)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, encoder: str | None = None) -> ExactIndex:
        """Map the index of a folder into memory.

        Sizes and shapes are checked, and the hashes of the small files; `verify` checks the vectors' too.

        Args:
            folder: where `build` wrote it.
            encoder: the id of the encoder that the queries will come from; None leaves that to the caller.

        Raises:
            LibraryNotFound: no index there.
            LibraryDamaged: its files are missing, or contradict the manifest or each other.
            EncoderMismatch: another encoder made it.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        for attempt in range(_READ_TRIES):
            try:
                parts = _read_parts(folder, manifest)
                break
            except FileNotFoundError as error:
                newer = read_manifest(folder)
                if newer == manifest or attempt == _READ_TRIES - 1:
                    raise LibraryDamaged(f"{error.filename} is missing", remedy=REBUILD) from error
                manifest = newer
        if encoder is not None and encoder != manifest.encoder:
            raise EncoderMismatch(
                f"the index in {folder} was made by the encoder {manifest.encoder}, not by {encoder}",
                remedy="Search with the encoder that made it, or add the videos again to a new library.",
            )
        return cls(folder, manifest, *parts)

    def prototypes(self, video: str) -> Prototypes:
        """The prototypes of one video, copied out of the map.

        Raises:
            NotInLibrary: no such video.
        """
        start, end = self._range(video)
        return Prototypes(vectors=np.array(self._vectors[start:end]), spans_s=np.array(self._spans_s[start:end]))

    def items(self, *, without: Collection[str] = ()) -> Iterator[tuple[str, Prototypes]]:
        """All videos with their prototypes, sorted by id, leaving out some: what `build` takes."""
        return ((video, self.prototypes(video)) for video in self.videos if video not in without)

    def scores(self, queries: ArrayLike) -> NDArray[np.float32]:
        """The score of each video for each query: the maximum over its prototypes of the cosine.

        Args:
            queries: (Nq, D), unit vectors.

        Returns:
            float32 (Nq, number of videos), in the order of `videos`, rounded to six decimals.

        Raises:
            InvalidInput: a wrong width, values that are not finite, vectors that are not of unit length.
            LibraryDamaged: the stored vectors give scores that are not finite.
        """
        per_row = self._row_scores(self._queries(queries), self._vectors)
        if not len(self):
            return per_row  # (Nq, 0)
        return np.maximum.reduceat(per_row, self._starts, axis=1)  # (Nq, Nv)

    def search(
        self,
        query: ArrayLike,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        tolerance: float = 0.02,
        share: float = 0.5,
        videos: Iterable[str] | None = None,
    ) -> list[Moment]:
        """The best moments for a query.

        Args:
            query: (D,), a unit vector from the same encoder.
            top: how many moments at most.
            moments_per_video: how many of them may come from one video.
            tolerance: together with `share`, how much worse a neighbouring prototype may score and still belong to a
                moment; see `pick_moments`.
            share: see there.
            videos: search these alone; None searches all.

        Returns:
            At most `top` moments, to the millisecond, by falling score; ties by video id, then start. Exact: no other
            moment scores more.

        Raises:
            InvalidInput: a query that does not fit, a count below 1.
            NotInLibrary: `videos` names one that is not here.
            LibraryDamaged: the stored vectors give scores that are not finite.
        """
        for name, count in (("top", top), ("moments_per_video", moments_per_video)):
            if type(count) is not int or count < 1:
                raise InvalidInput(f"{name} is {count!r}", remedy="Give a whole number of at least 1.")
        vector = np.asarray(query, dtype=np.float32)
        if vector.ndim != 1:
            raise InvalidInput(f"the query has the shape {vector.shape}", remedy=f"Give one vector, ({self.dim},).")
        asked = self._queries(vector[None])
        if videos is None:
            places = self._shortlist(asked[0], top)
        else:
            places = np.array(sorted({self._range_place(video) for video in videos}), dtype=np.int64)
        if not len(places):
            return []
        rows = np.concatenate([np.arange(self._starts[place], self._ends[place]) for place in places])
        spans_s = self._spans_s[rows]
        ends = np.cumsum(self._ends[places] - self._starts[places])
        starts = np.append(0, ends[:-1])
        per_row = self._row_scores(asked, self._vectors[rows])[0]  # (rows of the places,)
        best = np.maximum.reduceat(per_row, starts)  # (places,)
        # Every one of the best `top` videos gives a moment at least as good as any moment of the others. Places are
        # sorted by id and the sort is stable, so that equal scores stay in the order of the ids.
        chosen = np.argsort(-best, kind="stable")[:top].tolist()
        moments = [
            Moment(self.videos[places[i]], round(start, 3), round(end, 3), round(score, _DECIMALS))
            for i in chosen
            for start, end, score in pick_moments(
                per_row[starts[i] : ends[i]],
                spans_s[starts[i] : ends[i]],
                count=moments_per_video,
                tolerance=tolerance,
                share=share,
            )
        ]
        return sorted(moments, key=Moment.sort_key)[:top]

    def verify(self) -> None:
        """Hash every file again; reads all of the index.

        Raises:
            LibraryDamaged: something differs from what was written.
        """
        for stored in self.manifest.files.values():
            path = self.folder / stored.name
            try:
                found = file_sha256(path)
            except OSError as error:
                raise LibraryDamaged(f"{path} cannot be read ({type(error).__name__})", remedy=REBUILD) from error
            if found != stored.sha256:
                raise LibraryDamaged(f"{path} has the SHA-256 {found}, not {stored.sha256}", remedy=REBUILD)

    def _range_place(self, video: str) -> int:
        place = self._place.get(video)
        if place is None:
            raise NotInLibrary(f"{video!r} is not in the index", remedy="See `videos` for what is.")
        return place

    def _range(self, video: str) -> tuple[int, int]:
        place = self._range_place(video)
        return int(self._starts[place]), int(self._ends[place])

    def _queries(self, queries: ArrayLike) -> NDArray[np.float32]:
        rows = np.asarray(queries, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise InvalidInput(
                f"queries have the shape {rows.shape}, the index has vectors of {self.dim}",
                remedy="Encode the query with the encoder of the index.",
            )
        lengths = np.linalg.norm(rows, axis=1)
        if not (np.abs(lengths - 1) < 1e-3).all():  # false for NaN as well
            raise InvalidInput(f"queries have lengths {np.round(lengths[:8], 4).tolist()}", remedy="Give unit vectors.")
        return rows

    def _shortlist(self, query: NDArray[np.float32], top: int) -> NDArray[np.int64]:
        """The videos, in order, that may be among the best `top`: all but those that surely are not.

        `top` videos score at least the `top`-th coarse score less the error, so a video whose coarse score is below
        that by another error cannot be one of the best.
        """
        if len(self) <= top:
            return np.arange(len(self))
        import torch  # heavy, and not needed to build or list an index

        half = query.astype(np.float16)
        # One product over the whole matrix: threads meet once, however busy the machine is.
        coarse = torch.mv(torch.from_numpy(self._vectors), torch.from_numpy(half)).numpy()  # float16 (N,)
        best = np.maximum.reduceat(coarse.astype(np.float32), self._starts)
        if not np.isfinite(best).all():
            raise LibraryDamaged(f"the vectors in {self.folder} are not finite", remedy=REBUILD)
        return np.flatnonzero(best >= np.partition(best, -top)[-top] - 2 * _coarse_error(query))

    def _row_scores(self, queries: NDArray[np.float32], vectors: NDArray[np.float16]) -> NDArray[np.float32]:
        """(Nq, N): the cosine with every prototype, rounded."""
        import torch

        scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
        matrix, query = torch.from_numpy(vectors), torch.from_numpy(queries)
        block = max(1, _BLOCK_NUMBERS // self.dim)
        wide = torch.empty((min(block, len(matrix)), self.dim), dtype=torch.float32)
        for start in range(0, len(matrix), block):
            rows = matrix[start : start + block]
            part = wide[: len(rows)].copy_(rows)
            scores[:, start : start + len(rows)] = (query @ part.T).numpy()
        if not np.isfinite(scores).all():
            raise LibraryDamaged(f"the vectors in {self.folder} are not finite", remedy=REBUILD)
        return np.round(scores, _DECIMALS)


def _coarse_error(query: NDArray[np.float32]) -> float:
    """How far a half-precision score of a unit vector may lie from the exact one.

    The query's own rounding, times the longest vector that `Prototypes` lets through; the sum in float32 (dim × 2⁻²⁴);
    the result's rounding to half precision below 2 (2⁻¹¹); and the six decimals of the exact score.
    """
    lost = float(np.linalg.norm(query.astype(np.float64) - query.astype(np.float16)))
    return 1.005 * lost + len(query) * 2.0**-24 + 2.0**-11 + 10.0**-_DECIMALS


def _read_parts(folder: Path, manifest: Manifest) -> tuple[NDArray[np.float16], NDArray[np.float32], Any]:
    """The arrays and the list of videos, each checked; FileNotFoundError when a file is gone."""
    for stored in manifest.files.values():
        path = folder / stored.name
        size = path.stat().st_size
        if size != stored.bytes:
            raise LibraryDamaged(f"{path} has {size} bytes, not {stored.bytes}", remedy=REBUILD)
    names = {kind: folder / stored.name for kind, stored in manifest.files.items()}
    for kind in ("spans", "videos"):
        if file_sha256(names[kind]) != manifest.files[kind].sha256:
            raise LibraryDamaged(f"{names[kind]} is not what was written", remedy=REBUILD)
    try:
        # Copy-on-write, never written: torch warns of arrays that are read-only.
        mode: Any = "c" if manifest.prototypes else None
        vectors = np.load(names["vectors"], mmap_mode=mode, allow_pickle=False)
        spans = np.load(names["spans"], allow_pickle=False)
        rows = json.loads(names["videos"].read_bytes())
    except ValueError as error:
        raise LibraryDamaged(f"the index in {folder} cannot be read: {error}", remedy=REBUILD) from error
    wanted = ((manifest.prototypes, manifest.dim), np.float16, (manifest.prototypes, 2), np.float32)
    if (vectors.shape, vectors.dtype, spans.shape, spans.dtype) != wanted:
        raise LibraryDamaged(
            f"the index in {folder} holds {vectors.dtype} {vectors.shape} and {spans.dtype} {spans.shape}",
            remedy=REBUILD,
        )
    bounds = np.append(np.asarray(rows["rows"], dtype=np.int64), manifest.prototypes)
    counted = len(rows["ids"]) == manifest.videos and len(bounds) == manifest.videos + 1
    if not counted or bounds[0] != 0 or (np.diff(bounds) < 1).any():
        raise LibraryDamaged(f"the list of videos in {folder} does not fit its prototypes", remedy=REBUILD)
    return vectors, spans, rows
