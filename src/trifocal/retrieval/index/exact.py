"""The exact engine: every prototype of every video in memory-mapped half-precision files; the default.

Nothing is approximate and no index is trained. 10,000 videos take less than 50 ms on two cores
(`trifocal.bench.search`); for collections too large for that there is `StoreIndex`. The files are segments that never
change (`segment`), each change writes new ones (`changes`) and swaps the manifest (`files`); so removing a video
rewrites its segment, and nothing of it is left on the disk. `snapshot` searches. Torch is imported at the first search,
not with the module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trifocal.errors import EncoderMismatch, InvalidInput
from trifocal.retrieval.index.changes import commit_segments, segments_with, segments_without, write_segments
from trifocal.retrieval.index.codes import default_shortlist
from trifocal.retrieval.index.files import CODES, Manifest, check_files, commit_manifest, writing_index
from trifocal.retrieval.index.interface import (
    IndexItem,
    VideoFilter,
    as_items,
    check_count,
    check_queries,
    check_query,
    export_items,
)
from trifocal.retrieval.index.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from trifocal.retrieval.index.codes import Codes
    from trifocal.retrieval.index.files import StoredSegment
    from trifocal.retrieval.moment import Moment
    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["ExactIndex"]


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
            segments = write_segments(place, as_items(items), dim=dim, codes=kinds)
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
        snapshot = Snapshot.open(place)
        if encoder is not None and encoder != snapshot.manifest.encoder:
            raise EncoderMismatch(
                f"the index in {place} was made by the encoder {snapshot.manifest.encoder}, not by {encoder}",
                remedy="Search with the encoder that made it, or index the videos again (`trifocal reindex`).",
            )
        _check_codes(snapshot, codes)
        return cls(place, snapshot, codes=codes)

    def refresh(self) -> None:
        """See what other processes have committed since."""
        self._now = Snapshot.open(self.folder)

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
            self._commit(segments_without(self.folder, self._now, gone))
        return len(gone)

    def compact(self) -> None:
        """Write everything anew into full segments, sorted; searches after many small changes get faster by it."""
        with writing_index(self.folder):
            self.refresh()
            self._commit(write_segments(self.folder, self.items(), dim=self.dim, codes=self.manifest.codes))

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
        check_files(self.folder, self.manifest)

    def export(self, folder: str | PathLike[str]) -> Path:
        """Write everything as plain files: `vectors.npy`, `prototypes.csv`, `about.json`; see `export_items`."""
        return export_items(folder, self.items(), encoder=self.encoder, dim=self.dim)

    def _put(self, items: Iterable[tuple[Any, ...]], *, replacing: bool) -> int:
        with writing_index(self.folder):
            self.refresh()
            segments, count = segments_with(self.folder, self._now, items, replacing=replacing)
            if count:
                self._commit(segments)
        return count

    def _commit(self, segments: list[StoredSegment]) -> None:
        commit_segments(self.folder, self._now, segments)
        self.refresh()


def _check_codes(snapshot: Snapshot, codes: Codes | None) -> None:
    if codes is not None and codes not in snapshot.manifest.codes:
        raise InvalidInput(f"the index has no codes {codes!r}", remedy=f"Build it with codes=[{codes!r}].")
