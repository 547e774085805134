"""What the bytes of a container say about their own completeness, read without FFmpeg.

A file that was cut short usually still declares how long it should be: MP4 by its boxes, Matroska by its segment, AVI
by its RIFF header. Demuxers tend to stop silently there, so the check is made here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trifocal.video.sniff import SNIFF_BYTES, Container, packet_bytes

if TYPE_CHECKING:
    from trifocal.video.source import ByteSource

__all__ = ["Structure", "examine"]

_MOST_BOXES: Final = 200_000
_SEGMENT: Final = b"\x18\x53\x80\x67"
_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_DURATION: Final = (b"\x44\x89\x84", b"\x44\x89\x88")


@dataclass(frozen=True, slots=True)
class Structure:
    """What is declared.

    Args:
        missing_bytes: how many bytes the container declares beyond the end of the file; 0 when none or unknown.
        has_index: whether an MP4 has its `moov` box; true for the rest.
        declares_duration: whether a Matroska segment has a `Duration`; true for the rest.
    """

    missing_bytes: int = 0
    has_index: bool = True
    declares_duration: bool = True


def examine(source: ByteSource, kind: Container) -> Structure:
    """Read what the container declares about itself."""
    match kind.family:
        case "mp4":
            return _boxes(source)
        case "matroska":
            return _segment(source)
        case "avi":
            declared = int.from_bytes(os.pread(source.fd, 8, 0)[4:8], "little") + 8
            return Structure(missing_bytes=max(0, declared - source.size))
        case _:
            return Structure(missing_bytes=-source.size % (packet_bytes(os.pread(source.fd, SNIFF_BYTES, 0)) or 188))


def _boxes(source: ByteSource) -> Structure:
    at, has_index = 0, False
    for _ in range(_MOST_BOXES):
        head = os.pread(source.fd, 16, at)
        if len(head) < 8:
            # A stub shorter than a box header is padding, not a cut box.
            return Structure(has_index=has_index)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        has_index = has_index or head[4:8] == b"moov"
        if size < 8:  # 0: to the end of the file; anything else is damage that FFmpeg will judge
            return Structure(has_index=has_index)
        at += size
        if at > source.size:
            return Structure(missing_bytes=at - source.size, has_index=has_index)
    return Structure(has_index=has_index)


def _segment(source: ByteSource) -> Structure:
    head = os.pread(source.fd, SNIFF_BYTES, 0)
    at = head.find(_SEGMENT)
    if at < 0:
        return Structure(declares_duration=False)
    clusters = head.find(_CLUSTER)
    header = head[at : clusters if clusters > 0 else len(head)]
    declares = any(mark in header for mark in _DURATION)
    first = head[at + 4] if at + 4 < len(head) else 0
    length = 9 - first.bit_length()  # the leading zero bits of an EBML number give its length
    if not 1 <= length <= 8:
        return Structure(declares_duration=declares)
    number = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    if number == (1 << 7 * length) - 1:  # all ones: unknown, a live recording
        return Structure(declares_duration=declares)
    return Structure(missing_bytes=max(0, at + 4 + length + number - source.size), declares_duration=declares)
