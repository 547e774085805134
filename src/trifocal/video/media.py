"""An opened container: FFmpeg over one descriptor, with the demuxer forced and every second file refused.

`Media` opens (and reopens) the container, chooses the video stream and reads from it what needs no decoding: the clock,
the declared length, whether bytes are missing at the end. Header limits are checked here.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import av
import av.container
import av.error
import av.video.stream
from av.stream import Disposition

from trifocal.errors import UnreadableVideo, UnsupportedVideo, VideoLimitExceeded
from trifocal.video.sniff import SNIFF_BYTES, Container, sniff
from trifocal.video.source import ByteSource
from trifocal.video.structure import Structure, examine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trifocal.video.limits import Limits

__all__ = ["FAR", "Media", "admit", "check_size"]

_READ_BYTES: Final = 128 * 1024
_DECODERS: Final = {"av1": "libdav1d,av1", "vp8": "vp8,libvpx", "vp9": "vp9,libvpx-vp9"}
_MICROSECONDS: Final = 1_000_000
FAR: Final = 2**62
"""A time stamp after every frame, in whatever time base, that FFmpeg can still take."""

_TAIL_PACKETS: Final = 5000
_TOO_LARGE: Final = re.compile(r"Picture size (\d{1,9})x(\d{1,9}) (?:is invalid|exceeds)")


def check_size(width: int, height: int, *, limits: Limits, name: str, place: str = "") -> None:
    """Refuse pictures above the limits.

    Raises:
        VideoLimitExceeded: too wide, too high or too many pixels.
    """
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise VideoLimitExceeded(
            f"{name} has pictures of {width}×{height} pixels{place}, more than {limits.max_side} on a side "
            f"or {limits.max_pixels:,} in all",
            remedy="Raise max_side and max_pixels in Limits if you trust it, or scale it down first.",
        )


def admit(head: bytes, *, size: int, name: str, limits: Limits) -> Container:
    """What can be told about a file by its size and first bytes alone.

    Args:
        head: the first `SNIFF_BYTES` of it.
        size: its length in bytes.
        name: its name, for messages.
        limits: what it may cost.

    Raises:
        VideoError: as `Media`.
    """
    if size > limits.file_bytes:
        raise VideoLimitExceeded(
            f"{name} has {size:,} bytes, more than {limits.file_bytes:,}",
            remedy="Raise file_bytes in Limits, or cut it into parts.",
        )
    kind = sniff(head, name=name)
    if kind.family not in limits.containers:
        raise UnsupportedVideo(
            f"{name} is {kind.name}, which is not allowed here", remedy=f"Allowed: {', '.join(limits.containers)}."
        )
    return kind


class Media:
    """One opened video file.

    Args:
        source: the bytes.
        name: the file's name, for messages.
        limits: what it may cost.
        threads: decoder threads.
        overheard: where FFmpeg's log lines arrive, for what it says in no other way; may stay empty.

    Raises:
        UnreadableVideo: empty, damaged, or without pictures.
        UnsupportedVideo: a container or codec that is not allowed.
        VideoLimitExceeded: the header declares more than the limits.
    """

    def __init__(
        self, source: ByteSource, *, name: str, limits: Limits, threads: int, overheard: list[tuple[int, str, str]]
    ) -> None:
        """Open the container and check its header."""
        self.source, self.name, self.limits, self.threads, self.overheard = source, name, limits, threads, overheard
        source.seek(0)
        self.kind: Container = admit(source.read(SNIFF_BYTES), size=source.size, name=name, limits=limits)
        # A stream cannot be looked through beforehand; what it lacks shows when it ends.
        self.structure: Structure = examine(source, self.kind) if source.seekable() else Structure()
        self.container: av.container.InputContainer
        self.stream: av.video.stream.VideoStream
        self.reopen()
        self.time_base: Fraction = self.stream.time_base or Fraction(1, _MICROSECONDS)
        self.start: Fraction = self._start()

    def reopen(self) -> None:
        """Open the container afresh, positioned at its beginning."""
        if hasattr(self, "container"):
            self.close()
        self.source.seek(0)
        try:
            self.container = av.open(
                self.source,
                "r",
                format=self.kind.demuxer,
                container_options={
                    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts",
                    "codec_whitelist": ",".join(_DECODERS.get(codec, codec) for codec in self.limits.codecs),
                    "protocol_whitelist": "",
                },
                metadata_errors="replace",
                buffer_size=_READ_BYTES,
                io_open=_refuse,
            )
        except av.error.MemoryError:
            raise
        except (av.error.FFmpegError, _SecondFile, ValueError) as error:
            raise self._unreadable(error) from error
        self.stream = self._video_stream()
        context = self.stream.codec_context
        context.thread_type = "AUTO"
        context.thread_count = self.threads
        # The decoder itself refuses larger pictures, before it allocates them, also after a change in mid-stream.
        context.options = {"max_pixels": str(max(self.limits.max_pixels, 1))}

    @contextmanager
    def another(self) -> Iterator[Media]:
        """The same video opened a second time, to look ahead without moving this one."""
        source = ByteSource(self.source.fd, label=self.name, on_read=self.source.on_read)
        other = Media(source, name=self.name, limits=self.limits, threads=1, overheard=self.overheard)
        try:
            yield other
        finally:
            other.close()

    def check_overheard(self) -> None:
        """Refuse what FFmpeg itself refused for its size: it tells the size in its log alone.

        Raises:
            VideoLimitExceeded: a picture larger than the limits was met.
        """
        lines, self.overheard[:] = list(self.overheard), []
        for _, _, line in lines:
            if found := _TOO_LARGE.search(line):
                check_size(int(found[1]), int(found[2]), limits=self.limits, name=self.name)

    def close(self) -> None:
        """Release the container; the descriptor stays with its owner."""
        # Freeing a decoder waits for its threads with the interpreter's lock held, and one of them may need that lock
        # to log. Flushing waits for them without it.
        self.stream.codec_context.flush_buffers()
        self.container.close()

    def packets(self) -> Iterator[av.Packet[Any]]:
        """The packets of the video stream from the present position; the last one is empty and drains the decoder."""
        try:
            yield from self.container.demux(self.stream)
        except IndexError:
            # PyAV stumbles at the end over streams that damage made appear late; the decoder is still to be drained.
            drain: av.Packet[Any] = av.Packet()
            drain.stream = self.stream
            yield drain

    def declared_duration(self) -> Fraction | None:
        """Seconds from the presentation start to the declared end; `None` where nothing reliable is declared."""
        stream = self.stream
        if self.fragmented:
            return None  # fragmented: the header knows the first fragment only
        if self.kind.family == "matroska" and not self.structure.declares_duration:
            return None  # FFmpeg would guess one from the bit rate
        if stream.duration and stream.duration > 0:
            return (stream.start_time or 0) * self.time_base + stream.duration * self.time_base - self.start
        if not self.container.duration or self.container.duration < 0:
            return None
        length = Fraction(self.container.duration, _MICROSECONDS)
        # Matroska declares where it ends on its own clock, however late it begins.
        from_start = length - self.start if self.kind.family == "matroska" else length
        return from_start if from_start > 0 else length

    def measured_duration(self) -> Fraction | None:
        """Seconds to the true end by the packets of the last group of pictures; moves the position.

        An MP4 adds up decoding times for its length, which with uneven frames is not when the last one ends. `None`
        where there is no index to jump by, or the last group is very long or cut.
        """
        if self.kind.family != "mp4" or self.fragmented or self.structure.missing_bytes:
            return None
        end = 0
        try:
            self.container.seek(FAR, stream=self.stream, backward=True)
            for packet in islice(self.packets(), _TAIL_PACKETS):
                if not packet.size:
                    return self.seconds(end) if end else None
                if packet.pts is not None and not packet.is_discard:
                    end = max(end, packet.pts + (packet.duration or 0))
        except av.error.FFmpegError:
            # Damage there is met again, and told, by whoever reads up to it.
            return None
        return None

    @property
    def fragmented(self) -> bool:
        """An MP4 without a sample table for the whole file."""
        return self.kind.family == "mp4" and not self.stream.frames

    @property
    def counts_frames(self) -> bool:
        """AVI stores no presentation times; where pictures are reordered, only counting them gives the times."""
        return self.kind.family == "avi" and bool(self.stream.codec_context.has_b_frames)

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._codec_of(self.stream)

    def frame_count(self) -> int | None:
        """The number of frames where an index lists each of them (MP4 and AVI), else `None`."""
        entries = self.stream.index_entries
        if self.kind.family not in ("mp4", "avi") or not self.stream.frames or len(entries) != self.stream.frames:
            return None
        # Pictures that an edit list cuts away are decoded and not shown.
        return len(entries) - sum(entry.is_discard for entry in entries)

    def seconds(self, ticks: int) -> Fraction:
        """The exact time since the presentation start of a time stamp of the video stream."""
        return ticks * self.time_base - self.start

    def _start(self) -> Fraction:
        """The container's start. FFmpeg rounds it to microseconds; the stream that sets it knows it exactly."""
        rounded = Fraction(self.container.start_time or 0, _MICROSECONDS)
        exact = [
            stream.start_time * stream.time_base
            for stream in self.container.streams
            if stream.start_time is not None and stream.time_base is not None
        ]
        near = [start for start in exact if abs(start - rounded) <= Fraction(2, _MICROSECONDS)]
        return min(near, key=lambda start: abs(start - rounded)) if near else rounded

    def _video_stream(self) -> av.video.stream.VideoStream:
        count = len(self.container.streams)
        if count > self.limits.streams:
            raise VideoLimitExceeded(
                f"{self.name} has {count} streams, more than {self.limits.streams}",
                remedy="Raise streams in Limits if you trust it, or keep only its video.",
            )
        pictures = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures:
            if self.container.streams.audio:
                raise UnreadableVideo(f"{self.name} holds sound but no video", remedy="Give a file with pictures.")
            raise UnreadableVideo(f"{self.name} holds no video", remedy="Check that it arrived whole.")
        usable = [s for s in pictures if self._codec_of(s) in self.limits.codecs]
        if not usable:
            codec = self._codec_of(pictures[0]) or "an unknown codec"
            raise UnsupportedVideo(
                f"the video in {self.name} is {codec}, which is not allowed here",
                remedy=f"Allowed: {', '.join(self.limits.codecs)}. Convert it to H.264 first.",
            )
        best = self.container.streams.best("video")
        chosen = best if best in usable else usable[0]
        if not isinstance(chosen, av.video.stream.VideoStream):
            raise UnreadableVideo(f"{self.name} holds no video", remedy="Check that it arrived whole.")
        check_size(chosen.width, chosen.height, limits=self.limits, name=self.name)
        self.check_overheard()
        return chosen

    @staticmethod
    def _codec_of(stream: av.video.stream.VideoStream) -> str:
        context: Any = stream.codec_context  # none where FFmpeg knows no decoder, whatever the stubs say
        return context.codec.canonical_name if context is not None else ""

    def _unreadable(self, error: Exception) -> UnreadableVideo | UnsupportedVideo:
        if isinstance(error, _SecondFile):
            return UnsupportedVideo(
                f"{self.name} refers to another file", remedy="Save it as a self-contained file first."
            )
        if self.kind.family == "mp4" and not self.structure.has_index:
            return UnreadableVideo(
                f"{self.name} was cut short: its index (the moov box) is missing",
                remedy="Copy or download it again, or finish the recording.",
            )
        return UnreadableVideo(
            f"{self.name} is damaged: no {self.kind.name} can be read from it", remedy="Copy or download it again."
        )


class _SecondFile(Exception):
    """The container asked for a file beside itself."""


def _refuse(*_: object) -> Any:
    raise _SecondFile
