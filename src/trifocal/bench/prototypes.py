"""Which prototypes without training: six ways to choose them, by retrieval and by moments, on two sets.

    python -m trifocal.bench.prototypes --annotations FOLDER_OR_ZIP

"annotations": captions of one annotator of ActivityNet stand for frames, those of another are the queries
(`retrieval.data.read_two_annotations`); real wording and spans, TF-IDF vectors. "playground": drawn videos, encoded by
the offline default encoder, with their captions. Retrieval is SumR (R@1 + 5 + 10 + 100; a tie counts against);
moments are looked for in the right video: mean IoU with the true one, the part above 0.5, and how often the middle of
the winning prototype lies inside it. "sharpened" rows score all frames again (`ClipTokens`).

The rule for the default: of every set and size a method has half of SumR / best SumR and half of IoU / best IoU; the
highest mean over all of them is the default, and the present default stays while none is ahead by more than 0.005.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from trifocal import __version__
from trifocal.playground import collection_specs, truth
from trifocal.playground.render import Renderer
from trifocal.retrieval import build_prototypes, load_encoder, pick_moments, similarity
from trifocal.retrieval.data.two_annotations import read_two_annotations
from trifocal.retrieval.moment import temporal_overlap
from trifocal.retrieval.prototypes import Method
from trifocal.retrieval.tokens import ClipTokens, TokenKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BenchSet", "annotations_set", "main", "measure", "playground_set", "ranks_of", "verdict"]

FRAMES_PER_S = 2.0
DEPTHS = (1, 5, 10, 100)


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


def ranks_of(scores: NDArray[Any], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of the right video of each query, 1 is best; videos with the same score come before it."""
    own = scores[np.arange(len(scores)), right][:, None]
    ranks: NDArray[np.int64] = (scores >= own).sum(axis=1)
    return ranks


def measure(one: BenchSet, *, method: Method, k: int) -> dict[str, Any]:
    """Retrieval and moments with one way to choose prototypes."""
    started = time.process_time()
    built = [
        build_prototypes(rows, times_s=times, end_s=end, k=k, method=method)
        for rows, times, end in zip(one.rows, one.times_s, one.ends_s, strict=True)
    ]
    spent = time.process_time() - started
    # In parts, so that (queries, prototypes) stays small.
    parts = [similarity(one.queries[start : start + 512], built) for start in range(0, len(one.queries), 512)]
    ranks = ranks_of(np.round(np.concatenate(parts), 6), one.right)
    recall = {f"r{depth}": round(100 * float((ranks <= depth).mean()), 2) for depth in DEPTHS}
    found, peaks = [], []
    for query, right in zip(one.queries, one.right, strict=True):
        prototypes = built[right]
        scores = prototypes.vectors.astype(np.float32) @ query
        ((start_s, end_s, _),) = pick_moments(scores, prototypes.spans_s)
        found.append((start_s, end_s))
        peaks.append(float(prototypes.spans_s[int(np.argmax(scores))].mean()))
    return {
        "set": one.name,
        "method": method,
        "k": k,
        "sumr": round(sum(recall.values()), 1),
        **recall,
        **_overlap(np.array(found), one.moments_s),
        "peak_inside": round(float(_inside(np.array(peaks), one.moments_s)), 3),
        "bytes_per_video": round(sum(p.vectors.nbytes + p.spans_s.nbytes for p in built) / len(built)),
        "build_ms_per_video": round(1e3 * spent / len(built), 2),
    }


def sharpened(one: BenchSet, *, kind: TokenKind, longest_share: float) -> dict[str, Any]:
    """Moments in the right video by scoring all of its frames."""
    tokens = [
        ClipTokens.pack(rows, times_s=times, end_s=end, kind=kind)
        for rows, times, end in zip(one.rows, one.times_s, one.ends_s, strict=True)
    ]
    started = time.process_time()
    found = [
        tokens[right].sharpen(query, longest_share=longest_share)[0]
        for query, right in zip(one.queries, one.right, strict=True)
    ]
    spent = time.process_time() - started
    return {
        "set": one.name,
        "method": f"sharpened, {kind}",
        "longest_share": longest_share,
        **_overlap(np.array(found), one.moments_s),
        "bytes_per_video": round(sum(t.rows.nbytes + t.scales.nbytes + t.times_s.nbytes for t in tokens) / len(tokens)),
        "ms_per_query_and_video": round(1e3 * spent / len(found), 2),
    }


def _overlap(found: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, float]:
    overlap = np.array([temporal_overlap(one, other[None])[0] for one, other in zip(found, right, strict=True)])
    return {
        "iou": round(float(overlap.mean()), 3),
        "iou_above_half": round(float((overlap >= 0.5).mean()), 3),
    }


def _inside(at_s: NDArray[np.float64], spans_s: NDArray[np.float64]) -> float:
    return float(((at_s >= spans_s[:, 0]) & (at_s <= spans_s[:, 1])).mean())


def run(one: BenchSet, *, sizes: Sequence[int], tell: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """All rows of one set."""
    rows = []
    for k in sizes:
        for method in get_args(Method):
            rows.append(measure(one, method=method, k=k))
            tell(rows[-1])
    kinds: tuple[TokenKind, ...] = get_args(TokenKind)
    for kind in kinds:
        for share in (1.0, 0.5):
            rows.append(sharpened(one, kind=kind, longest_share=share))
            tell(rows[-1])
    return rows


def verdict(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By the rule of the module's map: the figure of each method, the highest first."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if "sumr" in row:
            groups.setdefault((row["set"], row["k"]), []).append(row)
    found: dict[str, list[float]] = {}
    for group in groups.values():
        best = {name: max(row[name] for row in group) for name in ("sumr", "iou")}
        for row in group:
            found.setdefault(row["method"], []).append(sum(row[name] / best[name] / 2 for name in best))
    means = {method: round(float(np.mean(figures)), 4) for method, figures in found.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the JSON, print the rows."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.prototypes", description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, help="folder or zip with val_1.json, val_2.json and train.json")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--most", type=int, help="of the annotations, take the first videos alone")
    parser.add_argument("--videos", type=int, default=40, help="of the playground; 0 leaves it out")
    parser.add_argument("--seconds", type=float, nargs=2, default=[40.0, 120.0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--k", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--out", type=Path, default=Path("bench/prototypes/results.json"))
    options = parser.parse_args(arguments)
    sets = [
        partial(annotations_set, options.annotations, noise=noise, most=options.most)
        for noise in (options.noise if options.annotations is not None else [])
    ]
    if options.videos:
        low, high = options.seconds
        sets.append(partial(playground_set, videos=options.videos, seed=options.seed, duration_s=(low, high)))
    rows: list[dict[str, Any]] = []
    about: list[dict[str, Any]] = []
    for make in sets:
        one = make()
        about.append({"set": one.name, "videos": len(one.rows), "queries": len(one.queries)})
        print(json.dumps(about[-1]), flush=True)
        rows += run(one, sizes=options.k, tell=lambda row: print(json.dumps(row), flush=True))
    result = {
        "what": "prototypes without training",
        "version": __version__,
        "machine": f"{platform.machine()}, {platform.python_version()}, numpy {np.__version__}",
        "sets": about,
        "rows": rows,
        "verdict": verdict(rows),
    }
    print(json.dumps(result["verdict"]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
