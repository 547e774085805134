"""Frames to files: H.264 MP4, JPEG, and a moment cut out of a video.

Every file appears whole or not at all (`files.atomic`). MP4s play in any browser: 8-bit 4:2:0 with BT.709 colour, the
index in front, even sides (an odd picture gains one row or column that repeats its last).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from trifocal.errors import InvalidInput
from trifocal.video.checks import check_image, check_whole, is_number
from trifocal.video.files import atomic, unwritable
from trifocal.video.reader import open as open_video
from trifocal.video.sampling import Sampling

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from av.video.stream import VideoStream

    from trifocal.video.limits import Limits

__all__ = ["cut_clip", "write_jpeg", "write_mp4"]

_X264: Final = "mbtree=0"
"""Macroblock trees give other bytes from run to run, on one thread too, and equal frames are to be equal files."""

_CLOCK: Final = 90_000
"""Ticks a second of the files written: whole for 24, 25, 30, 50, 60 and for 30000/1001 frames a second."""

_BT709: Final = 1
_PRESETS: Final = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

Image = npt.NDArray[np.uint8]


def write_mp4(
    path: str | os.PathLike[str],
    frames: Iterable[Image],
    *,
    fps: float | Fraction,
    crf: int = 23,
    preset: str = "veryfast",
    gop: int | None = None,
) -> int:
    """Write an H.264 MP4 without sound.

    Args:
        path: where to; replaced when it exists.
        frames: uint8 `(H, W, 3)` RGB, all of one size; consumed one by one, so a generator needs no memory.
        fps: frames per second.
        crf: constant quality, 0 (lossless) to 51 (worst).
        preset: x264's speed, `ultrafast` to `veryslow`.
        gop: most frames between two key frames; two seconds by default.

    Returns:
        The number of frames written.

    Raises:
        InvalidInput: no frames, an unusable frame or value, or a path that cannot be written.
    """
    rate = _rate(fps)
    spaced = ((image, index / rate) for index, image in enumerate(frames))
    return _write(Path(path), spaced, rate=rate, crf=crf, preset=preset, gop=gop)


def cut_clip(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    start_s: float,
    end_s: float,
    limits: Limits | None = None,
    size: int | None = None,
    crf: int = 23,
) -> int:
    """Write one moment of a video as an H.264 MP4 without sound; frame times are kept, also uneven ones.

    Args:
        source: a video; it is decoded in isolation.
        target: where to; replaced when it exists.
        start_s: begin of the moment in seconds; the frame shown then is the clip's first.
        end_s: end of the moment, not part of it.
        limits: what the source may cost.
        size: shorter side of the clip, never enlarged; as it is by default.
        crf: constant quality, 0 to 51.

    Returns:
        The number of frames written.

    Raises:
        InvalidInput: an empty moment, or a path that cannot be written.
        VideoError: the source cannot be decoded.
    """
    wanted = Sampling.every(start_s=start_s, end_s=end_s, size=size)
    if Path(source).resolve() == Path(target).resolve():
        raise InvalidInput(f"{target} is the video itself", remedy="Give another target.")
    with open_video(source, limits=limits) as video:
        rate = _rate(video.info.average_fps or 25.0)
        # The frame shown at the start may have begun before it.
        shown = video.read(Sampling.at_times([start_s], size=size))

        def moment() -> Iterator[tuple[Image, Fraction]]:
            if float(shown.times_s[0]) < start_s < video.info.duration_s:
                yield shown.images[0], Fraction(0)
            for batch in video.stream(wanted):
                for image, time_s in zip(batch.images, batch.times_s, strict=True):
                    yield image, Fraction(float(time_s)) - Fraction(start_s)

        try:
            return _write(Path(target), moment(), rate=rate, crf=crf, preset="veryfast", gop=None)
        except _NothingError as error:
            raise InvalidInput(
                f"{Path(source).name} shows nothing from {start_s:g} s to {end_s:g} s",
                remedy=f"It lasts {video.info.duration_s:.2f} s.",
            ) from error


def write_jpeg(path: str | os.PathLike[str], image: Image, *, quality: int = 88) -> None:
    """Write one picture as JPEG.

    Args:
        path: where to; replaced when it exists.
        image: uint8 `(H, W, 3)` RGB.
        quality: 1 to 95.

    Raises:
        InvalidInput: an unusable picture or quality, or a path that cannot be written.
    """
    check_image(image)
    check_whole("quality", quality, low=1, high=95)
    from PIL import Image as pil  # noqa: N813

    with atomic(Path(path)) as temporary:
        try:
            pil.fromarray(image).save(temporary, "JPEG", quality=quality, optimize=True)
        except OSError as error:
            raise unwritable(Path(path), error) from error


class _NothingError(InvalidInput):
    """There was no frame to write."""


def _write(
    path: Path, frames: Iterator[tuple[Image, Fraction]], *, rate: Fraction, crf: int, preset: str, gop: int | None
) -> int:
    check_whole("crf", crf, low=0, high=51)
    if preset not in _PRESETS:
        raise InvalidInput(f"preset is {preset!r}", remedy=f"Give one of: {', '.join(_PRESETS)}.")
    if gop is not None:
        check_whole("gop", gop, low=1)
    first = next(frames, None)
    if first is None:
        raise _NothingError("there are no frames to write", remedy="Give at least one.")
    check_image(first[0])
    with atomic(path) as temporary:
        return _encode(temporary, chain([first], frames), first[0].shape, rate, crf, preset, gop)


def _encode(
    path: Path,
    frames: Iterable[tuple[Image, Fraction]],
    shape: tuple[int, ...],
    rate: Fraction,
    crf: int,
    preset: str,
    gop: int | None,
) -> int:
    height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    count, last = 0, -1
    try:
        with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
            options = {"crf": str(crf), "preset": preset, "x264-params": _X264}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _CLOCK)
            stream.gop_size = gop or max(1, round(2 * rate))
            stream.colorspace = stream.color_primaries = stream.color_trc = _BT709
            stream.color_range = int(ColorRange.MPEG)
            for image, time_s in frames:
                check_image(image, shape=shape)
                picture = _picture(image, height, width)
                # Two frames may not share a tick, however close they are.
                last = picture.pts = max(last + 1, round(time_s * _CLOCK))
                picture.time_base = Fraction(1, _CLOCK)
                container.mux(stream.encode(picture))
                count += 1
            container.mux(_drain(stream))
    except av.error.FFmpegError as error:
        raise InvalidInput(
            f"{width}×{height} at {float(rate):g} frames a second cannot be encoded",
            remedy="Give a usual size and rate, and see that the disk has room.",
        ) from error
    return count


def _drain(stream: VideoStream) -> list[av.Packet[Any]]:
    return list(stream.encode(None))


def _picture(image: Image, height: int, width: int) -> av.VideoFrame:
    rows, columns = image.shape[:2]
    if (rows, columns) != (height, width):
        image = np.pad(image, ((0, height - rows), (0, width - columns), (0, 0)), mode="edge")
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return rgb.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
        threads=1,
    )


def _rate(fps: float | Fraction) -> Fraction:
    if not (isinstance(fps, Fraction) or is_number(fps)) or not 0 < fps <= 1000:
        raise InvalidInput(f"fps is {fps!r}", remedy="Give frames per second, above 0 and at most 1000.")
    # 29.97 means 30000/1001; a denominator of 1001 covers all rates in use. Below 1 it is the period that is simple.
    rate = Fraction(fps)
    return rate.limit_denominator(1001) if rate >= 1 else 1 / (1 / rate).limit_denominator(1001)
