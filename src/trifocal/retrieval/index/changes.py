"""What a change makes of an exact index: segments beside the old ones, and a manifest that names what stays.

A segment never changes. What comes in is written as new ones (`segments_with`); those that hold what goes are written
again without it (`segments_without`), so that nothing of it is left; small ones are merged as they pile up, and the
manifest goes last (`commit_segments`). Whoever calls these holds the right to write (`writing_index`).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput
from trifocal.retrieval.index.files import Manifest, StoredSegment, commit_manifest
from trifocal.retrieval.index.interface import IndexItem, as_items, check_item
from trifocal.retrieval.index.segment import Segment, write_segment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from trifocal.retrieval.index.snapshot import Snapshot

__all__ = ["commit_segments", "segments_with", "segments_without", "write_segments"]

# A segment is full at this many numbers, 128 MiB of vectors: what a removal has to rewrite at most, and what an `add`
# holds in memory.
_SEGMENT_NUMBERS = 2**26
# More small segments than this are merged.
_SMALL_SEGMENTS = 8


def write_segments(
    folder: Path, items: Iterator[IndexItem], *, dim: int, codes: tuple[str, ...]
) -> list[StoredSegment]:
    """Items sorted by id as segments, each but the last full; see `write_segment`."""
    segments: list[StoredSegment] = []
    after: str | None = None
    while True:
        most = max(1, _SEGMENT_NUMBERS // dim)
        written = write_segment(folder, items, dim=dim, codes=codes, most_rows=most, after=after)
        if written is None:
            return segments
        segments.append(written[0])
        after = written[1]


def segments_with(
    folder: Path, now: Snapshot, items: Iterable[tuple[Any, ...]], *, replacing: bool
) -> tuple[list[StoredSegment], int]:
    """The segments with further videos, in any order.

    Args:
        folder: the index's.
        now: what it holds.
        items: `IndexItem`s or pairs of video id and prototypes; a segment's worth of them is held in memory.
        replacing: whether they may take the place of those of the same id.

    Returns:
        The segments, and how many videos were written; with none, they are those there are.

    Raises:
        InvalidInput: a video twice among them, or one that is there already and may not be replaced; prototypes of
            another width.
    """
    dim, codes = now.manifest.dim, now.manifest.codes
    seen: set[str] = set()
    written: list[StoredSegment] = []
    for block in _blocks(as_items(items), dim=dim):
        for item in block:
            if item.video in seen or (not replacing and item.video in now.place):
                raise InvalidInput(
                    f"the video {item.video!r} is there already",
                    remedy="Give each video once; `replace` puts it in place of what is there.",
                )
            seen.add(item.video)
        written += write_segments(folder, iter(block), dim=dim, codes=codes)
    return segments_without(folder, now, seen & now.place.keys()) + written, len(seen)


def segments_without(folder: Path, now: Snapshot, gone: Collection[str]) -> list[StoredSegment]:
    """The segments as they are, except those that hold one of `gone`, which are written again without it."""
    kept: list[StoredSegment] = []
    for segment in now.segments:
        if not any(video in gone for video in segment.videos):
            kept.append(segment.stored)
            continue
        rest = (segment.item(place) for place, video in enumerate(segment.videos) if video not in gone)
        kept += write_segments(folder, rest, dim=now.manifest.dim, codes=now.manifest.codes)
    return kept


def commit_segments(folder: Path, now: Snapshot, segments: list[StoredSegment]) -> None:
    """Make these the index's segments, in one commit; when there are many small ones, they are merged first."""
    encoder, dim, codes = now.manifest.encoder, now.manifest.dim, now.manifest.codes
    small = [segment for segment in segments if segment.prototypes * dim < _SEGMENT_NUMBERS // 2]
    if len(small) > _SMALL_SEGMENTS:
        opened = [Segment(folder, one, dim=dim, codes=codes) for one in small]
        held = sorted(
            ((video, part, place) for part in opened for place, video in enumerate(part.videos)),
            key=lambda one: one[0],
        )
        joined = (part.item(place) for _, part, place in held)
        merged = write_segments(folder, joined, dim=dim, codes=codes)
        segments = [segment for segment in segments if segment not in small] + merged
    commit_manifest(folder, Manifest.of(segments, encoder=encoder, dim=dim, codes=codes))


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
