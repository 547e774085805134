"""A position in a video that moves forward: the next frame, or a jump to the last key frame before a second.

Frames come in presentation order with exact, strictly ascending times. A jump never changes which frames follow, only
what is decoded on the way: it lands on a key frame, drops the pictures that belong before it, checks that it did not
land late, and backs up when it did. Where FFmpeg cannot seek reliably (MPEG-TS, fragmented MP4), the packets between
are read and not decoded; where times are only counted (AVI with B-frames), nothing is skipped.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import av.error

from trifocal.errors import VideoLimitExceeded
from trifocal.video.index import KeyFrames, Scan, key_frames, scan
from trifocal.video.media import FAR, Media, check_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Cursor", "Shown"]

_MOST_ERRORS: Final = 64
"""Demuxing errors in a row after which the rest of a file is given up."""

_MOST_LINES: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A decoded frame and the second at which it is shown."""

    time_s: float
    frame: av.VideoFrame


class Cursor:
    """Reads one `Media` from its beginning to its end.

    Args:
        media: the opened video; the cursor is its only user.
        tick: called with the number of frames walked so far, for every packet; it may raise to stop.

    Raises:
        VideoLimitExceeded: while reading, when frames, time or size go above the limits.
    """

    def __init__(self, media: Media, *, tick: Callable[[int], None] = lambda _: None) -> None:
        """Start at the beginning; `media` must stand there."""
        self.media = media
        self.tick = tick
        self.walked = 0
        self.damaged = 0
        self.corrupt = 0
        self.ended = False
        self.last_s = -math.inf
        self._keys: KeyFrames | None = None
        self._scan: Scan | None = None
        self._delay = 0
        self._queue: deque[Shown] = deque()
        self._restarted()

    def _restarted(self) -> None:
        self._packets = self.media.packets()
        self._queue.clear()
        self._drained = False
        self._last_key: av.Packet[Any] | None = None
        self._floor: int | None = None
        self._count = 0
        self._errors = 0
        self._since: tuple[int, float] | None = None

    # ---------------------------------------------------------------- frames

    def next(self) -> Shown | None:
        """The next frame, or `None` at the end."""
        while True:
            shown = self._pull()
            if shown is None:
                self.ended = True
                return None
            if shown.time_s > self.last_s:
                self.last_s = shown.time_s
                return shown

    def _pull(self) -> Shown | None:
        """The next frame of the decoder, whatever its time."""
        while not self._queue and not self._drained:
            packet = self._next_packet()
            if packet is None:
                self._drained = True
            else:
                self._decode(packet)
        return self._queue.popleft() if self._queue else None

    def _next_packet(self) -> av.Packet[Any] | None:
        """The next packet; an empty one drains the decoder, `None` follows it."""
        while True:
            self.tick(self.walked)
            if len(self.media.overheard) > _MOST_LINES:
                self.media.check_overheard()
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError as error:
                self._errors += 1
                self.damaged += 1
                if self._errors > _MOST_ERRORS or isinstance(error, av.error.MemoryError):
                    return None
                self._packets = self.media.packets()
                continue
            self._errors = 0
            return packet

    def _decode(self, packet: av.Packet[Any]) -> None:
        if packet.is_keyframe and packet.size:
            self._last_key = packet
            if packet.pts is not None and packet.dts is not None:
                # Decoding runs ahead of showing by this much, usually for the whole file.
                self._delay = max(self._delay, packet.pts - packet.dts)
        try:
            frames = packet.decode()
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            self.media.check_overheard()
            self.damaged += 1
            self._drained = packet.size == 0 or isinstance(error, av.error.EOFError)
            return
        for frame in frames:
            self._accept(frame)
        if packet.size == 0:
            self._drained = True

    def _accept(self, frame: av.VideoFrame) -> None:
        limits, name = self.media.limits, self.media.name
        self.walked += 1
        if self.walked > limits.frames:
            raise VideoLimitExceeded(
                f"{name} has more than {limits.frames:,} frames",
                remedy="Raise frames in Limits, or ask for a shorter range.",
            )
        check_size(frame.width, frame.height, limits=limits, name=name, place=" in mid-stream")
        ticks = frame.pts if frame.pts is not None else frame.dts
        if self._floor is not None and ticks is not None and ticks < self._floor:
            return
        time_s = self._time(ticks)
        self._count += 1
        if time_s > limits.duration_s:
            raise VideoLimitExceeded(
                f"{name} has a frame at {time_s:.1f} s, later than {limits.duration_s:g} s",
                remedy="Raise duration_s in Limits, or cut it into parts.",
            )
        self._check_rate(time_s)
        self.corrupt += frame.is_corrupt
        self._queue.append(Shown(time_s, frame))

    def _time(self, ticks: int | None) -> float:
        """Without a time stamp a frame follows the one before at the average rate; in `walk` all do."""
        rate = self.media.stream.average_rate or self.media.stream.guessed_rate or Fraction(25)
        if self.media.counts_frames:
            return float(self._count / rate)
        if ticks is not None:
            return float(self.media.seconds(ticks))
        before = self._queue[-1].time_s if self._queue else self.last_s
        return before + float(1 / rate) if before > -math.inf else 0.0

    def _check_rate(self, time_s: float) -> None:
        if self._since is None:
            self._since = (self.walked, time_s)
            return
        first, begin_s = self._since
        # A second of grace lets a burst pass that the average does not show.
        if self.walked - first > self.media.limits.fps * (max(0.0, time_s - begin_s) + 1):
            raise VideoLimitExceeded(
                f"{self.media.name} has more than {self.media.limits.fps:g} frames a second",
                remedy="Raise fps in Limits if you trust it.",
            )

    # ---------------------------------------------------------------- jumps

    def skip_to(self, time_s: float) -> None:
        """Leave out what need not be decoded to show the frame of that second; nothing happens when nothing can be."""
        if time_s <= self.last_s or self._drained or self.media.counts_frames:
            return
        if self._keys is None:
            self._keys = key_frames(self.media, self.scan)
        # The nanosecond makes up for seconds that were rounded down to the nearest float.
        seconds = Fraction(min(time_s, 1e12)) + Fraction(1, 10**9)
        ticks = min(math.floor((seconds + self.media.start) / self.media.time_base), FAR)
        key = self._keys.last_until(ticks - self._delay if self._keys.by_dts else ticks)
        if key is not None and not self._passed(self._keys, key):
            self._land(self._keys, time_s, ticks, key)

    def _passed(self, keys: KeyFrames, key: int) -> bool:
        """Whether that key frame has been decoded already."""
        last = self._last_key
        at = None if last is None else last.dts if keys.by_dts else last.pts
        return at is not None and key <= at

    def scan(self) -> Scan:
        """One pass over all packets without decoding, made at most once; the position stays."""
        if self._scan is None:
            self._scan = scan(self.media, tick=lambda _: self.tick(self.walked))
        return self._scan

    def _land(self, keys: KeyFrames, time_s: float, ticks: int, key: int) -> None:
        """Go to a key frame not after `ticks` and decode its first picture; back up while that comes out late."""
        # FFmpeg compares with presentation times even where its index shows decoding times.
        seek_to, step = (ticks if keys.by_dts else key), 0
        while True:
            packet = self._go(keys, key, seek_to)
            if packet is not None and packet.pts is not None and packet.pts <= ticks:
                self._floor = packet.pts
                self._decode(packet)
                first = self._pull()
                if first is not None and first.time_s <= time_s:
                    self._queue.appendleft(first)
                    return
            # A failed seek by `ticks` may have aimed at a key frame after `key`: that one is tried itself first.
            earlier = keys.earlier(key, step) if keys.by_dts or step else keys.earlier(key, 1)
            if earlier is None:
                self.rewind()
                return
            key, seek_to, step = earlier, earlier, max(1, 2 * step)

    def _go(self, keys: KeyFrames, key: int, seek_to: int) -> av.Packet[Any] | None:
        """Position at that key frame, or where a seek to `seek_to` leads; its packet, `None` when there is none."""
        if keys.seekable:
            try:
                self.media.container.seek(seek_to, stream=self.media.stream, backward=True)
            except av.error.FFmpegError:
                return None
            self._restarted()
        elif self._drained or self._passed(keys, key):
            self.rewind()
        else:
            self.media.stream.codec_context.flush_buffers()
            self._queue.clear()
            self._since = None
        while (packet := self._next_packet()) is not None and packet.size:
            if packet.is_keyframe and (keys.seekable or packet.pts == key):
                return packet
        self._drained = True
        return None

    def rewind(self) -> None:
        """Back to the beginning; what was already given is not given again."""
        self.media.reopen()
        self._restarted()
