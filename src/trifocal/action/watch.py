"""Watching a video of any length: a stream of frames in, the actors of one moment after the other out.

Frames come at the model's own rate. A keyframe model looks at overlapping windows, one around each moment; where its
body sees frame by frame, a frame is seen once however many windows share it. A tube model looks at windows in a row and
gives every frame. Only the frames of the windows in hand are held, so memory does not grow with the video.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import torch

from trifocal.action.output import AttentionRequest
from trifocal.action.tubes import FrameDetections
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.action.model import ActionModel
    from trifocal.action.output import DetectorOutput
    from trifocal.video import Frames

__all__ = ["Precision", "WatchConfig", "watch"]

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """How a video is watched.

    Args:
        every: sampled frames from one moment to the next, for a keyframe model; a tube model gives every frame.
        batch: windows that go through the model at a time.
        keep_above: actors that are less sure are left out of classification (faster; their class scores are 0).
        gated: multiply class scores by how surely somebody is there; None does so for tube models, as published.
        attention: also give the last layer's class attention maps.
        precision: "bf16" runs matrix products in bfloat16: faster where the processor knows it, scores change by about
            a hundredth.

    Raises:
        InvalidInput: a value out of its range.
    """

    every: int = 2
    batch: int = 4
    keep_above: float | None = None
    gated: bool | None = None
    attention: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("every", "batch"):
            if (value := getattr(self, name)) < 1:
                raise InvalidInput(f"{name} is {value}", remedy="Give a whole number of at least 1.")
        if self.keep_above is not None and not 0.0 <= self.keep_above < 1.0:
            raise InvalidInput(f"keep_above is {self.keep_above}", remedy="Give a number of at least 0 and below 1.")
        if self.precision not in get_args(Precision):
            raise InvalidInput(
                f"precision is {self.precision!r}", remedy=f"Give one of {', '.join(get_args(Precision))}."
            )


def watch(
    model: ActionModel, frames: Iterable[Frames], *, size: tuple[int, int], config: WatchConfig | None = None
) -> Iterator[FrameDetections]:
    """The actors of one moment after the other.

    Args:
        model: what to watch with.
        frames: batches at `model.sample_rate` frames a second, each of `model.frame_size(size)` pixels.
        size: height and width of the video as shown; boxes come in its pixels.
        config: how.

    Yields:
        Moments in order; every frame of a tube model, every `config.every`-th of a keyframe model.

    Raises:
        InvalidInput: the model's device does not know the precision.
    """
    config = config or WatchConfig()
    if config.precision == "bf16" and model.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InvalidInput(f"{torch.cuda.get_device_name(model.device)} knows no bf16", remedy="Give float32.")
    looked = _Look(model, size=size, config=config)
    windows = _key_windows if model.detector.config.mode == "keyframe" else _row_windows
    batch: list[_Window] = []
    for window in windows(_seen(model, frames, config=config), model, every=config.every):
        batch.append(window)
        if len(batch) == config.batch:
            yield from looked.at(batch)
            batch = []
    if batch:
        yield from looked.at(batch)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One frame: its second, and its pixels (3, 1, H, W) or, where frames are seen one by one, maps (1, 1, H, W, C)."""

    time_s: float
    parts: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    """T frames, and which of them are asked about, by place."""

    frames: Sequence[_Seen]
    places: Sequence[int]


def _precise(model: ActionModel, config: WatchConfig) -> torch.autocast:
    return torch.autocast(model.device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _seen(model: ActionModel, frames: Iterable[Frames], *, config: WatchConfig) -> Iterator[_Seen]:
    detector = model.detector
    per_frame = bool(cast("Any", detector.body).per_frame)
    step = 8 * config.batch
    for piece in frames:
        for start in range(0, len(piece), step):
            images = np.ascontiguousarray(piece.images[start : start + step])
            clip = model.prepare(images)  # (3, T, H, W)
            parts: tuple[torch.Tensor, ...] = (clip,)
            if per_frame:
                with torch.inference_mode(), _precise(model, config):
                    parts = detector.features(clip[None])  # (1, T, H, W, C) each
            for place in range(len(images)):
                time_s = float(piece.times_s[start + place])
                yield _Seen(time_s, tuple(part[:, place : place + 1] for part in parts))


def _key_windows(seen: Iterator[_Seen], model: ActionModel, *, every: int) -> Iterator[_Window]:
    """A window around every `every`-th frame; the first and the last frame stand in for those that do not exist."""
    length = model.detector.config.frames
    before = length // 2
    held: deque[_Seen] = deque()
    first = key = 0  # the number of the oldest frame that is held, and of the one asked about
    while True:
        end = key - before + length
        held.extend(itertools.islice(seen, max(0, end - first - len(held))))
        count = first + len(held)  # below `end` only where the video is over
        if key >= count:
            return
        numbers = (min(max(number, 0), count - 1) for number in range(key - before, end))
        yield _Window([held[number - first] for number in numbers], (before,))
        key += every
        while held and first < key - before:
            held.popleft()
            first += 1


def _row_windows(seen: Iterator[_Seen], model: ActionModel, *, every: int) -> Iterator[_Window]:  # noqa: ARG001
    """Windows one after the other, the last filled up with its last frame."""
    length = model.detector.config.frames
    while held := list(itertools.islice(seen, length)):
        yield _Window([*held, *[held[-1]] * (length - len(held))], range(len(held)))


class _Look:
    """Windows through the model, boxes to pixels of the video."""

    def __init__(self, model: ActionModel, *, size: tuple[int, int], config: WatchConfig) -> None:
        self._model, self._config = model, config
        height, width = size
        self._scale = np.array([width, height, width, height], np.float32)
        tubes = model.detector.config.mode == "tube"
        self._gated = tubes if config.gated is None else config.gated

    @torch.inference_mode()
    def at(self, windows: Sequence[_Window]) -> Iterator[FrameDetections]:
        detector = self._model.detector
        # By window, then by level: the frames joined along time.
        joined = [
            [torch.cat(level, 1) for level in zip(*(frame.parts for frame in window.frames), strict=True)]
            for window in windows
        ]
        keep = self._config.keep_above
        attention = AttentionRequest() if self._config.attention else None
        with _precise(self._model, self._config):
            if cast("Any", detector.body).per_frame:
                levels = [torch.cat(level) for level in zip(*joined, strict=True)]
                found = detector.from_features(levels, keep_above=keep, attention=attention)
            else:
                clips = torch.stack([pixels for (pixels,) in joined])
                found = detector(clips, keep_above=keep, attention=attention)
        yield from self._moments(windows, found)

    def _moments(self, windows: Sequence[_Window], found: DetectorOutput) -> Iterator[FrameDetections]:
        actors = found.person_scores.float()
        classes = found.class_scores.float() * (actors[..., None] if self._gated else 1.0)
        parts = [part.cpu().numpy() for part in (found.boxes_cxcywh.float(), actors, classes)]
        maps = found.attention[0].float().cpu().numpy() if found.attention else None
        for row, window in enumerate(windows):
            for number, place in enumerate(window.places):
                # A keyframe model's only moment has no axis of its own.
                at = (row, number) if parts[1].ndim == 3 else (row,)
                boxes, actor, scores = (part[at] for part in parts)
                attention = None if maps is None else maps[at]
                yield FrameDetections(window.frames[place].time_s, self._corners(boxes), actor, scores, attention)

    def _corners(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        centre, size = boxes[:, :2], boxes[:, 2:]
        corners = np.concatenate((centre - size / 2, centre + size / 2), 1).clip(0, 1)
        return (corners * self._scale).astype(np.float32)
