"""Clips with targets, straight from video files: what training and evaluation take their batches from.

A sample is a key frame or a window (`windows`), its frames are decoded at the size the model wants, its targets come
from the labels. The frames of a sample depend on nothing but the labels, the video and the configuration; in training
they vary with (seed, epoch, sample), so a run repeats exactly whatever the order of loading.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
import torch

from trifocal.action.data.build_targets import keyframe_targets, tube_targets
from trifocal.action.data.targets import ClipTargets, Targets
from trifocal.action.data.transforms import Augmentation, augment
from trifocal.action.data.windows import Compat, Window, keyframe_indices, tube_windows
from trifocal.action.detector import pad_clips
from trifocal.errors import InvalidInput, VideoNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from trifocal.action.labels import Labels, VideoLabels
    from trifocal.video import Video

__all__ = ["Clip", "ClipBatch", "ClipConfig", "ClipDataset", "FrameSource", "VideoFolder", "collate"]

_OPEN_VIDEOS = 8
_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts")


class FrameSource(Protocol):
    """Where frames come from."""

    def length(self, labels: VideoLabels) -> tuple[float, float]:
        """(seconds, frames per second) of a video."""

    def read(self, labels: VideoLabels, times_s: Sequence[float], *, short_side: int) -> NDArray[np.uint8]:
        """The frames shown at rising seconds: uint8 (T, H, W, 3), its short side resized."""


class VideoFolder:
    """Frames of video files in a folder; a file is found by the labels' own path, or by the video's id.

    Args:
        folder: of the videos.
        isolated: decode in a process of its own; switch it off for files that you made, which opens them faster.
    """

    def __init__(self, folder: Path, *, isolated: bool = True) -> None:
        """Open nothing yet."""
        self.folder, self._isolated = Path(folder), isolated
        self._open: OrderedDict[str, Video] = OrderedDict()

    def path(self, labels: VideoLabels) -> Path:
        """The file of a video.

        Raises:
            VideoNotFound: there is none.
        """
        names = ([labels.file] if labels.file else []) + [labels.video + suffix for suffix in ("", *_SUFFIXES)]
        root = self.folder.resolve()
        for name in names:
            path = (root / name).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path
        raise VideoNotFound(
            f"no file of the video {labels.video!r} is in {self.folder}",
            remedy=f"Name it {labels.video}.mp4, or give the folder that it is in.",
        )

    def _video(self, labels: VideoLabels) -> Video:
        from trifocal import video

        if labels.video not in self._open:
            self._open[labels.video] = video.open(self.path(labels), isolated=self._isolated)
            if len(self._open) > _OPEN_VIDEOS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(labels.video)
        return self._open[labels.video]

    def length(self, labels: VideoLabels) -> tuple[float, float]:
        """(seconds, frames per second) of a video; 25 where the file does not tell."""
        info = self._video(labels).info
        return info.duration_s, info.average_fps or 25.0

    def size(self, labels: VideoLabels) -> tuple[int, int]:
        """(width, height) of a video."""
        info = self._video(labels).info
        return info.width, info.height

    def timed(self, labels: Labels) -> Labels:
        """Labels with the videos' own frames per second where nobody told them.

        Raises:
            VideoError: such a video is missing or cannot be read.
        """
        return labels.timed({one.video: self.length(one)[1] for one in labels.videos if not one.rate_told})

    def read(self, labels: VideoLabels, times_s: Sequence[float], *, short_side: int) -> NDArray[np.uint8]:
        """The frames shown at rising seconds."""
        from trifocal.video import Sampling

        info = self._video(labels).info
        scale = short_side / min(info.height, info.width)
        # As published, the long side is cut down to whole pixels.
        size = tuple(
            short_side if side == min(info.height, info.width) else int(side * scale + 1e-9)
            for side in (info.height, info.width)
        )
        return self._video(labels).read(Sampling.at_times(times_s, size=(size[0], size[1]))).images

    def close(self) -> None:
        """Close the videos."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        """The folder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the videos."""
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """What a clip is.

    Args:
        mode: `keyframe` or `tube`.
        frames: T.
        step: frames from one frame of the clip to the next, on the grid of `frame_rate`.
        short_side: pixels.
        frame_rate: frames per second that `step` counts in keyframe mode; None takes the video's own (AVA: 30). Tubes
            count the labels' own frames.
        start_s: the video's second that is the labels' second 0 (900 where a file was cut from second 900 on: then
            give -900 seconds).
        augmentation: how clips vary in training; None for evaluation.
        empty: also key frames that were looked at without an actor in them, and windows without a box.
        compat: `reference` takes frames and cuts corners as released.

    Raises:
        InvalidInput: a number out of range.
    """

    mode: Literal["keyframe", "tube"] = "keyframe"
    frames: int = 16
    step: int = 4
    short_side: int = 256
    frame_rate: float | None = None
    start_s: float = 0.0
    augmentation: Augmentation | None = None
    empty: bool = True
    compat: Compat = "default"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.mode not in ("keyframe", "tube"):
            raise InvalidInput(f"mode is {self.mode!r}", remedy="Give keyframe or tube.")
        for name in ("frames", "step", "short_side"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)!r}", remedy="Give a whole number of at least 1.")
        if self.frame_rate is not None and not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise InvalidInput(f"frame_rate is {self.frame_rate}", remedy="Give frames per second, above 0.")


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A sample.

    Args:
        video: the id of the video.
        indices: int64 (T,) or (1,): the labels' frame of each target frame.
        padded: bool, of the same shape: a repeated frame.
        frames: uint8 tensor (T, H, W, 3).
        targets: what is true of it.
        size: (width, height) of the picture that boxes are measured in.
    """

    video: str
    indices: NDArray[np.int64]
    padded: NDArray[np.bool_]
    frames: Tensor
    targets: ClipTargets
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class ClipBatch:
    """A batch for the model.

    Args:
        clips: float32 (B, 3, T, H, W), zeros at the right and the bottom of smaller ones.
        padding: bool (B, H, W), True there; None where all have one size.
        targets: of the batch.
        samples: the clips it is made of, without their frames' copies.
    """

    clips: Tensor
    padding: Tensor | None
    targets: Targets
    samples: tuple[Clip, ...]


