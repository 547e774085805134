"""The sets that `bench.prototypes` measures on: videos as rows of frames, and queries with the moment they mean.

"annotations": captions of one annotator of ActivityNet stand for frames, those of another are the queries
(`retrieval.data.read_two_annotations`); real wording and spans, TF-IDF vectors. "playground": drawn videos, encoded by
the offline default encoder, with their captions. "hidden": six long videos, drawn ones one after another, each with one
of the real clips in the middle; the clips' 40 hand-written queries each, and the clip is the moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal import video
from trifocal.bench.zero_shot_queries import QUERIES
from trifocal.errors import InvalidInput
from trifocal.playground import collection_specs, truth
from trifocal.playground.render import Renderer
from trifocal.retrieval import load_encoder
from trifocal.retrieval.data.two_annotations import read_two_annotations

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BenchSet", "annotations_set", "clips_set", "hidden_in", "playground_set"]

FRAMES_PER_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class BenchSet:
    """Videos as rows of frames, and queries with the moment they mean.

    Args:
        name: of the set.
        rows: (T, D) a video.
        times_s: (T,) a video.
        ends_s: (V,).
        queries: (Q, D), unit vectors.
        right: (Q,), the place of each query's video.
        moments_s: (Q, 2).
    """

    name: str
    rows: list[NDArray[np.float32]]
    times_s: list[NDArray[Any]]
    ends_s: list[float]
    queries: NDArray[np.float32]
    right: NDArray[np.int64]
    moments_s: NDArray[np.float64]


def annotations_set(source: Path, *, noise: float, most: int | None = None) -> BenchSet:
    """The test half of the two-annotation set, or its first videos."""
    data = read_two_annotations(source, noise=noise)
    captions = data.split("test")
    videos = sorted(captions.videos())[:most]
    place = {video: number for number, video in enumerate(videos)}
    rows = [data.features.read(video) for video in videos]
    asked = [(one, data.words.read(one.id)[-1]) for one in captions if one.video in place and one.moments_s]
    asked = [(one, vector) for one, vector in asked if np.linalg.norm(vector) > 0]
    times = [np.arange(len(one)) + 0.5 for one in rows]
    return BenchSet(
        name=f"annotations, noise {noise}",
        rows=rows,
        times_s=times,
        ends_s=[float(len(one)) for one in rows],
        queries=np.stack([vector / np.linalg.norm(vector) for _, vector in asked]),
        right=np.array([place[one.video] for one, _ in asked]),
        moments_s=np.array([one.moments_s[0] for one, _ in asked]),
    )


def playground_set(*, videos: int, seed: int, duration_s: tuple[float, float]) -> BenchSet:
    """Drawn videos, two frames a second, by the offline default encoder; one query a caption, in its first wording."""
    encoder = load_encoder()
    specs = collection_specs(count=videos, seed=seed, duration_s=duration_s)
    rows, times, ends, texts, right, moments = [], [], [], [], [], []
    for number, (_, spec) in enumerate(specs):
        renderer = Renderer(spec)
        indices = np.arange(0, spec.frame_count, round(spec.fps / FRAMES_PER_S))
        rows.append(encoder.encode_frames(np.stack([renderer.frame(int(index)) for index in indices])))
        times.append(indices / spec.fps)
        ends.append(float(spec.duration_s))
        for caption in truth(spec).captions:
            texts.append(caption.sentences[0])
            right.append(number)
            moments.append((caption.start_s, caption.end_s))
    return BenchSet(
        name="playground",
        rows=rows,
        times_s=times,
        ends_s=ends,
        queries=np.concatenate([encoder.encode_query(texts[i : i + 64]) for i in range(0, len(texts), 64)]),
        right=np.array(right),
        moments_s=np.array(moments),
    )


def clips_set(folder: Path) -> BenchSet:
    """The real clips that have queries, two frames a second, by the offline default encoder; each is its own moment.

    Raises:
        InvalidInput: none there.
    """
    paths = [path for path in sorted(folder.glob("*.mp4")) if path.stem in QUERIES]
    if not paths:
        raise InvalidInput(f"{folder} has no clip with queries", remedy=f"Give one with {', '.join(QUERIES)}.")
    encoder = load_encoder()
    rows, times, ends = [], [], []
    for path in paths:
        with video.open(path) as opened:
            read = opened.read(video.Sampling.at_fps(FRAMES_PER_S, size=encoder.frame_size))
            ends.append(max(opened.info.duration_s or 0.0, float(read.times_s[-1])))
        rows.append(encoder.encode_frames(read.images))
        times.append(read.times_s)
    asked = [len(QUERIES[path.stem]) for path in paths]
    return BenchSet(
        name="clips",
        rows=rows,
        times_s=times,
        ends_s=ends,
        queries=np.concatenate([encoder.encode_query(list(QUERIES[path.stem])) for path in paths]),
        right=np.repeat(np.arange(len(paths)), asked),
        moments_s=np.repeat([(0.0, end) for end in ends], asked, axis=0),
    )


def hidden_in(clips: BenchSet, others: BenchSet, *, around: int) -> BenchSet:
    """Each video of `clips` in the middle of `around` of `others`, played one after another; moments move along.

    Args:
        clips: with queries.
        others: at least `around`; each clip starts with another of them.
        around: how many.
    """
    rows, times, ends, moved = [], [], [], []
    for number in range(len(clips.rows)):
        turn = [(number * 4 + i) % len(others.rows) for i in range(around)]
        parts = [(others.rows[i], others.times_s[i], others.ends_s[i]) for i in turn]
        parts.insert(around // 2, (clips.rows[number], clips.times_s[number], clips.ends_s[number]))
        starts = np.cumsum([0.0] + [end for _, _, end in parts])
        rows.append(np.concatenate([part for part, _, _ in parts]))
        times.append(np.concatenate([at + start for (_, at, _), start in zip(parts, starts[:-1], strict=True)]))
        ends.append(float(starts[-1]))
        moved.append(float(starts[around // 2]))
    return BenchSet(
        name=f"hidden, {np.mean(ends) / 60:.0f} minutes",
        rows=rows,
        times_s=times,
        ends_s=ends,
        queries=clips.queries,
        right=clips.right,
        moments_s=clips.moments_s + np.array(moved)[clips.right][:, None],
    )
