"""What a data set says about its videos: captions, where in time they lie, and how long the videos are.

Every reader of this package ends in a `CaptionSet`; every writer begins at one. Odd moments of real annotations (an end
before its start, an end after the video) are put right by one rule, and counted in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trifocal.errors import InvalidInput

__all__ = ["Caption", "CaptionSet", "Span", "tidy_moments"]

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Caption:
    """One sentence about a part of one video.

    Args:
        id: names the caption within its data set, as in "<video>#enc#0".
        video: the video's id.
        text: the sentence.
        moments_s: (start, end) in seconds of the parts it is about; empty where nobody said.

    Raises:
        InvalidInput: an empty id, video or text, or a moment that is not a stretch of time.
    """

    id: str
    video: str
    text: str
    moments_s: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("id", "video", "text"):
            if not getattr(self, name):
                raise InvalidInput(f"the caption {self.id!r} has an empty {name}", remedy="Give all three.")
        for start, end in self.moments_s:
            if not (math.isfinite(end) and 0 <= start <= end):
                raise InvalidInput(
                    f"the caption {self.id!r} has a moment from {start} s to {end} s",
                    remedy="Give 0 <= start <= end, in finite seconds.",
                )


@dataclass(frozen=True, slots=True)
class CaptionSet:
    """Captions of some videos, in the order of their files.

    Args:
        captions: each id once.
        durations_s: seconds by video, as far as they are known.
        notes: what the reader put right, a line each.

    Raises:
        InvalidInput: two captions of one id, or a duration that is not positive.
    """

    captions: tuple[Caption, ...]
    durations_s: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what only shows over all captions."""
        seen: set[str] = set()
        for one in self.captions:
            if one.id in seen:
                raise InvalidInput(f"two captions have the id {one.id!r}", remedy="Give every caption its own id.")
            seen.add(one.id)
        for video, duration in self.durations_s.items():
            if not (math.isfinite(duration) and duration > 0):
                raise InvalidInput(f"the video {video!r} lasts {duration} s", remedy="Give seconds above 0.")

    def __len__(self) -> int:
        """How many captions."""
        return len(self.captions)

    def __iter__(self) -> Iterator[Caption]:
        """The captions in order."""
        return iter(self.captions)

    def __repr__(self) -> str:
        """Counts, not captions."""
        return f"CaptionSet({len(self.captions)} captions of {len(self.videos())} videos)"

    def videos(self) -> tuple[str, ...]:
        """The videos in the order of their first captions."""
        return tuple(dict.fromkeys(one.video for one in self.captions))

    def by_video(self) -> dict[str, list[Caption]]:
        """The captions of each video, both in the order of the file."""
        grouped: dict[str, list[Caption]] = {}
        for one in self.captions:
            grouped.setdefault(one.video, []).append(one)
        return grouped

    def only(self, videos: Iterable[str]) -> CaptionSet:
        """The captions and durations of these videos."""
        wanted = set(videos)
        return CaptionSet(
            tuple(one for one in self.captions if one.video in wanted),
            {video: duration for video, duration in self.durations_s.items() if video in wanted},
            self.notes,
        )

    def hold_out(self, share: float, *, seed: int = 0) -> tuple[CaptionSet, CaptionSet]:
        """Two parts by video: what is left to train on, and the held-out share (at least one video each).

        The choice depends on the sorted ids and the seed alone, not on the order of the file.

        Raises:
            InvalidInput: a share outside (0, 1), or fewer than two videos.
        """
        videos = sorted(self.videos())
        if not 0 < share < 1:
            raise InvalidInput(f"the share held out is {share}", remedy="Give a number between 0 and 1, such as 0.1.")
        if len(videos) < 2:
            raise InvalidInput(
                f"{len(videos)} videos cannot be parted into two", remedy="Give captions of two or more."
            )
        count = min(max(1, round(share * len(videos))), len(videos) - 1)
        chosen = {videos[index] for index in np.random.default_rng(seed).permutation(len(videos))[:count]}
        return self.only(set(videos) - chosen), self.only(chosen)

    def with_moments(self, other: CaptionSet) -> CaptionSet:
        """These captions with the moments and durations of another file's, matched by id, else by video and words.

        A caption that the other file does not have keeps what it has.
        """
        by_id = {one.id: one for one in other.captions}
        by_words: dict[tuple[str, str], Caption] = {}
        for one in other.captions:
            by_words.setdefault((one.video, _words(one.text)), one)
        joined = []
        for one in self.captions:
            found = by_id.get(one.id) or by_words.get((one.video, _words(one.text)))
            same = found is not None and found.video == one.video and found.moments_s
            joined.append(Caption(one.id, one.video, one.text, found.moments_s) if found and same else one)
        videos = set(self.videos())
        durations = {video: one for video, one in other.durations_s.items() if video in videos}
        return CaptionSet(tuple(joined), {**self.durations_s, **durations}, (*self.notes, *other.notes))


def tidy_moments(moments: Sequence[Span], *, duration_s: float | None) -> tuple[tuple[Span, ...], bool]:
    """Moments as stretches of time inside the video, and whether anything had to be put right.

    An end before its start changes places with it; what lies before 0 or after the video is cut off.
    """
    limit = math.inf if duration_s is None else duration_s
    tidy = tuple(
        (min(max(0.0, start), limit), min(max(0.0, end), limit)) for start, end in (sorted(one) for one in moments)
    )
    return tidy, any(tuple(one) != kept for one, kept in zip(moments, tidy, strict=True))


def _words(text: str) -> str:
    """What two spellings of one caption share: letters and digits, in lower case."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())
