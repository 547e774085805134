"""Where a class looked for one actor: its attention over the tube's time, laid over the video.

The video is watched again over the tube's span, and of each moment the query whose box overlaps the tube's most is
taken. `heat` gives pictures one by one, for a film or a contact sheet.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    Yields:
        Second and uint8 `(H, W, 3)`.

    Raises:
        InvalidInput: the model has no such class.
        VideoError: the video cannot be used.
    """
    if action not in model.classes:
        raise InvalidInput(f"the model has no action {action!r}", remedy=f"It has {', '.join(model.classes)}.")
    label = model.classes.index(action)
    before = config or WatchConfig()
    ask = WatchConfig(every=before.every, batch=before.batch, keep_above=before.keep_above, attention=True)
    margin = model.detector.config.frames / model.sample_rate
    with video_files.open(path, limits=limits) as opened:
        size = (opened.info.height, opened.info.width)
        start_s, end_s = max(0.0, tube.start_s - margin), tube.end_s + margin
        sampling = Sampling.at_fps(model.sample_rate, start_s=start_s, end_s=end_s, size=model.frame_size(size))
        maps: dict[float, npt.NDArray[np.float32]] = {}
        for moment in watch(model, opened.stream(sampling), size=size, config=ask):
            if not tube.start_s <= moment.time_s <= tube.end_s or moment.attention is None:
                continue
            box = np.array([np.interp(moment.time_s, tube.times_s, tube.boxes_xyxy[:, side]) for side in range(4)])
            overlaps = pairwise_iou(moment.boxes_xyxy, box[None])[:, 0]
            maps[moment.time_s] = moment.attention[int(overlaps.argmax()), label]
        if not maps:
            return
        shown = {action: tube.actions[action]} if action in tube.actions else {}
        only = type(tube)(tube.video, tube.actor, tube.times_s, tube.boxes_xyxy, shown)
        for piece in opened.stream(Sampling.at_times(sorted(maps), size=shorter_side)):
            for image, time_s in zip(piece.images, piece.times_s, strict=True):
                nearest = min(maps, key=lambda known: abs(known - float(time_s)))
                hot = overlay(image, maps[nearest])
                yield float(time_s), draw_actors(hot, [only], time_s=float(time_s), size=size, least_score=0.0)