def collate(samples: Sequence[Clip], *, preprocess: Callable[[Tensor], Tensor]) -> ClipBatch:
    """Make a batch.

    Args:
        samples: clips of one length.
        preprocess: uint8 (T, H, W, 3) to float32 (3, T, H, W), the model's own.
    """
    clips, padding = pad_clips([preprocess(one.frames) for one in samples])
    return ClipBatch(clips, padding, Targets.collate([one.targets for one in samples]), tuple(samples))


class ClipDataset(torch.utils.data.Dataset[Clip]):
    """All clips of labelled videos: `dataset[i]` decodes one.

    Args:
        labels: which videos, and what is true of them.
        config: what a clip is.
        frames: where the frames come from.
        seed: of the variation in training.
    """

    def __init__(self, labels: Labels, config: ClipConfig, *, frames: FrameSource, seed: int = 0) -> None:
        """List the samples; only tube mode looks at the videos (for their number of frames, where no label tells)."""
        self.labels, self.config, self.source, self.seed = labels, config, frames, seed
        self.epoch = 0
        self._samples: list[tuple[VideoLabels, int | Window]] = []
        for one in labels.videos:
            self._samples += [(one, place) for place in self._places(one)]

    def _places(self, one: VideoLabels) -> list[int | Window]:
        if self.config.mode == "keyframe":
            wanted = one.looked_at if self.config.empty else np.setdiff1d(np.unique(one.indices), one.excluded)
            return [int(index) for index in wanted]
        windows = tube_windows(self._count(one), frames=self.config.frames, compat=self.config.compat)
        ends = [(window.first, window.first + window.length) for window in windows]
        return [
            window
            for window, (first, stop) in zip(windows, ends, strict=True)
            if self.config.empty or ((one.indices >= first) & (one.indices < stop)).any()
        ]

    def _count(self, one: VideoLabels) -> int:
        """Frames of a video on the labels' grid."""
        if one.frame_count is not None:
            return one.frame_count
        seconds, _ = self.source.length(one)
        return max(1, round((seconds - self.config.start_s) * one.rate))

    def __len__(self) -> int:
        """The number of clips."""
        return len(self._samples)

    def key(self, number: int) -> tuple[str, int]:
        """Video and frame number (of the key frame, or of the window's first slot) of a sample, without decoding it."""
        one, place = self._samples[number]
        return one.video, place.first if isinstance(place, Window) else place

    def facts(self, number: int) -> tuple[str, NDArray[np.int64], NDArray[np.bool_], tuple[int, int]]:
        """Of a sample, without decoding it: `video`, `indices`, `padded` and `size` as `Clip` has them."""
        one, place = self._samples[number]
        if isinstance(place, Window):
            return one.video, place.numbers, place.padded, (one.width, one.height)
        return one.video, np.array([place]), np.zeros(1, np.bool_), (one.width, one.height)

    def targets(self, number: int) -> ClipTargets:
        """What is true of a sample, unvaried and without decoding it."""
        one, place = self._samples[number]
        return keyframe_targets(one, place) if isinstance(place, int) else tube_targets(one, place)

    def __getitem__(self, number: int) -> Clip:
        """Decode a sample.

        Raises:
            VideoError: its video is missing or cannot be decoded.
        """
        config, (one, place) = self.config, self._samples[number]
        varied = config.augmentation
        side = config.short_side if varied is None else round(config.short_side * varied.resize)
        times = self._times(one, place)
        frames = torch.from_numpy(np.ascontiguousarray(self.source.read(one, times, short_side=side)))
        rounded = (int(frames.shape[1]), int(frames.shape[2])) if config.compat == "reference" else None
        if isinstance(place, Window):
            targets = tube_targets(one, place, quantised_to=rounded)
        else:
            targets = keyframe_targets(one, place, quantised_to=rounded)
        if varied is not None:
            draw = np.random.default_rng((self.seed, self.epoch, number))
            frames, targets = augment(frames, targets, varied, short_side=config.short_side, draw=draw)
        video, indices, padded, size = self.facts(number)
        return Clip(video, indices, padded, frames, targets, size)

    def _times(self, one: VideoLabels, place: int | Window) -> list[float]:
        """Seconds of the file at which the clip's frames are shown, each a little after its begin."""
        config = self.config
        if isinstance(place, Window):
            grid, numbers = one.rate, place.indices.astype(np.float64)
        else:
            seconds, own = self.source.length(one)
            grid = config.frame_rate or own
            key = round((place / one.rate + config.start_s) * grid)
            count = max(1, math.ceil(seconds * grid - 1e-6))
            numbers = keyframe_indices(
                key, frames=config.frames, step=config.step, count=count, compat=config.compat
            ).astype(np.float64)
            return [float(value) for value in (numbers + 0.25) / grid]
        return [float(max(0.0, value)) for value in (numbers + 0.25) / grid + config.start_s]
