"""What is in a data set and what is wrong with it, before hours are spent on it: `trifocal train find --check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import TrifocalError

if TYPE_CHECKING:
    from trifocal.retrieval.data.captions import CaptionSet
    from trifocal.retrieval.data.collection import RetrievalData
    from trifocal.retrieval.data.features import RowSource

__all__ = ["DataReport", "SplitReport", "check_data"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What one split holds.

    Args:
        videos: with captions.
        captions: in all.
        captions_per_video: fewest, mean and most.
        rows_per_video: fewest, mean and most feature rows of its videos; None where none has features.
        words_per_caption: the same of word rows.
        durations_s: fewest, mean and most seconds of the videos whose duration is known; None where none is.
        moments: captions with a moment.
        moment_share: mean share of the video that a moment fills, 0 to 1; None where no duration is known.
        missing_videos: without features.
        missing_captions: without words.
    """

    videos: int
    captions: int
    captions_per_video: tuple[float, float, float]
    rows_per_video: tuple[float, float, float] | None
    words_per_caption: tuple[float, float, float] | None
    durations_s: tuple[float, float, float] | None
    moments: int
    moment_share: float | None
    missing_videos: tuple[str, ...] = ()
    missing_captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataReport:
    """What a data set holds.

    Args:
        name: of the set.
        dims: widths (d_v, d_t) as found.
        splits: by name.
        problems: what must be mended before training, a line each.
        notes: what is odd and does no harm, a line each.
    """

    name: str
    dims: tuple[int, int]
    splits: dict[str, SplitReport] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def check_data(
    data: RetrievalData, *, deep: bool = False, progress: Callable[[int, int], None] | None = None
) -> DataReport:
    """Compare captions, features and words with each other.

    Args:
        data: what to check.
        deep: read every row too, for widths that differ and values that are not finite; else only names and counts.
        progress: told how many ids of a deep check are read, and how many there are.
    """
    problems: list[str] = []
    notes: list[str] = []
    found = (data.features.dim, data.words.dim)
    for what, got, wanted in zip(("frames", "words"), found, data.dims or found, strict=True):
        if got != wanted:
            problems.append(f"{what} have {got} dimensions, and {data.name} has {wanted}")
    splits = {}
    for name, captions in data.splits.items():
        report = splits[name] = _split(data, captions)
        notes.extend(captions.notes)
        for what, ids, total in (
            ("videos", report.missing_videos, report.videos),
            ("captions", report.missing_captions, report.captions),
        ):
            if ids:
                where = "features" if what == "videos" else "words"
                problems.append(f"{name}: {len(ids)} of {total} {what} have no {where}: {_some(ids)}")
    problems.extend(_overlaps(data, notes))
    if deep:
        problems.extend(_unreadable(data, progress))
    used = {video for captions in data.splits.values() for video in captions.videos()}
    spare = sum(1 for name in data.features.ids() if name not in used) if not problems else 0
    if spare:
        notes.append(f"{spare} ids with features have no captions here")
    return DataReport(data.name, found, splits, tuple(problems), tuple(notes))


def _split(data: RetrievalData, captions: CaptionSet) -> SplitReport:
    videos = captions.videos()
    per_video = Counter(one.video for one in captions)
    has_rows = [video for video in videos if video in data.features]
    has_words = [one.id for one in captions if one.id in data.words]
    durations = [captions.durations_s[video] for video in videos if video in captions.durations_s]
    shares = [
        sum(end - start for start, end in one.moments_s) / captions.durations_s[one.video]
        for one in captions
        if one.moments_s and one.video in captions.durations_s
    ]
    rows, words = set(has_rows), set(has_words)
    return SplitReport(
        videos=len(videos),
        captions=len(captions),
        captions_per_video=_spread(list(per_video.values())) or (0.0, 0.0, 0.0),
        rows_per_video=_spread([data.features.count(video) for video in has_rows]),
        words_per_caption=_spread([data.words.count(name) for name in has_words]),
        durations_s=_spread(durations),
        moments=sum(1 for one in captions if one.moments_s),
        moment_share=float(np.mean(shares)) if shares else None,
        missing_videos=tuple(video for video in videos if video not in rows),
        missing_captions=tuple(one.id for one in captions if one.id not in words),
    )


def _overlaps(data: RetrievalData, notes: list[str]) -> list[str]:
    problems = []
    names = list(data.splits)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            common = sorted(set(data.splits[first].videos()) & set(data.splits[second].videos()))
            if common and "train" in (first, second):
                problems.append(f"{first} and {second} share {len(common)} videos: {_some(common)}")
            elif common:
                notes.append(f"{first} and {second} share {len(common)} videos")
    return problems


def _unreadable(data: RetrievalData, progress: Callable[[int, int], None] | None) -> list[str]:
    wanted: list[tuple[RowSource, str, str]] = []
    for captions in data.splits.values():
        wanted += [(data.features, video, "video") for video in captions.videos() if video in data.features]
        wanted += [(data.words, one.id, "caption") for one in captions if one.id in data.words]
    problems = []
    for done, (source, name, what) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        try:
            rows = source.read(name)
        except TrifocalError as error:
            problems.append(f"the {what} {name!r}: {error.message}")
            continue
        if rows.shape[1] != source.dim:
            problems.append(f"the {what} {name!r} has rows of {rows.shape[1]} numbers, others {source.dim}")
    return problems


def _spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    return (float(min(values)), float(np.mean(values)), float(max(values))) if values else None


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
