"""Where a class looked for one actor: its attention over the tube's time, laid over the video.

The video is watched again over the tube's span, or for a sheet around a few moments only, and of each moment the query
whose box overlaps the tube's most is taken. `heat` gives pictures one by one, for a film or a contact sheet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trifocal import video as video_files
from trifocal.action.render import draw_actors, overlay
from trifocal.action.tubes import pairwise_iou
from trifocal.action.watch import WatchConfig, watch
from trifocal.errors import InvalidInput
from trifocal.video import Limits, Sampling

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.action.model import ActionModel
    from trifocal.action.tube import Tube
    from trifocal.action.tubes import FrameDetections
    from trifocal.video import Video

    Picture = npt.NDArray[np.uint8]

__all__ = ["heat"]


def heat(
    path: str | Path,
    tube: Tube,
    *,
    model: ActionModel,
    action: str,
    limits: Limits | None = None,
    config: WatchConfig | None = None,
    shorter_side: int = 360,
    moments: int | None = None,
) -> Iterator[tuple[float, Picture]]:
    """The video with one class's attention for one actor as heat, at each moment of the tube.

    Args:
        path: the video's file.
        tube: the actor.
        model: what detected it.
        action: the class.
        limits: what the file may be.
        config: how it is watched.
        shorter_side: of the pictures, in pixels; never enlarged.
        moments: only so many of the tube's moments, spread evenly, and only what is around them is watched; None for
            all.

    Yields:
        Second and uint8 `(H, W, 3)`.

    Raises:
        InvalidInput: the model has no such class, or `moments` is below 1.
        VideoError: the video cannot be used.
    """
    label = model.label(action)
    if moments is not None and moments < 1:
        raise InvalidInput(f"moments is {moments}", remedy="Give at least 1, or None for all.")
    ask = replace(config or WatchConfig(), attention=True)
    with video_files.open(path, limits=limits) as opened:
        size = (opened.info.height, opened.info.width)
        slack = 0.5 / model.sample_rate  # frames that are looked at again need not be the tube's to the digit
        maps: dict[float, npt.NDArray[np.float32]] = {}
        seen = _whole(opened, tube, model, ask) if moments is None else _some(opened, tube, model, ask, moments)
        for moment in seen:
            if not tube.start_s - slack <= moment.time_s <= tube.end_s + slack or moment.attention is None:
                continue
            box = np.array([np.interp(moment.time_s, tube.times_s, tube.boxes_xyxy[:, side]) for side in range(4)])
            overlaps = pairwise_iou(moment.boxes_xyxy, box[None])[:, 0]
            maps[moment.time_s] = moment.attention[int(overlaps.argmax()), label]
        if not maps:
            return
        shown = {action: tube.actions[action]} if action in tube.actions else {}
        only = replace(tube, actions=shown)
        known = np.array(sorted(maps))
        for piece in opened.stream(Sampling.at_times(known.tolist(), size=shorter_side)):
            for image, time_s in zip(piece.images, piece.times_s, strict=True):
                hot = overlay(image, maps[_nearest(known, float(time_s))])
                inside = float(np.clip(time_s, tube.start_s, tube.end_s))
                yield float(time_s), draw_actors(hot, [only], time_s=inside, size=size, least_score=0.0)


def _whole(opened: Video, tube: Tube, model: ActionModel, ask: WatchConfig) -> Iterator[FrameDetections]:
    """All moments of the tube."""
    margin = model.detector.config.frames / model.sample_rate
    sampling = _sampling(opened, model, max(0.0, tube.start_s - margin), tube.end_s + margin)
    return watch(model, opened.stream(sampling), size=(opened.info.height, opened.info.width), config=ask)


def _some(opened: Video, tube: Tube, model: ActionModel, ask: WatchConfig, count: int) -> Iterator[FrameDetections]:
    """`count` of the tube's moments, each in a window of its own."""
    rate, length = model.sample_rate, model.detector.config.frames
    places = np.unique(np.rint(np.linspace(0, len(tube) - 1, min(count, len(tube)))).astype(int))
    for time_s in tube.times_s[places].tolist():
        start_s = max(0.0, time_s - length // 2 / rate)
        window = opened.read(_sampling(opened, model, start_s, start_s + length / rate))
        # From one moment to the next it is as far as from the begin to the one that is wanted.
        one = replace(ask, every=max(1, round((time_s - start_s) * rate)), batch=1)
        for moment in watch(model, [window], size=(opened.info.height, opened.info.width), config=one):
            if moment.time_s >= time_s - 0.5 / rate:
                yield moment
                break


def _sampling(opened: Video, model: ActionModel, start_s: float, end_s: float) -> Sampling:
    size = model.frame_size((opened.info.height, opened.info.width))
    return Sampling.at_fps(model.sample_rate, start_s=start_s, end_s=end_s, size=size)


def _nearest(known: npt.NDArray[np.float64], time_s: float) -> float:
    """Of rising times, the nearest one."""
    place = int(np.searchsorted(known, time_s))
    around = known[max(0, place - 1) : place + 1]
    return float(around[np.abs(around - time_s).argmin()])
