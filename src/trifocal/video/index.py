"""Where the key frames of a video are, found without decoding and without moving the reader's position.

`key_frames` asks a container of its own: MP4 and AVI have an index, Matroska loads or builds one at a far seek, and for
the rest (`scan`) one pass over the packets finds the key frames and the true end.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av.error

from trifocal.errors import VideoLimitExceeded
from trifocal.video.media import FAR

if TYPE_CHECKING:
    from collections.abc import Callable

    from trifocal.video.media import Media

__all__ = ["KeyFrames", "Scan", "key_frames", "scan"]


@dataclass(frozen=True, slots=True)
class KeyFrames:
    """Key frames in ascending order of time stamps.

    Args:
        ticks: time stamps in the stream's time base; of decoding where `by_dts`, of presentation elsewhere.
        by_dts: which clock `ticks` are on.
        seekable: whether FFmpeg can seek to them; where not, the packets before them are read and passed over.
    """

    ticks: tuple[int, ...]
    by_dts: bool
    seekable: bool

    def last_until(self, ticks: int) -> int | None:
        """The last key frame whose time stamp is not after `ticks`."""
        found = bisect_right(self.ticks, ticks) - 1
        return self.ticks[found] if found >= 0 else None

    def earlier(self, ticks: int, step: int) -> int | None:
        """The key frame `step` places before the last one not after `ticks`."""
        found = bisect_right(self.ticks, ticks) - 1 - step
        return self.ticks[found] if found >= 0 else None


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over the packets found: key frames by presentation time stamp, and the second of the end."""

    keys: tuple[int, ...]
    end: Fraction
    packets: int


def key_frames(media: Media, scanned: Callable[[], Scan]) -> KeyFrames:
    """The key frames of a video.

    Args:
        media: the opened video; its position stays.
        scanned: gives the result of `scan`, made at most once.
    """
    if media.kind.family == "matroska":
        return KeyFrames(_matroska_keys(media), by_dts=False, seekable=True)
    if media.kind.family == "mpegts" or media.fragmented or len(media.stream.index_entries) < 2:
        return KeyFrames(scanned().keys, by_dts=False, seekable=False)
    whole = media.source.size
    # Entries beyond the end of a file that was cut short lead nowhere.
    ticks = (e.timestamp for e in media.stream.index_entries if e.is_keyframe and e.pos + e.size <= whole)
    return KeyFrames(tuple(sorted(ticks)), by_dts=True, seekable=True)


def _matroska_keys(media: Media) -> tuple[int, ...]:
    with media.another() as other:
        # Loads the cues, or reads through the clusters where there are none. A seek beyond the end may fail; what was
        # indexed on the way stays and is what is wanted.
        with contextlib.suppress(av.error.FFmpegError):
            other.container.seek(FAR, stream=other.stream, backward=True)
        return tuple(sorted(e.timestamp for e in other.stream.index_entries if e.is_keyframe))


def scan(media: Media, *, tick: Callable[[int], None]) -> Scan:
    """One pass over all packets of the video, without decoding.

    Args:
        media: the opened video; its position stays.
        tick: called with 0 for every packet; it may raise to stop.

    Raises:
        VideoLimitExceeded: more packets than frames are allowed.
    """
    keys: list[int] = []
    last, packets = 0, 0
    with media.another() as other:
        rate = other.stream.average_rate or other.stream.guessed_rate or Fraction(25)
        usual = max(1, round(1 / (rate * media.time_base)))
        try:
            for packet in other.packets():
                tick(0)
                packets += 1
                if packets > media.limits.frames:
                    raise VideoLimitExceeded(
                        f"{media.name} has more than {media.limits.frames:,} frames",
                        remedy="Raise frames in Limits if you trust it.",
                    )
                if packet.pts is None or packet.is_discard or not packet.size:
                    continue
                last = max(last, packet.pts + (packet.duration or usual))
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except av.error.FFmpegError:
            # Damage ends the pass; the decoder will meet it at the same place and report it.
            return Scan(tuple(sorted(keys)), media.seconds(last), packets)
    return Scan(tuple(sorted(keys)), media.seconds(last), packets)
