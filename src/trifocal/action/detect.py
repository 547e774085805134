"""Who does what, where and when in a video: watch it, link what was seen, and say it as tubes.

`detect` takes a file or a stream. With the "viterbi" linker the tubes come at the end, best over the whole video; with
"online" each comes as soon as it has ended, which is the one for streams without an end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trifocal import video as video_files
from trifocal.action.tube import Tube
from trifocal.action.tubes import FrameDetections, LinkConfig, OnlineLinker, Track, link
from trifocal.action.watch import WatchConfig, watch
from trifocal.errors import InvalidInput
from trifocal.video import Limits, LiveVideo, Sampling

if TYPE_CHECKING:
    from trifocal.action.model import ActionModel
    from trifocal.video import Frames

__all__ = ["DetectConfig", "DetectReport", "detect"]

Linker = Literal["viterbi", "online"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectConfig:
    """How a video is watched and what becomes a tube.

    Args:
        watch: how it is watched.
        link: which detections belong together.
        linker: "viterbi" looks at the whole video, "online" decides as it goes.
        least_class_score: a tube names the actions that reach this at some moment.

    Raises:
        InvalidInput: a value that cannot be.
    """

    watch: WatchConfig = field(default_factory=WatchConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    linker: Linker = "viterbi"
    least_class_score: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        if self.linker not in ("viterbi", "online"):
            raise InvalidInput(f"linker is {self.linker!r}", remedy="Give viterbi or online.")
        if not 0.0 <= self.least_class_score <= 1.0:
            raise InvalidInput(
                f"least_class_score is {self.least_class_score}", remedy="Give a number between 0 and 1."
            )


@dataclass(frozen=True, slots=True, eq=False)
class DetectReport:
    """What was detected in one video.

    Args:
        video: its path, or the stream's name.
        tubes: by begin.
        width: of the pixels that boxes count in.
        height: likewise.
        moments: how many were looked at.
        end_s: the last of them.
        model: which model.
        caveat: what the reader should know about this model; empty when nothing.
        warnings: what was wrong with the video without making it useless.
        dropped: frames of a camera that were given up.
    """

    video: str
    tubes: tuple[Tube, ...]
    width: int
    height: int
    moments: int
    end_s: float
    model: str = ""
    caveat: str = ""
    warnings: tuple[str, ...] = ()
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON knows."""
        names = ("video", "width", "height", "moments", "end_s", "model", "caveat", "dropped")
        return {
            **{name: getattr(self, name) for name in names},
            "warnings": list(self.warnings),
            "tubes": [tube.to_dict() for tube in self.tubes],
        }


def detect(
    source: str | Path | LiveVideo,
    *,
    model: ActionModel,
    name: str | None = None,
    config: DetectConfig | None = None,
    limits: Limits | None = None,
    isolated: bool = True,
    end_s: float | None = None,
    keep_interrupted: bool = False,
    on_tube: Callable[[Tube], None] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> DetectReport:
    """Detect the actors of a video and their actions.

    Args:
        source: a file, or a stream that is read to its end.
        model: what to look with.
        name: how results call the video; its path where left out.
        config: how to look and link.
        limits: what a file may be.
        isolated: decode a file in a process of its own.
        end_s: stop there; None goes to the end.
        keep_interrupted: a `KeyboardInterrupt` ends the looking, and what was seen until then is the result, with a
            warning; it is the only end that some cameras have.
        on_tube: called with each tube as soon as it is known.
        progress: called with the seconds seen and the seconds there are (0 for a stream).

    Raises:
        VideoError: the video cannot be used.
    """
    config = config or DetectConfig()
    if isinstance(source, LiveVideo):
        size = (source.height, source.width)
        run = _Run(model, config, name=name or "stream", size=size, end_s=end_s, on_tube=on_tube)
        return run.of(
            source.stream(run.sampling),
            duration_s=0.0,
            keep_interrupted=keep_interrupted,
            progress=progress,
            dropped=lambda: source.dropped,
        )
    with video_files.open(source, limits=limits, isolated=isolated) as opened:
        info = opened.info
        size = (info.height, info.width)
        run = _Run(model, config, name=name or str(source), size=size, end_s=end_s, on_tube=on_tube)
        duration_s = min(info.duration_s, math.inf if end_s is None else end_s)
        frames = opened.stream(run.sampling)
        return run.of(frames, duration_s=duration_s, keep_interrupted=keep_interrupted, progress=progress)


class _Run:
    """One video being looked at."""

    def __init__(
        self,
        model: ActionModel,
        config: DetectConfig,
        *,
        name: str,
        size: tuple[int, int],
        end_s: float | None,
        on_tube: Callable[[Tube], None] | None,
    ) -> None:
        self.model, self.config, self.name, self.size = model, config, name, size
        self.sampling = Sampling.at_fps(model.sample_rate, end_s=end_s, size=model.frame_size(size))
        self._on_tube = on_tube or (lambda _: None)
        self._tubes: list[Tube] = []
        self._warnings: tuple[str, ...] = ()

    def of(
        self,
        frames: Iterable[Frames],
        *,
        duration_s: float,
        keep_interrupted: bool,
        progress: Callable[[float, float], None] | None,
        dropped: Callable[[], int] = lambda: 0,
    ) -> DetectReport:
        online = OnlineLinker(config=self.config.link) if self.config.linker == "online" else None
        kept: list[FrameDetections] = []
        moments, end_s = 0, 0.0
        try:
            for moment in watch(self.model, self._noticing(frames), size=self.size, config=self.config.watch):
                moments, end_s = moments + 1, moment.time_s
                if online is not None:
                    self._take(online.add(moment))
                else:
                    sure = moment.actor_scores >= self.config.link.least_score
                    kept.append(moment.pick(np.flatnonzero(sure)))  # what linking would drop need not be held
                if progress is not None:
                    progress(end_s, duration_s)
        except KeyboardInterrupt:
            if not keep_interrupted:
                raise
            self._warnings += (f"interrupted: this is what was seen until {end_s:.1f} s",)
        self._take(online.finish() if online is not None else link(kept, config=self.config.link))
        height, width = self.size
        order = sorted(self._tubes, key=lambda tube: (tube.start_s, tube.actor))
        return DetectReport(
            video=self.name,
            tubes=tuple(order),
            width=width,
            height=height,
            moments=moments,
            end_s=end_s,
            model=self.model.name,
            caveat=self.model.caveat,
            warnings=self._warnings,
            dropped=dropped(),
        )

    def _noticing(self, frames: Iterable[Frames]) -> Iterable[Frames]:
        for piece in frames:
            self._warnings = tuple(dict.fromkeys((*self._warnings, *piece.warnings)))
            yield piece

    def _take(self, tracks: list[Track]) -> None:
        for track in tracks:
            tube = self._tube(track, actor=len(self._tubes) + 1)
            self._tubes.append(tube)
            self._on_tube(tube)

    def _tube(self, track: Track, *, actor: int) -> Tube:
        peaks = track.class_scores.max(0)
        means = track.class_scores.mean(0)
        named = [label for label in np.argsort(-means, kind="stable") if peaks[label] >= self.config.least_class_score]
        return Tube(
            video=self.name,
            actor=actor,
            times_s=track.times_s,
            boxes_xyxy=track.boxes_xyxy,
            actions={self.model.classes[label]: track.class_scores[:, label] for label in named},
        )
