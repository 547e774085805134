"""The exact engine: every prototype of every video in memory-mapped half-precision files; the default.

Nothing is approximate and no index is trained. 10,000 videos take less than 50 ms on two cores
(`trifocal.bench.search`); for collections too large for that there is `StoreIndex`. The files are segments that never
change (`segment`), each change writes new ones and swaps the manifest (`files`); so removing a video rewrites its
segment, and nothing of it is left on the disk. `snapshot` searches. Torch is imported at the first search, not with the
module.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged
from trifocal.retrieval.index.codes import default_shortlist
from trifocal.retrieval.index.files import (
    CODES,
    REBUILD,
    Manifest,
    StoredSegment,
    commit_manifest,
    file_sha256,
    read_manifest,
    writing_index,
)
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
from trifocal.retrieval.index.segment import Segment, write_segment
from trifocal.retrieval.index.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from trifocal.retrieval.index.codes import Codes
    from trifocal.retrieval.moment import Moment
    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["ExactIndex"]

# A segment is full at this many numbers, 128 MiB of vectors: what a removal has to rewrite at most, and what an `add`
# holds in memory.
_SEGMENT_NUMBERS = 2**26
# More small segments than this are merged.
_SMALL_SEGMENTS = 8
# A writer may delete the files of the manifest just read; then there is a newer manifest to read.
_READ_TRIES = 5


class ExactIndex:
    """Prototypes of many videos, searched exactly. Make one with `build` or `open`; implements `PrototypeIndex`.

    An opened index is the state of one commit; another process's changes are seen after `refresh`. One process writes
    at a time, any number read meanwhile.

    Attributes:
        folder: where its files lie.
    """

    def __init__(self, folder: Path, snapshot: Snapshot, *, codes: Codes | None = None) -> None:
        """Use `open` or `build` instead."""
        self.folder = folder
        self._now = snapshot
        self._codes = codes

    @property
    def manifest(self) -> Manifest:
        """The commit that is searched."""
        return self._now.manifest

    @property
    def encoder(self) -> str:
        """The id of the encoder that made the vectors."""
        return self._now.manifest.encoder

    @property
    def dim(self) -> int:
        """D, the width of the vectors."""
        return self._now.manifest.dim

    @property
    def videos(self) -> tuple[str, ...]:
        """The ids, sorted."""
        return self._now.videos

    def __len__(self) -> int:
        """How many videos."""
        return len(self._now.ids)

    def __contains__(self, video: object) -> bool:
        """Whether the video is in it."""
        return video in self._now.place

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        shape = (self.manifest.prototypes, self.dim)
        return f"ExactIndex({len(self)} videos, vectors=float16 {shape}, encoder={self.encoder!r})"

    @classmethod
    def build(
        cls,
        folder: str | PathLike[str],
        items: Iterable[tuple[Any, ...]],
        *,
        encoder: str,
        dim: int,
        codes: Sequence[str] = (),
    ) -> ExactIndex:
        """Write an index of all `items`, in place of the one in `folder` if there is one, and open it.

        The same items give the same files, byte for byte.

        Args:
            folder: made when missing.
            items: `IndexItem`s or pairs of video id and prototypes, sorted by id, each id once. May be a generator,
                also one over the index that is about to be replaced (`items`).
            encoder: the id of the encoder that made them (`FrameTextEncoder.id`).
            dim: D; given, because an empty index has one too.
            codes: coarse codes to keep beside the vectors: `int8`, `binary` or both; see `search`.

        Raises:
            InvalidInput: an id twice or out of order, prototypes of another width, an empty encoder id, unknown codes.
            LibraryBusy: another process is writing there.
        """
        if not encoder:
            raise InvalidInput("the encoder's id is empty", remedy="Give `FrameTextEncoder.id`.")
        if type(dim) is not int or dim < 1:
            raise InvalidInput(f"dim is {dim!r}", remedy="Give a whole number of at least 1.")
        if isinstance(codes, str) or set(codes) - set(CODES):
            raise InvalidInput(f"codes are {codes!r}", remedy=f"Give a list of: {', '.join(CODES)}.")
        place, kinds = Path(folder), tuple(sorted(set(codes)))
        with writing_index(place):
            segments = _write_all(place, as_items(items), dim=dim, codes=kinds)
            commit_manifest(place, Manifest.of(segments, encoder=encoder, dim=dim, codes=kinds))
        return cls.open(folder, encoder=encoder)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, encoder: str | None = None, codes: Codes | None = None) -> ExactIndex:
        """Map the index of a folder into memory.

        Sizes and shapes are checked, and the hashes of the small files; `verify` checks the vectors' too.

        Args:
            folder: where `build` wrote it.
            encoder: the id of the encoder that the queries will come from; None leaves that to the caller.
            codes: what searches read in their first pass unless they say otherwise; None for the vectors.

        Raises:
            LibraryNotFound: no index there.
            InvalidInput: it was built without these codes.
            LibraryDamaged: its files are missing, or contradict the manifest or each other.
            EncoderMismatch: another encoder made it.
        """
        place = Path(folder)
        snapshot = _opened(place)
        if encoder is not None and encoder != snapshot.manifest.encoder:
            raise EncoderMismatch(
                f"the index in {place} was made by the encoder {snapshot.manifest.encoder}, not by {encoder}",
                remedy="Search with the encoder that made it, or index the videos again (`trifocal reindex`).",
            )
        _check_codes(snapshot, codes)
        return cls(place, snapshot, codes=codes)

    def refresh(self) -> None:
        """See what other processes have committed since."""
        self._now = _opened(self.folder)

    def add(self, items: Iterable[tuple[Any, ...]]) -> int:
        """Add videos that are not in it, in one commit; any order.

        Returns:
            How many.

        Raises:
            InvalidInput: a video that is in it, or twice among them; prototypes of another width.
            LibraryBusy: another process is writing.
        """
        return self._put(items, replacing=False)

    def replace(self, items: Iterable[tuple[Any, ...]]) -> int:
        """Put videos in, in place of those of the same id, in one commit; any order.

        Returns:
            How many.

        Raises:
            InvalidInput: a video twice among them; prototypes of another width.
            LibraryBusy: another process is writing.
        """
        return self._put(items, replacing=True)

    def remove(self, videos: Iterable[str]) -> int:
        """Take videos out, in one commit; nothing of them is left on the disk.

        Returns:
            How many.

        Raises:
            NotInLibrary: one is not in it; then nothing is removed.
            LibraryBusy: another process is writing.
        """
        gone = set(videos)
        with writing_index(self.folder):
            self.refresh()
            for video in sorted(gone):
                self._now.place_of(video)
            self._commit(self._without(gone))
        return len(gone)

    def compact(self) -> None:
        """Write everything anew into full segments, sorted; searches after many small changes get faster by it."""
        with writing_index(self.folder):
            self.refresh()
            self._commit(_write_all(self.folder, self.items(), dim=self.dim, codes=self.manifest.codes))

    def count(self, where: VideoFilter | None = None) -> int:
        """How many videos, or how many of them a filter admits."""
        return len(self) if where is None else len(self.filter(where))

    def filter(self, where: VideoFilter) -> tuple[str, ...]:
        """The ids of the videos that a filter admits, sorted."""
        now = self._now
        return tuple(now.ids[place] for place in now.by_id.tolist() if where.admits(now.facts[place]))

    def stamps(self) -> dict[str, str]:
        """The owner's mark of each video."""
        return self._now.stamps()

    def prototypes(self, video: str) -> Prototypes:
        """The prototypes of one video, copied out of the map.

        Raises:
            NotInLibrary: no such video.
        """
        segment, place = self._now.at(video)
        return segment.item(place).prototypes

    def items(self, *, without: Collection[str] = ()) -> Iterator[IndexItem]:
        """All videos with their prototypes, sorted by id, leaving out some: what `build` takes."""
        now = self._now
        for video in now.videos:
            if video not in without:
                segment, place = now.at(video)
                yield segment.item(place)

    def scores(self, queries: ArrayLike) -> NDArray[np.float32]:
        """The score of each video for each query: the maximum over its prototypes of the cosine.

        Args:
            queries: (Nq, D), unit vectors.

        Returns:
            float32 (Nq, number of videos), in the order of `videos`, rounded to six decimals; the sixth may differ
            from what a search says, which sums in float64.

        Raises:
            InvalidInput: a wrong width, values that are not finite, vectors that are not of unit length.
            LibraryDamaged: the stored vectors give scores that are not finite.
        """
        return self._now.scores(check_queries(queries, dim=self.dim))

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
        codes: Codes | Literal["none"] | None = None,
        shortlist: int | None = None,
    ) -> list[Moment]:
        """The best moments for a query.

        Args:
            query: (D,), a unit vector from the same encoder.
            top: how many moments at most.
            moments_per_video: how many of them may come from one video.
            tolerance: together with `share`, how much worse a neighbouring prototype may score and still belong to a
                moment; see `pick_moments`.
            share: see there.
            videos: search these alone; None searches all. Those that are not in it are passed over.
            without: but not these.
            where: of these, search those that it admits.
            codes: read these codes in the first pass instead of the vectors: fewer bytes, no longer exact. "none" for
                the vectors; None for what `open` was told.
            shortlist: with codes, how many videos of the first pass are scored exactly, `top` at least (then the first
                pass alone decides which videos are found). See `default_shortlist` for how many by default. Where the
                best are hardly better than the rest, binary codes miss some of them all the same; `recall` says.

        Returns:
            At most `top` moments, to the millisecond, by falling score; ties by video id, then start. A score is summed
            in float64 and rounded to six decimals. Without codes it is exact: no other moment scores more.

        Raises:
            InvalidInput: a query that does not fit, a count below 1, codes that the index was not built with.
            LibraryDamaged: the stored vectors give scores that are not finite.
        """
        now = self._now
        kind = None if codes == "none" else codes or self._codes
        _check_codes(now, kind)
        if shortlist is None:
            shortlist = default_shortlist(kind or "int8", len(now.ids))
        for name, number in (("top", top), ("moments_per_video", moments_per_video), ("shortlist", shortlist)):
            check_count(name, number)
        vector = check_query(query, dim=self.dim)
        return now.search(
            vector,
            top=top,
            moments_per_video=moments_per_video,
            tolerance=tolerance,
            share=share,
            chosen=now.chosen(videos, without, where),
            codes=kind,
            shortlist=shortlist,
        )

    def search_many(
        self,
        queries: ArrayLike,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        tolerance: float = 0.02,
        share: float = 0.5,
        videos: Iterable[str] | None = None,
        without: Collection[str] = (),
        where: VideoFilter | None = None,
    ) -> list[list[Moment]]:
        """`search` for each of several queries (Nq, D), exactly; the vectors are read once for every 16 of them."""
        for name, number in (("top", top), ("moments_per_video", moments_per_video)):
            check_count(name, number)
        rows, now = check_queries(queries, dim=self.dim), self._now
        return now.search_many(
            rows,
            top=top,
            moments_per_video=moments_per_video,
            tolerance=tolerance,
            share=share,
            chosen=now.chosen(videos, without, where),
        )

    def recall(self, queries: ArrayLike, *, top: int = 10, codes: Codes, shortlist: int | None = None) -> float:
        """The part of the best `top` videos that a search with codes finds, mean over the queries (Nq, D)."""
        rows = check_queries(queries, dim=self.dim)
        shares = []
        for query in rows:
            right = {moment.video for moment in self.search(query, top=top, codes="none")}
            found = {moment.video for moment in self.search(query, top=top, codes=codes, shortlist=shortlist)}
            shares.append(len(right & found) / max(1, len(right)))
        return float(np.mean(shares)) if shares else 1.0

    def verify(self) -> None:
        """Hash every file again; reads all of the index.

        Raises:
            LibraryDamaged: something differs from what was written.
        """
        for stored in (file for segment in self.manifest.segments for file in segment.files.values()):
            path = self.folder / stored.name
            try:
                found = file_sha256(path)
            except OSError as error:
                raise LibraryDamaged(f"{path} cannot be read ({type(error).__name__})", remedy=REBUILD) from error
            if found != stored.sha256:
                raise LibraryDamaged(f"{path} has the SHA-256 {found}, not {stored.sha256}", remedy=REBUILD)

    def export(self, folder: str | PathLike[str]) -> Path:
        """Write everything as plain files: `vectors.npy`, `prototypes.csv`, `about.json`; see `export_items`."""
        return export_items(folder, self.items(), encoder=self.encoder, dim=self.dim)

    def _put(self, items: Iterable[tuple[Any, ...]], *, replacing: bool) -> int:
        with writing_index(self.folder):
            self.refresh()
            seen: set[str] = set()
            written: list[StoredSegment] = []
            for block in _blocks(as_items(items), dim=self.dim):
                for item in block:
                    if item.video in seen or (not replacing and item.video in self):
                        raise InvalidInput(
                            f"the video {item.video!r} is there already",
                            remedy="Give each video once; `replace` puts it in place of what is there.",
                        )
                    seen.add(item.video)
                written += _write_all(self.folder, iter(block), dim=self.dim, codes=self.manifest.codes)
            if seen:
                self._commit(self._without(seen & self._now.place.keys()) + written)
        return len(seen)

    def _without(self, gone: Collection[str]) -> list[StoredSegment]:
        """The segments as they are, except those that hold one of `gone`, which are written again without it."""
        kept: list[StoredSegment] = []
        for segment in self._now.segments:
            if not any(video in gone for video in segment.videos):
                kept.append(segment.stored)
                continue
            rest = (segment.item(place) for place, video in enumerate(segment.videos) if video not in gone)
            kept += _write_all(self.folder, rest, dim=self.dim, codes=self.manifest.codes)
        return kept

    def _commit(self, segments: list[StoredSegment]) -> None:
        small = [segment for segment in segments if segment.prototypes * self.dim < _SEGMENT_NUMBERS // 2]
        if len(small) > _SMALL_SEGMENTS:
            opened = [Segment(self.folder, one, dim=self.dim, codes=self.manifest.codes) for one in small]
            held = sorted(
                ((video, part, place) for part in opened for place, video in enumerate(part.videos)),
                key=lambda one: one[0],
            )
            joined = (part.item(place) for _, part, place in held)
            merged = _write_all(self.folder, joined, dim=self.dim, codes=self.manifest.codes)
            segments = [segment for segment in segments if segment not in small] + merged
        manifest = Manifest.of(segments, encoder=self.encoder, dim=self.dim, codes=self.manifest.codes)
        commit_manifest(self.folder, manifest)
        self.refresh()


def _opened(folder: Path) -> Snapshot:
    manifest = read_manifest(folder)
    for attempt in range(_READ_TRIES):
        try:
            parts = [Segment(folder, stored, dim=manifest.dim, codes=manifest.codes) for stored in manifest.segments]
            break
        except FileNotFoundError as error:
            newer = read_manifest(folder)
            if newer == manifest or attempt == _READ_TRIES - 1:
                raise LibraryDamaged(f"{error.filename} is missing", remedy=REBUILD) from error
            manifest = newer
    snapshot = Snapshot(manifest, tuple(parts))
    if len(snapshot.place) != len(snapshot.ids):
        raise LibraryDamaged(f"the index in {folder} holds a video twice", remedy=REBUILD)
    return snapshot


def _check_codes(snapshot: Snapshot, codes: Codes | None) -> None:
    if codes is not None and codes not in snapshot.manifest.codes:
        raise InvalidInput(f"the index has no codes {codes!r}", remedy=f"Build it with codes=[{codes!r}].")


def _write_all(folder: Path, items: Iterator[IndexItem], *, dim: int, codes: tuple[str, ...]) -> list[StoredSegment]:
    """Items sorted by id as segments, each but the last full."""
    segments: list[StoredSegment] = []
    after: str | None = None
    while True:
        most = max(1, _SEGMENT_NUMBERS // dim)
        written = write_segment(folder, items, dim=dim, codes=codes, most_rows=most, after=after)
        if written is None:
            return segments
        segments.append(written[0])
        after = written[1]


def _blocks(items: Iterator[IndexItem], *, dim: int) -> Iterator[list[IndexItem]]:
    """Runs of items that fill a segment each, sorted by id."""
    while (first := next(items, None)) is not None:
        block, rows = [], 0
        for item in chain([first], items):
            check_item(item, dim=dim)
            block.append(item)
            rows += len(item.prototypes)
            if rows * dim >= _SEGMENT_NUMBERS:
                break
        yield sorted(block, key=lambda item: item.video)
