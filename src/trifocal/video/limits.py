"""What a video may cost before it is refused.

`Limits` is one frozen dataclass. Size, length, rate and streams are checked from the header before anything is decoded,
and again on every frame while decoding; memory, CPU seconds, wall time and silence are enforced on the decoding process
from outside. The defaults admit an ordinary film in 4K and stop what only pretends to be one.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final, Self

from trifocal.errors import InvalidInput

__all__ = ["CODECS", "CONTAINERS", "Limits"]

CONTAINERS: Final = ("mp4", "matroska", "avi", "mpegts")
"""The containers that can be read; `mp4` covers QuickTime, `matroska` covers WebM."""

CODECS: Final = ("h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "mpeg4", "mpeg2video")
"""The codecs that can be read, by FFmpeg's names."""

_GIB: Final = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one video may cost. Every number is inclusive: a video exactly at a limit is read.

    Args:
        duration_s: longest video, in seconds, by its header and by its time stamps.
        file_bytes: largest file.
        max_side: largest width or height in pixels, also after a change in mid-stream.
        max_pixels: largest width × height.
        fps: highest average frame rate.
        streams: most streams (video, sound, subtitles) in a file.
        frames: most frames walked in one pass, whether returned or not.
        decoded_bytes: largest result of one `read`; `stream` holds one batch and is not bound by it.
        memory_bytes: address space of the decoding process. Only the isolated decoder enforces this and what follows.
        cpu_s: CPU seconds of one decoding process.
        wall_s: seconds one request may keep its caller waiting, in total.
        stall_s: seconds without a sign of life after which the decoding process is killed.
        containers: the containers allowed, of `CONTAINERS`.
        codecs: the codecs allowed, of `CODECS`.

    Raises:
        InvalidInput: a number is not positive or a name is unknown.
    """

    duration_s: float = 4 * 3600.0
    file_bytes: int = 8 * _GIB
    max_side: int = 8192
    max_pixels: int = 40_000_000
    fps: float = 240.0
    streams: int = 32
    frames: int = 4 * 3600 * 240
    decoded_bytes: int = 4 * _GIB
    memory_bytes: int = 4 * _GIB
    cpu_s: float = 4 * 3600.0
    wall_s: float = 4 * 3600.0
    stall_s: float = 20.0
    containers: tuple[str, ...] = CONTAINERS
    codecs: tuple[str, ...] = CODECS

    def __post_init__(self) -> None:
        """Check the values."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("containers", "codecs"):
                self._check_names(field.name, value)
            elif not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
                raise InvalidInput(f"limit {field.name} is {value!r}", remedy="Give a positive number.")
            elif isinstance(field.default, int) and not isinstance(value, int):
                raise InvalidInput(f"limit {field.name} is {value!r}", remedy="Give a whole number.")

    def _check_names(self, field: str, names: object) -> None:
        known = CONTAINERS if field == "containers" else CODECS
        if not isinstance(names, tuple) or not names or not set(names) <= set(known):
            raise InvalidInput(f"limit {field} is {names!r}", remedy=f"Give a tuple of: {', '.join(known)}.")

    def lowered(self, **changes: Any) -> Self:
        """These limits with some of them lowered: for requests by others, who may only lower them.

        Args:
            changes: fields by name; a number above the present one is brought down to it, a name not allowed at
                present stays out.

        Raises:
            InvalidInput: an unknown field, an unusable value, or an allow list of which nothing remains.
        """
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(changes) - known):
            raise InvalidInput(f"there is no limit {unknown[0]}", remedy=f"Known: {', '.join(sorted(known))}.")
        asked = dataclasses.replace(self, **changes)
        merged: dict[str, Any] = {}
        for name in changes:
            ours, theirs = getattr(self, name), getattr(asked, name)
            merged[name] = tuple(n for n in ours if n in theirs) if isinstance(ours, tuple) else min(ours, theirs)
        return dataclasses.replace(self, **merged)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From what `to_json` gave."""
        ready: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        try:
            return cls(**ready)
        except TypeError as error:
            raise InvalidInput(f"unusable limits: {error}", remedy="Give the fields of Limits.") from error
