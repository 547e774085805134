"""Small videos whose frames carry their number, made once for all tests of this folder.

The number is painted as black and white blocks, so it survives lossy coding, and each frame also has a picture of its
own, so that a wrong frame is never pixel for pixel a right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

BITS = 10
Image = npt.NDArray[np.uint8]


def numbered(number: int, *, height: int = 48, width: int = 80) -> Image:
    """A picture that shows `number`: two rows of five blocks in the middle half, over a moving ramp."""
    ramp = (np.arange(width)[None, :] * 2 + np.arange(height)[:, None] + 7 * number) % 256
    image = np.repeat(ramp.astype(np.uint8)[:, :, None], 3, axis=2)
    image[..., 1] = 255 - image[..., 1]
    for bit in range(BITS):
        row, column = divmod(bit, 5)
        top, left = row * height // 2, column * width // 5
        image[top : top + height // 2, left : left + width // 5] //= 2
        value = 235 if number >> bit & 1 else 20
        image[top + height // 16 : top + height * 7 // 16, left + width // 40 : left + width * 7 // 40] = value
    return image


def number_of(image: Image) -> int:
    """The number that a decoded picture shows."""
    height, width = image.shape[:2]
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, 5)
        y, x = row * height // 2 + height // 4, column * width // 5 + width // 10
        number |= int(image[y - 1 : y + 2, x - 1 : x + 2].mean() > 128) << bit
    return number


def numbers_of(images: Image) -> list[int]:
    return [number_of(image) for image in images]


@dataclass(frozen=True)
class Recipe:
    """How a test video is made."""

    codec: str = "libx264"
    container: str = "mp4"
    frames: int = 40
    height: int = 48
    width: int = 80
    rate: Fraction = Fraction(25)
    gop: int = 10
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    ticks: Sequence[int] | None = None
    clock: Fraction | None = None
    rotation: tuple[float, bool, bool] | None = None
    audio: bool = False
    shift: int = 0
    cut: int = 0

    def write(self, path: Path) -> Path:
        clock = self.clock or 1 / self.rate
        with av.open(str(path), "w", format=self.container, options=self.container_options) as output:
            stream: Any = output.add_stream(self.codec, rate=self.rate, options=self.options)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pixel_format
            stream.gop_size = self.gop
            stream.codec_context.time_base = stream.time_base = clock
            if self.rotation is not None:
                stream.set_display_rotation(self.rotation[0], hflip=self.rotation[1], vflip=self.rotation[2])
            sound: Any = output.add_stream("aac", rate=16000, layout="mono") if self.audio else None
            for index in range(self.frames):
                frame = av.VideoFrame.from_ndarray(
                    numbered(index, height=self.height, width=self.width), format="rgb24"
                )
                frame.pts = self.ticks[index] if self.ticks is not None else index
                frame.time_base = clock
                self._mux(output, stream.encode(frame))
            self._mux(output, stream.encode(None))
            if sound is not None:
                for index in range(self.frames * 16000 // (1024 * 25)):
                    noise = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                    noise.sample_rate, noise.pts, noise.time_base = 16000, index * 1024, Fraction(1, 16000)
                    output.mux(sound.encode(noise))
                output.mux(sound.encode(None))
        return path

    def times_s(self) -> list[float]:
        """When each frame is shown, counted from the first."""
        clock = self.clock or 1 / self.rate
        ticks = list(self.ticks or range(self.frames))
        # Where the muxer cuts what lies before zero, the first frame shown is a later one.
        return [float((t - ticks[self.cut]) * clock) for t in ticks[self.cut :]]

    def _mux(self, output: av.container.OutputContainer, packets: list[Any]) -> None:
        for packet in packets:
            if self.shift:
                packet.pts += self.shift
                packet.dts += self.shift
            output.mux(packet)


X265 = {"x265-params": "log-level=none:bframes=3"}
KEEP = {"avoid_negative_ts": "disabled"}
UNEVEN = [0, 1, 2, 7, 8, 15, 16, 17, 30, 31, 40, 41, 55, 56, 57, 58, 80, 81, 82, 99, 100, 120, 121, 130, 131, 132, 150]

RECIPES: dict[str, Recipe] = {
    "h264": Recipe(),
    "h264 long gop": Recipe(frames=60, gop=1000),
    "h264 intra": Recipe(gop=1, frames=20),
    "h264 no b": Recipe(options={"bf": "0"}),
    "h264 open gop": Recipe(options={"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}),
    "h264 intra refresh": Recipe(frames=60, options={"x264-params": "intra-refresh=1:bframes=0:keyint=12"}),
    "h264 uneven": Recipe(frames=len(UNEVEN), ticks=UNEVEN, clock=Fraction(1, 30), gop=6),
    "h264 ntsc": Recipe(rate=Fraction(30000, 1001)),
    "h264 10 bit": Recipe(pixel_format="yuv420p10le"),
    "h264 odd": Recipe(pixel_format="yuv444p", height=51, width=83),
    "h264 faststart": Recipe(container_options={"movflags": "faststart"}),
    "h264 fragmented": Recipe(container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "h264 mov": Recipe(container="mov"),
    "h264 mkv": Recipe(container="matroska"),
    "h264 mkv uneven": Recipe(container="matroska", frames=len(UNEVEN), ticks=UNEVEN, clock=Fraction(1, 50), gop=6),
    "h264 ts": Recipe(container="mpegts"),
    "h264 avi b": Recipe(container="avi"),
    "h264 sound": Recipe(audio=True, frames=50),
    "h264 one frame": Recipe(frames=1),
    "hevc": Recipe(codec="libx265", options=X265, width=96, height=64),
    "hevc ts": Recipe(codec="libx265", options=X265, width=96, height=64, container="mpegts"),
    "hevc 10 bit mkv": Recipe(
        codec="libx265", options=X265, width=96, height=64, container="matroska", pixel_format="yuv420p10le"
    ),
    "vp8 webm": Recipe(codec="libvpx", container="webm"),
    "vp9 webm": Recipe(codec="libvpx-vp9", container="webm", options={"cpu-used": "8"}),
    "vp9 webm live": Recipe(
        codec="libvpx-vp9", container="webm", options={"cpu-used": "8"}, container_options={"live": "1"}
    ),
    "av1 mp4": Recipe(codec="libsvtav1", options={"preset": "12"}, width=96, height=64),
    "mpeg4 avi": Recipe(codec="mpeg4", container="avi", options={"qscale": "3"}),
    "mpeg4 avi b": Recipe(codec="mpeg4", container="avi", options={"bf": "2", "qscale": "3"}),
    "mjpeg avi": Recipe(codec="mjpeg", container="avi", pixel_format="yuvj420p", frames=20),
    "h264 negative start ts": Recipe(container="mpegts", shift=-5, container_options=KEEP),
    "h264 late start ts": Recipe(container="mpegts", shift=35),
    "h264 late start mkv": Recipe(container="matroska", shift=50),
    "h264 late start mp4": Recipe(shift=50),
    "h264 edit list": Recipe(shift=-5, cut=5, container_options=KEEP),
    "h264 no edit list": Recipe(container_options={"use_editlist": "0"}),
    "mpeg4 avi gaps": Recipe(
        codec="mpeg4", container="avi", frames=8, ticks=[0, 1, 2, 5, 6, 7, 12, 13], gop=3, options={"qscale": "3"}
    ),
    "mpeg2 ts": Recipe(codec="mpeg2video", container="mpegts", options={"bf": "2", "qscale": "3"}),
}


class Workshop:
    """Makes and reads the test videos."""

    recipes = RECIPES
    numbered = staticmethod(numbered)
    numbers_of = staticmethod(numbers_of)
    recipe = staticmethod(Recipe)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def make(self, name: str) -> Path:
        """The path of the video of that recipe."""
        if name not in self._made:
            self._made[name] = RECIPES[name].write(self._folder / f"{name.replace(' ', '_')}.bin")
        return self._made[name]

    def bytes(self, name: str) -> bytes:
        return self.make(name).read_bytes()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("videos"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every recipe in turn for a test that takes a `recipe`."""
    if "recipe" in metafunc.fixturenames:
        metafunc.parametrize("recipe", list(RECIPES))
