"""Labelled clips as what a detector takes, and what it finds on them, in the labels' own frames and pixels.

`ClipReader` makes batches. Where the body is frozen and sees frame by frame, its maps are kept in memory, so that a
clip is decoded and seen once however often it is needed. `detect_clips` runs over a data set; `detect_labelled` does so
for a model from a folder, which is how published figures are measured: every query of every frame, no linking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from trifocal.action.data.clips import Clip, ClipConfig, ClipDataset, FrameSource, collate
from trifocal.action.data.targets import Targets
from trifocal.action.evaluation.tables import Detections
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.action.data.windows import Compat
    from trifocal.action.detector import Detector
    from trifocal.action.labels import Labels
    from trifocal.action.model import ActionModel
    from trifocal.action.output import DetectorOutput

__all__ = ["ClipInput", "ClipReader", "class_places", "detect_clips", "detect_labelled"]

CACHE_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True, eq=False)
class ClipInput:
    """A batch: maps of the body (`seen`) or pixels, with targets.

    Args:
        levels: maps (B, T', H', W', C), or the clips (B, 3, T, H, W) alone.
        padding: bool (B, H, W), True outside a clip; None where all have one size.
        targets: of the batch.
        seen: whether the body has seen them.
    """

    levels: tuple[Tensor, ...]
    padding: Tensor | None
    targets: Targets
    seen: bool

    def to(self, device: torch.device | str) -> ClipInput:
        """The same on another device."""
        padding = None if self.padding is None else self.padding.to(device)
        return ClipInput(tuple(one.to(device) for one in self.levels), padding, self.targets.to(device), self.seen)


class ClipReader:
    """Makes batches of clips.

    Args:
        model: what they are for.
        most_bytes: of maps that are kept.
    """

    def __init__(self, model: Detector, *, most_bytes: int = CACHE_BYTES) -> None:
        """Keep nothing yet."""
        self.model = model
        self._most = most_bytes
        frozen = not any(one.requires_grad for one in model.body.parameters())
        self._keeps = frozen and bool(cast("Any", model.body).per_frame)
        self._kept: dict[tuple[str, int], tuple[Tensor, ...]] = {}
        self._bytes = 0

    def read(self, clips: ClipDataset, rows: Sequence[int]) -> ClipInput:
        """A batch of the clips with these numbers.

        Raises:
            VideoError: a video is missing or cannot be decoded.
        """
        if not self._keeps or clips.config.augmentation is not None:
            return self._pixels([clips[row] for row in rows])
        device = self.model.level_code.device
        levels = [self._maps(clips, row, device) for row in rows]
        if len({tuple(one.shape for one in maps) for maps in levels}) > 1:
            # Videos of different sizes are padded as pixels, before the body.
            return self._pixels([clips[row] for row in rows])
        joined = tuple(torch.cat(level) for level in zip(*levels, strict=True))
        return ClipInput(joined, None, Targets.collate([clips.targets(row) for row in rows]), seen=True)

    def look(self, batch: ClipInput) -> DetectorOutput:
        """The model on a batch; both on one device."""
        if batch.seen:
            return self.model.from_features(batch.levels, batch.padding)
        return self.model(batch.levels[0], batch.padding)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _maps(self, clips: ClipDataset, row: int, device: torch.device) -> tuple[Tensor, ...]:
        key = clips.key(row)
        if key in self._kept:
            return self._kept[key]
        clip = cast("Any", self.model.body).preprocess(clips[row].frames)[None]
        maps = tuple(level.half().cpu() for level in self.model.features(clip.to(device)))
        if self._bytes < self._most:
            self._kept[key] = maps
            self._bytes += sum(one.numel() * one.element_size() for one in maps)
        return maps

    def _pixels(self, samples: Sequence[Clip]) -> ClipInput:
        preprocess = cast("Callable[[Tensor], Tensor]", cast("Any", self.model.body).preprocess)
        batch = collate(samples, preprocess=preprocess)
        return ClipInput((batch.clips,), batch.padding, batch.targets, seen=False)


@torch.inference_mode()
def detect_clips(
    reader: ClipReader,
    clips: ClipDataset,
    *,
    gated: bool,
    batch: int = 4,
    places: Sequence[int | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Detections:
    """What a model finds on clips: every query of every frame that is not padding.

    Args:
        reader: of the model, which is put into evaluation mode.
        clips: not varied.
        gated: multiply class scores by how surely somebody is there.
        batch: clips at a time.
        places: for each class of the labels the place of the model's, see `class_places`; None where they are the same.
        progress: told (clips done, clips in all).

    Returns:
        Boxes in the labels' own pixels; NaN for a class that the model lacks.
    """
    of_video = {one.video: place for place, one in enumerate(clips.labels.videos)}
    parts: list[tuple[int, Any, NDArray[np.float64], NDArray[np.float64], NDArray[Any]]] = []
    reader.model.eval()
    device = reader.model.level_code.device
    for start in range(0, len(clips), batch):
        rows = range(start, min(start + batch, len(clips)))
        found = reader.look(reader.read(clips, rows).to(device))
        actor = found.person_scores.float()
        scores = found.class_scores.float() * (actor[..., None] if gated else 1.0)
        for row, number in enumerate(rows):
            values = [part[row].float().cpu().numpy() for part in (found.boxes_cxcywh, scores, actor)]
            if values[2].ndim == 1:
                values = [value[None] for value in values]  # a key frame has no axis of time
            video, indices, padded, size = clips.facts(number)
            parts += [
                (of_video[video], indices[at], _corners(values[0][at], size), _chosen(values[1][at], places), actors)
                for at, actors in enumerate(values[2])
                if not padded[at]
            ]
        if progress is not None:
            progress(rows.stop, len(clips))
    counts = [len(part[4]) for part in parts]
    width = len(clips.labels.classes)
    return Detections(
        classes=clips.labels.classes,
        videos=tuple(one.video for one in clips.labels.videos),
        video=np.repeat(np.array([part[0] for part in parts], np.int64), counts),
        index=np.repeat(np.array([part[1] for part in parts], np.int64), counts),
        boxes_xyxy=np.concatenate([np.zeros((0, 4)), *(part[2] for part in parts)]),
        scores=np.concatenate([np.zeros((0, width)), *(part[3] for part in parts)]),
        person=np.concatenate([np.zeros(0), *(part[4] for part in parts)]).astype(np.float64),
    )


def _corners(centred: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    """(Q, 4) centres and sizes in parts of a picture of (width, height) to corners in its pixels."""
    middle, half = centred[:, :2].astype(np.float64), centred[:, 2:].astype(np.float64) / 2
    return np.concatenate([middle - half, middle + half], axis=1) * [*size, *size]


def _chosen(scores: NDArray[np.float32], places: Sequence[int | None] | None) -> NDArray[np.float64]:
    if places is None:
        return scores.astype(np.float64)
    columns = [np.full(len(scores), np.nan) if place is None else scores[:, place] for place in places]
    return np.stack(columns, axis=1).astype(np.float64)


def class_places(model: ActionModel, labels: Labels) -> list[int | None]:
    """For each class of the labels, its place among the model's: by name, or by number where no name is known.

    Raises:
        InvalidInput: they share neither names nor numbers.
    """
    for own, wanted in ((model.classes, labels.classes.names), (model.ids, labels.classes.ids)):
        places = [own.index(one) if one in own else None for one in wanted]
        if any(place is not None for place in places):
            return places
    raise InvalidInput(
        f"the labels have {', '.join(labels.classes.names[:3])}, the model {', '.join(model.classes[:3])}",
        remedy="Give labels of the model's own classes, with --label-map where the file has numbers alone.",
    )


def detect_labelled(
    model: ActionModel,
    labels: Labels,
    *,
    frames: FrameSource,
    batch: int = 4,
    start_s: float = 0.0,
    least_score: float = 0.0,
    compat: Compat = "default",
    progress: Callable[[int, int], None] | None = None,
) -> Detections:
    """What a model finds on labelled videos, at the labelled frames, as published figures are measured.

    Args:
        model: on its device.
        labels: whose frames count.
        frames: of the videos.
        batch: clips at a time.
        start_s: the videos' second that is the labels' second 0.
        least_score: lower class scores are left out.
        compat: `reference` takes the frames that the released loaders take.
        progress: told (clips done, clips in all).

    Raises:
        InvalidInput: the labels and the model have no class in common.
        VideoError: a video is missing or cannot be decoded.
    """
    config = model.detector.config
    places = class_places(model, labels)
    clip = ClipConfig(
        mode=config.mode,
        frames=config.frames,
        step=config.frame_stride,
        short_side=config.short_side,
        frame_rate=model.fps if config.mode == "keyframe" else None,
        start_s=start_s,
        compat=compat,
    )
    clips = ClipDataset(labels, clip, frames=frames)
    reader = ClipReader(model.detector, most_bytes=0)
    gated = config.mode == "tube"
    found = detect_clips(reader, clips, gated=gated, batch=batch, places=places, progress=progress)
    if least_score > 0:
        found.scores[found.scores < least_score] = np.nan
    return found
