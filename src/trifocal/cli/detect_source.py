"""What `trifocal detect` looks at: a file, the standard input, or a camera."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.video import Limits, LiveVideo

__all__ = ["is_file", "opened_source"]

FASTEST = 240  # frames per second of a stream, for the limit on frames


def is_file(video: str) -> bool:
    """Whether a word names something on disk."""
    try:
        return Path(video).exists()
    except (OSError, ValueError):  # too long, or no path at all
        return False


@contextmanager
def opened_source(
    video: str, *, camera: bool, size: str | None, fps: float | None, seconds: float | None
) -> Iterator[tuple[Path | LiveVideo, str]]:
    """A file's path or an open stream, and what results call it.

    Args:
        video: a path, "-", or a camera's device.
        camera: `video` is a camera.
        size: WIDTHxHEIGHT, where the standard input holds bare pictures.
        fps: their rate.
        seconds: where a stream is left; files have no such end.

    Raises:
        InvalidInput: words that do not belong together.
        VideoError: the stream cannot be used.
    """
    from trifocal.video import Camera, PipedVideo, RawVideo

    if (size is None) != (fps is None) or (size is not None and video != "-"):
        raise InvalidInput("--size and --fps belong together, and to the standard input", remedy="Give both, and -.")
    if seconds is not None and video != "-" and not camera:
        raise InvalidInput("--seconds is for streams and cameras", remedy="Leave it out.")
    limits = _limits()
    if camera:
        with Camera.open(video, limits=limits) as source:
            yield source, video
    elif video != "-":
        yield Path(video), video
    elif size is None:
        with PipedVideo(sys.stdin.fileno(), name="the standard input", limits=limits) as stream:
            yield stream, "stdin"
    else:
        sides = _parsed_size(size)
        raw = RawVideo(sys.stdin.fileno(), size=sides, fps=fps or 0.0, limits=limits)
        yield raw, "stdin"


def _limits() -> Limits:
    """For streams: they last as long as their writer likes."""
    from trifocal.video import Limits

    year = 366 * 86_400.0
    return Limits(duration_s=year, cpu_s=year, wall_s=year, frames=int(year * FASTEST))


def _parsed_size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal():
        raise InvalidInput(f"--size is {text}", remedy="Give WIDTHxHEIGHT, such as 640x360.")
    return int(height), int(width)
