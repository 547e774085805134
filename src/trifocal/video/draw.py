"""A decoded frame as RGB pixels: scaled inside the decoder's own scaler, turned as the file says.

swscale converts colour and size in one pass. Colours follow the matrix that the file names; where it names none, HD
pictures are taken as BT.709 and smaller ones as BT.601, as players do. High dynamic range is not tone-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av.sidedata.sidedata import SideData
    from av.video.frame import VideoFrame

__all__ = ["UPRIGHT", "Orientation", "Painter", "orientation_of"]

_UNSPECIFIED: Final = 2
_RGB: Final = 0
_HD_ROWS: Final = 720
# BILINEAR widens its kernel with the factor when it makes smaller, so it averages what it covers and nothing aliases.
_SCALING: Final = Interpolation.BILINEAR


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture becomes the shown one: turned clockwise, then mirrored left to right."""

    rotation: int = 0
    mirrored: bool = False

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The shown picture, a view of the stored `(H, W, 3)`."""
        turned = np.rot90(image, -self.rotation // 90) if self.rotation else image
        return turned[:, ::-1] if self.mirrored else turned

    def shown(self, height: int, width: int) -> tuple[int, int]:
        """Height and width as shown, of those stored; its own inverse."""
        return (width, height) if self.rotation % 180 else (height, width)


UPRIGHT: Final = Orientation()

_BY_SIGNS: Final = {
    # (exchanges x and y, flips x, flips y) as the display matrix does, to turn clockwise and mirror
    (False, False, False): Orientation(0, False),
    (False, True, True): Orientation(180, False),
    (True, True, False): Orientation(90, False),
    (True, False, True): Orientation(270, False),
    (False, True, False): Orientation(0, True),
    (False, False, True): Orientation(180, True),
    (True, False, False): Orientation(90, True),
    (True, True, True): Orientation(270, True),
}


def orientation_of(frame: VideoFrame) -> Orientation:
    """What the frame's display matrix asks for, to the nearest quarter turn; upright without one."""
    # A mapping by its stubs, a sequence by its code.
    for data in cast("Iterable[SideData]", frame.side_data):
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(cast("Any", data)), "<i4")[:5])
            exchanges = abs(b) + abs(c) > abs(a) + abs(d)
            flips_x, flips_y = (c < 0, b < 0) if exchanges else (a < 0, d < 0)
            return _BY_SIGNS[exchanges, flips_x, flips_y]
    return UPRIGHT


class Painter:
    """Draws frames of one video at one size.

    Args:
        height: rows of the result, after rotation.
        width: columns of the result, after rotation.
        orientation: how the file wants its pictures turned.
    """

    def __init__(self, height: int, width: int, *, orientation: Orientation = UPRIGHT) -> None:
        """Prepare a scaler; it is set up anew when the stored size changes."""
        self.height, self.width, self.orientation = height, width, orientation
        self._rows, self._columns = orientation.shown(height, width)
        self._scaler = VideoReformatter()

    @property
    def nbytes(self) -> int:
        """Bytes of one picture."""
        return self.height * self.width * 3

    def draw(self, frame: VideoFrame, out: npt.NDArray[np.uint8]) -> None:
        """Write the picture into `out`, uint8 `(H, W, 3)`, RGB."""
        if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
            source = Colorspace.ITU709 if frame.height >= _HD_ROWS else Colorspace.ITU601
        else:
            source = None
        rgb = self._scaler.reformat(
            frame,
            width=self._columns,
            height=self._rows,
            format="rgb24",
            src_colorspace=source,
            interpolation=_SCALING,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(cast("Any", plane)), np.uint8).reshape(-1, plane.line_size)[
            : self._rows, : 3 * self._columns
        ]
        stored = rows.reshape(self._rows, self._columns, 3)  # (H, W, 3) as stored
        out[...] = self.orientation.apply(stored)
