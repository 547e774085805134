"""What a video is, before any of it is used.

`VideoInfo` is the answer of `probe`; it is plain data, equal in Python and JSON. Width and height are those shown,
after rotation; times count from `start_s`, the presentation start on the file's own clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from trifocal.errors import InvalidInput
from trifocal.video.checks import is_number

__all__ = ["VideoInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a video is.

    Args:
        container: `mp4`, `mov`, `matroska`, `webm`, `avi` or `mpegts`.
        codec: FFmpeg's name of the codec, such as `h264`.
        width: columns as shown, after rotation; square pixels are not forced (see `pixel_aspect`).
        height: rows as shown, after rotation.
        coded_width: columns as stored, with the codec's padding.
        coded_height: rows as stored, with the codec's padding.
        rotation: degrees by which a stored picture is turned clockwise to be shown: 0, 90, 180 or 270.
        mirrored: whether it is then mirrored left to right.
        pixel_aspect: width of a pixel over its height.
        pixel_format: FFmpeg's name, such as `yuv420p10le`.
        bit_depth: bits of each colour component.
        average_fps: frames over duration; `None` where unknown.
        real_fps: the rate of the shortest regular frame distance, FFmpeg's guess; `None` where unknown.
        duration_s: seconds from the presentation start to the end of the last frame, as declared or found by a scan.
        frame_count: number of frames; `None` where the header cannot be trusted.
        start_s: presentation start on the file's own clock, in seconds.
        size_bytes: length of the file.
        streams: number of streams of any kind.
        has_audio: whether there is sound.
        warnings: what is wrong with the file as far as its structure shows, one line each.
    """

    container: str
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    mirrored: bool
    pixel_aspect: float
    pixel_format: str
    bit_depth: int
    average_fps: float | None
    real_fps: float | None
    duration_s: float
    frame_count: int | None
    start_s: float
    size_bytes: int
    streams: int
    has_audio: bool
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From what `to_json` gave, also after a trip through JSON.

        Raises:
            InvalidInput: a field is missing or unknown, or its value is of another kind.
        """
        names = {field.name for field in fields(cls)}
        if wrong := sorted(names ^ set(values)):
            raise InvalidInput(
                f"a video's description has a wrong or missing field {wrong[0]}", remedy="Probe it again."
            )
        for field in fields(cls):
            if not _fits(str(field.type), values[field.name]):
                raise InvalidInput(
                    f"a video's description has {field.name} {values[field.name]!r:.60}", remedy="Probe it again."
                )
        return cls(**{**values, "warnings": tuple(values["warnings"])})


def _fits(kind: str, value: object) -> bool:
    """Whether a value is of the kind that a field declares, and plain enough to be shown and reckoned with."""
    match kind:
        case "float | None":
            return value is None or is_number(value)
        case "float":
            return is_number(value)
        case "int | None" if value is None:
            return True
        case "int" | "int | None":
            return isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str) and value.isprintable()
        case _:
            return isinstance(value, list | tuple) and all(isinstance(v, str) and v.isprintable() for v in value)
