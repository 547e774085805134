"""Frames out of an opened descriptor, in this process.

`Decoder` describes the video and walks it once for any number of samplings. The decoding process uses it with limits
around; `open(..., isolated=False)` uses it directly. Pictures are drawn straight into buffers that the caller hands
out, so memory stays bounded by those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from trifocal.errors import UnreadableVideo, VideoLimitExceeded
from trifocal.video.cursor import Cursor, Shown
from trifocal.video.draw import Orientation, Painter, orientation_of
from trifocal.video.frames import target_size
from trifocal.video.info import VideoInfo
from trifocal.video.media import Media
from trifocal.video.sampling import Sampling, Selector
from trifocal.video.source import ByteSource

if TYPE_CHECKING:
    from fractions import Fraction

    from trifocal.video.limits import Limits

__all__ = ["BATCH_BYTES", "Batch", "Decoder", "batch_shape"]

BATCH_BYTES: Final = 64 * 1024**2
"""Largest batch; one picture may be larger."""

Allocate = Callable[[int], npt.NDArray[np.uint8]]


@dataclass(slots=True)
class Batch:
    """Pictures of one sampling being collected."""

    consumer: int
    images: npt.NDArray[np.uint8]
    times_s: list[float] = field(default_factory=list)


def batch_shape(sampling: Sampling, info: VideoInfo, batch_size: int) -> tuple[int, int, int, int]:
    """Shape of the buffer of one batch: `(T, H, W, 3)` within `BATCH_BYTES`, T at least 1."""
    height, width = target_size(sampling.size, height=info.height, width=info.width)
    return (max(1, min(batch_size, BATCH_BYTES // (height * width * 3))), height, width, 3)


class Decoder:
    """Describes and decodes one video.

    Args:
        fd: a read-only descriptor of a regular file; it stays open.
        name: the file's name, for messages.
        limits: what the video may cost.
        threads: decoder threads.
        tick: called with the number of frames walked, for every packet; it may raise to stop.
        overheard: where FFmpeg's log lines arrive, if anywhere.

    Raises:
        VideoError: the video cannot be used; each subclass says why.
    """

    def __init__(
        self,
        fd: int,
        *,
        name: str,
        limits: Limits,
        threads: int = 1,
        tick: Callable[[int], None] = lambda _: None,
        overheard: list[tuple[int, str, str]] | None = None,
    ) -> None:
        """Open the container and look at its first picture."""
        self._tick = tick
        self.walked = 0
        self._media = Media(
            self._source(fd, name),
            name=name,
            limits=limits,
            threads=threads,
            overheard=[] if overheard is None else overheard,
        )
        try:
            self.orientation, self.info = self._describe()
        except BaseException:
            self._media.close()
            raise

    def close(self) -> None:
        """Release FFmpeg's state."""
        self._media.close()

    def _source(self, fd: int, name: str) -> ByteSource:
        return ByteSource(fd, label=name, on_read=lambda: self._tick(self.walked))

    def _describe(self) -> tuple[Orientation, VideoInfo]:
        media, limits, name = self._media, self._media.limits, self._media.name
        duration = media.measured_duration()
        if duration is not None:
            media.reopen()
        cursor = Cursor(media, tick=self._tick)
        if duration is None:
            duration = media.declared_duration()
        if duration is None:
            duration = cursor.scan().end
        if duration > limits.duration_s:
            raise VideoLimitExceeded(
                f"{name} lasts {float(duration):.0f} s, longer than {limits.duration_s:g} s",
                remedy="Raise duration_s in Limits, or cut it into parts.",
            )
        rate = media.stream.average_rate
        if rate is not None and rate > limits.fps:
            raise VideoLimitExceeded(
                f"{name} declares {float(rate):.0f} frames a second, more than {limits.fps:g}",
                remedy="Raise fps in Limits if you trust it.",
            )
        # The header does not say how the picture is turned, and damage may hide behind it: one picture tells.
        first = cursor.next()
        if first is None:
            raise UnreadableVideo(
                f"{name} is damaged: none of its pictures can be decoded", remedy="Copy or download it again."
            )
        return self._info(first, duration)

    def _info(self, first: Shown, duration: Fraction) -> tuple[Orientation, VideoInfo]:
        media, stream, frame = self._media, self._media.stream, first.frame
        context = stream.codec_context
        orientation = orientation_of(frame)
        height, width = orientation.shown(frame.height, frame.width)
        depths = [component.bits for component in frame.format.components]
        missing = media.structure.missing_bytes
        warnings = (f"{media.name} was cut short: {missing:,} bytes are missing at its end",) if missing else ()
        return orientation, VideoInfo(
            container=media.kind.name,
            codec=media.codec,
            width=width,
            height=height,
            coded_width=context.coded_width or frame.width,
            coded_height=context.coded_height or frame.height,
            rotation=orientation.rotation,
            mirrored=orientation.mirrored,
            pixel_aspect=float(stream.sample_aspect_ratio or 1),
            pixel_format=frame.format.name,
            bit_depth=max(depths),
            average_fps=None if stream.average_rate is None else float(stream.average_rate),
            real_fps=None if stream.guessed_rate is None else float(stream.guessed_rate),
            duration_s=max(0.0, float(duration)),
            frame_count=None if missing else media.frame_count(),
            start_s=float(media.start),
            size_bytes=media.source.size,
            streams=len(media.container.streams),
            has_audio=bool(media.container.streams.audio),
            warnings=warnings,
        )

    def batches(
        self,
        samplings: Sequence[Sampling],
        *,
        allocate: Allocate,
        warn: Callable[[str], None],
    ) -> Iterator[Batch]:
        """Walk the video once and give every sampling its frames.

        Args:
            samplings: what is wanted; results carry the position in this sequence.
            allocate: gives an empty buffer for a sampling, uint8 `batch_shape`; called when one is needed.
            warn: called with each warning, one line, at the end of the walk.

        Yields:
            Filled buffers, in the order in which they fill; for each sampling in the order of time.
        """
        cursor = self._begin()
        painters = [self._painter(sampling) for sampling in samplings]
        open_batches: dict[int, Batch] = {}
        for consumer, shown, times in self._walk(cursor, samplings):
            for repeat in range(times):
                batch = open_batches.get(consumer)
                if batch is None:
                    batch = open_batches[consumer] = Batch(consumer, allocate(consumer))
                at = len(batch.times_s)
                if repeat and at:
                    batch.images[at] = batch.images[at - 1]
                else:
                    painters[consumer].draw(shown.frame, batch.images[at])
                batch.times_s.append(shown.time_s)
                if len(batch.times_s) == len(batch.images):
                    yield open_batches.pop(consumer)
        self.walked = cursor.walked
        for warning in self._complaints(cursor):
            warn(warning)
        yield from (open_batches[consumer] for consumer in sorted(open_batches))

    def _begin(self) -> Cursor:
        """A cursor at the first frame."""
        self._media.reopen()
        return Cursor(self._media, tick=self._tick)

    def _length_s(self) -> float:
        """How long the video is, as far as that is known beforehand."""
        return self.info.duration_s

    def _end_s(self, before_s: float, last_s: float) -> float:  # noqa: ARG002 (a stream needs them)
        """When the last frame ends."""
        return self.info.duration_s

    def _painter(self, sampling: Sampling) -> Painter:
        height, width = target_size(sampling.size, height=self.info.height, width=self.info.width)
        return Painter(height, width, orientation=self.orientation)

    def _walk(self, cursor: Cursor, samplings: Sequence[Sampling]) -> Iterator[tuple[int, Shown, int]]:
        """Each wanted frame with who wants it and how often."""
        selectors = [Selector(sampling, duration_s=self._length_s()) for sampling in samplings]
        shown: Shown | None = None
        asked = before_s = -math.inf
        while any(not selector.done for selector in selectors):
            earliest = min(selector.next_s for selector in selectors)
            if earliest > asked:
                cursor.skip_to(earliest)
                asked = earliest
            following = cursor.next()
            if following is None:
                break
            # Before the first frame the first is shown, so it stands in for the one before it.
            current = following if shown is None else shown
            for consumer, selector in enumerate(selectors):
                if times := selector.settle(current.time_s, following.time_s):
                    yield consumer, current, times
                if selector.wants(following.time_s):
                    yield consumer, following, 1
            before_s, shown = current.time_s, following
        if shown is None:
            return
        end_s = self._end_s(before_s, shown.time_s)
        for consumer, selector in enumerate(selectors):
            if times := selector.finish(shown.time_s, end_s=end_s):
                yield consumer, shown, times

    def _complaints(self, cursor: Cursor) -> Iterator[str]:
        name = self._media.name
        if cursor.damaged:
            yield f"{name} is damaged: {cursor.damaged} pieces of it could not be decoded"
        if cursor.corrupt:
            yield f"{name} is damaged: {cursor.corrupt} of its pictures are shown with faults"
        period = 1 / self.info.average_fps if self.info.average_fps else 0.04
        short = self.info.duration_s - cursor.last_s  # below 0 where the length is not known
        # Where there is sound, the declared length may be that of the sound.
        if cursor.ended and not self.info.has_audio and short > max(0.5, 3 * period):
            yield f"{name} ends at {cursor.last_s:.2f} s although it declares {self.info.duration_s:.2f} s"
