"""How the offline encoder's settings were chosen: which clip does each of 240 hand-written queries find?

    python -m trifocal.bench.zero_shot --clips FOLDER
    python -m trifocal.bench.zero_shot --clips FOLDER --encoder TRAINED … --out FILE    # only these and the default

Frames of the clips (two a second) meet `QUERIES` under a grid of settings: wording of the classes, temperature, top-k,
centring. A setting's figure is the mean over clips of the mean reciprocal rank of the right clip among all of them.
`choose` states the rule that picks one. Beside the grid: other views of a frame, principal directions removed, a
correction for hubs, worded queries, each changed alone from the choice; and, on the clips played one after another,
how well the moment found for a query covers its clip under several rules of `pick_moments`. The four queries of
`HELD_OUT` and their rewordings take no part; their ranks are printed at the end. Six clips are few: `leave_one_out`
says what the choice is worth on a clip that did not take part in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trifocal import __version__, video, weights
from trifocal.bench.zero_shot_encoders import compare_encoders
from trifocal.bench.zero_shot_queries import HELD_OUT, QUERIES, REWORDED
from trifocal.errors import InvalidInput
from trifocal.retrieval import SemanticConfig, SemanticEncoder, build_prototypes, pick_moments
from trifocal.retrieval.semantic import ClassSpace, class_weights, embed_classes

__all__ = ["Measured", "choose", "evaluate", "main", "measure"]

Floats = NDArray[np.float32]

FPS = 2.0
# About one standard error of the mean of 240 reciprocal ranks: settings nearer than that are not told apart.
NEAR_BEST = 0.02
WORDINGS: dict[str, tuple[str, ...]] = {
    "name": ("{name}",),
    "photo": ("a photo of a {name}",),
    "video": ("a video of a {name}",),
    "photo, video": ("a photo of a {name}", "a video of a {name}"),
    "name, photo, video": ("{name}", "a photo of a {name}", "a video of a {name}"),
    "description": ("{name}: {description}.",),
    "photo, description": ("a photo of a {name}", "{name}: {description}."),
}
TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
TOP_KS = (5, 10, 30, 100, 300, 1000)
MOMENT_RULES = ((0.02, 0.0), (0.05, 0.0), (0.1, 0.0), (0.02, 0.25), (0.02, 0.5), (0.02, 0.6))
QUERY_WORDINGS = ("a photo of {query}", "a video of {query}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one setting reaches.

    Args:
        mrr: mean over clips of the mean reciprocal rank of the right clip.
        recall_1: mean over clips of the share of queries that rank it first.
        margin: mean over clips of (its score − the best other) / the standard deviation of that clip's scores.
        per_clip: the mean reciprocal rank by clip.
    """

    mrr: float
    recall_1: float
    margin: float
    per_clip: dict[str, float]


def evaluate(frames: Mapping[str, Floats], queries: Mapping[str, Floats]) -> Measured:
    """Rank the clips for every query.

    Args:
        frames: by clip, unit vectors (T, D); a clip's score is the maximum over its frames of the cosine.
        queries: by right clip, unit vectors (N, D).

    Returns:
        The figures; a rank counts the clips that score strictly more.
    """
    clips = sorted(frames)
    mrr, first, margin = {}, [], []
    for clip in sorted(queries):
        scores = np.stack([(queries[clip] @ frames[other].T).max(axis=1) for other in clips], axis=1)  # (N, clips)
        right = scores[:, clips.index(clip)]
        rank = 1 + (scores > right[:, None]).sum(axis=1)
        others = np.delete(scores, clips.index(clip), axis=1).max(axis=1)
        mrr[clip] = round(float((1 / rank).mean()), 4)
        first.append(float((rank == 1).mean()))
        margin.append(float(((right - others) / scores.std()).mean()))
    return Measured(
        mrr=round(float(np.mean(list(mrr.values()))), 4),
        recall_1=round(float(np.mean(first)), 4),
        margin=round(float(np.mean(margin)), 3),
        per_clip=mrr,
    )


def choose(grid: Mapping[SemanticConfig, Measured]) -> SemanticConfig:
    """The plainest setting whose mean reciprocal rank is within `NEAR_BEST` of the best one's.

    Plainest: the fewest class templates, then the temperature nearest to 1, then the largest margin, then the order
    of the values themselves.
    """
    best = max(measured.mrr for measured in grid.values())
    near = [config for config, measured in grid.items() if measured.mrr >= best - NEAR_BEST]
    return min(
        near,
        key=lambda c: (
            len(c.class_templates),
            abs(np.log(c.temperature)),
            -grid[c].margin,
            c.class_templates,
            c.top_k,
            not c.centred,
        ),
    )


class Bench:
    """What is computed once: the classifier's view of every frame, the embeddings of every class text and query."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """Decode, classify and embed."""
        self.encoder = SemanticEncoder()
        self.views: dict[str, dict[str, Floats]] = {}
        self.times_s: dict[str, NDArray[np.float64]] = {}
        self.ends_s: dict[str, float] = {}
        for clip, path in paths.items():
            with video.open(path) as opened:
                read = opened.read(video.Sampling.at_fps(FPS))
                self.ends_s[clip] = max(opened.info.duration_s or 0.0, float(read.times_s[-1]))
            self.times_s[clip] = read.times_s
            for view, logits in self._views(read.images).items():
                self.views.setdefault(view, {})[clip] = logits
        sentences = self.encoder._sentences  # noqa: SLF001  # the bench looks inside what it measures
        self.classes = {wording: embed_classes(sentences.encode, templates) for wording, templates in WORDINGS.items()}
        self.queries = {clip: sentences.encode(QUERIES[clip]) for clip in paths}
        self.worded = {
            wording: {
                clip: sentences.encode([wording.replace("{query}", text) for text in QUERIES[clip]]) for clip in paths
            }
            for wording in QUERY_WORDINGS
        }
        self.held_out = {text: sentences.encode([text])[0] for text in _held_out_texts(paths)}

    def _views(self, images: NDArray[np.uint8]) -> dict[str, Floats]:
        """Class logits (T, crops or cells, 1000) under each way to look at a frame."""
        _, height, width, _ = images.shape
        side = min(height, width)
        squares = [
            images[:, y : y + side, x : x + side]
            for y, x in ((0, 0), ((height - side) // 2, (width - side) // 2), (height - side, width - side))
        ]
        high, wide = int(height * 0.6), int(width * 0.6)
        corners = [images[:, y:, x:][:, :high, :wide] for y in (0, height - high) for x in (0, width - wide)]
        look = self.encoder.class_logits
        whole = look(images)[:, None]
        tiles, corner = (np.stack([look(crop) for crop in crops], axis=1) for crops in (squares, corners))
        network = self.encoder._classifier  # noqa: SLF001
        with torch.inference_mode():
            cells = network.classify_cells(network.features(network.preprocess(images)))
        return {
            "whole frame": whole,
            "centre square": tiles[:, 1:2],
            "three squares": tiles,
            "whole, three squares": np.concatenate([whole, tiles], axis=1),
            "four corners": corner,
            "whole, four corners": np.concatenate([whole, corner], axis=1),
            "49 cells": cells.flatten(2).transpose(1, 2).numpy(),
        }

    def frames(self, config: SemanticConfig, space: ClassSpace, *, view: str = "whole frame") -> dict[str, Floats]:
        """By clip, the frames' unit vectors; the weights of several crops or cells are averaged."""
        vectors = {}
        for clip, logits in self.views[view].items():
            flat = class_weights(logits.reshape(-1, 1000), temperature=config.temperature, top_k=1000)
            mean = flat.reshape(logits.shape).mean(axis=1)
            top = class_weights(np.log(np.maximum(mean, 1e-30)), temperature=1.0, top_k=config.top_k)
            vectors[clip] = space.frames(top)
        return vectors

    def space(self, config: SemanticConfig) -> ClassSpace:
        """The space of a setting whose class templates are among `WORDINGS`."""
        wording = next(name for name, templates in WORDINGS.items() if templates == config.class_templates)
        return ClassSpace(self.classes[wording], centred=config.centred)

    def measure(self, config: SemanticConfig) -> Measured:
        """One setting of the grid."""
        space = self.space(config)
        return evaluate(self.frames(config, space), {clip: space.queries(rows) for clip, rows in self.queries.items()})

    def variants(self, config: SemanticConfig) -> dict[str, Measured]:
        """What else was tried, each alone on top of the choice."""
        space = self.space(config)
        queries = {clip: space.queries(rows) for clip, rows in self.queries.items()}
        frames = self.frames(config, space)
        tried = {f"view: {view}": evaluate(self.frames(config, space, view=view), queries) for view in self.views}
        for wording, rows in self.worded.items():
            tried[f"queries: {wording}"] = evaluate(frames, {clip: space.queries(rows[clip]) for clip in rows})
        for count in (1, 3, 10):
            basis = np.linalg.svd(space.classes, full_matrices=False)[2][:count]
            tried[f"all but the top {count}"] = evaluate(_without(frames, basis), _without(queries, basis))
        for strength in (0.3, 0.6, 1.0):
            tried[f"hubs: {strength} x mean of the 10 nearest classes"] = evaluate(
                *_against_hubs(frames, queries, classes=space.classes, strength=strength)
            )
        return tried

    def moments(self, config: SemanticConfig, *, k: int = 32) -> list[dict[str, Any]]:
        """The clips as one video: how well the best moment covers the right clip, by rule of `pick_moments`.

        Only queries whose best prototype lies in the right clip count; `found` is their share.
        """
        space = self.space(config)
        frames = self.frames(config, space)
        offsets = dict(zip(frames, np.cumsum([0.0, *self.ends_s.values()]).tolist(), strict=False))
        prototypes = build_prototypes(
            np.concatenate(list(frames.values())),
            times_s=np.concatenate([self.times_s[clip] + offsets[clip] for clip in frames]),
            end_s=sum(self.ends_s.values()),
            k=k,
        )
        rows = []
        for tolerance, share in MOMENT_RULES:
            overlaps: list[float] = []
            asked = 0
            for clip, embedded in self.queries.items():
                begin, finish = offsets[clip], offsets[clip] + self.ends_s[clip]
                for scores in space.queries(embedded) @ prototypes.vectors.astype(np.float32).T:
                    asked += 1
                    best = prototypes.spans_s[int(scores.argmax())].mean()
                    if begin <= best <= finish:
                        ((start, end, _),) = pick_moments(scores, prototypes.spans_s, tolerance=tolerance, share=share)
                        overlaps.append(
                            max(0.0, min(end, finish) - max(start, begin)) / (max(end, finish) - min(start, begin))
                        )
            rows.append(
                {
                    "tolerance": tolerance,
                    "share": share,
                    "k": k,
                    "found": round(len(overlaps) / asked, 4),
                    "mean_iou": round(float(np.mean(overlaps)), 4),
                }
            )
        return rows

    def ranks(self, config: SemanticConfig) -> list[dict[str, Any]]:
        """The held-out queries and their rewordings: rank of the right clip, and what came first."""
        space = self.space(config)
        frames = self.frames(config, space)
        clips = sorted(frames)
        rows = []
        for text, clip in _held_out_texts(frames).items():
            query = space.queries(self.held_out[text][None])[0]
            scores = {other: float((frames[other] @ query).max()) for other in clips}
            order = sorted(clips, key=lambda other: (-scores[other], other))  # used at once
            rows.append(
                {
                    "query": text,
                    "held_out": text in HELD_OUT,
                    "clip": clip,
                    "rank": 1 + order.index(clip),
                    "score": round(scores[clip], 4),
                    "first": order[0],
                    "second_score": round(scores[order[1]], 4),
                }
            )
        return rows


def measure(paths: Mapping[str, Path]) -> dict[str, Any]:
    """The whole experiment as one value, ready for JSON.

    Raises:
        InvalidInput: fewer than two clips that have queries.
    """
    known = {clip: paths[clip] for clip in sorted(paths) if clip in QUERIES}
    if len(known) < 2:
        raise InvalidInput(f"only {sorted(known)} have queries", remedy=f"Give at least two of {', '.join(QUERIES)}.")
    bench = Bench(known)
    grid = {
        config: bench.measure(config)
        for config in (
            SemanticConfig(class_templates=templates, temperature=temperature, top_k=top_k, centred=centred)
            for templates, temperature, top_k, centred in itertools.product(
                WORDINGS.values(), TEMPERATURES, TOP_KS, (True, False)
            )
        )
    }
    chosen = choose(grid)
    best = max(grid, key=lambda config: grid[config].mrr)
    return {
        "what": "zero-shot choice of the offline encoder's settings",
        "version": __version__,
        "machine": f"{platform.machine()}, {platform.python_version()}, torch {torch.__version__}",
        "clips": {clip: len(bench.views["whole frame"][clip]) for clip in known},
        "queries": {clip: len(QUERIES[clip]) for clip in known},
        "chance_mrr": round(float(np.mean(1 / np.arange(1, len(known) + 1))), 4),
        "chosen": {"config": asdict(chosen), **asdict(grid[chosen])},
        "chosen_is_default": chosen == SemanticConfig(),
        "default": {"config": asdict(SemanticConfig()), **asdict(bench.measure(SemanticConfig()))},
        "best": {"config": asdict(best), **asdict(grid[best])},
        "leave_one_out": leave_one_out(grid),
        "plain": {
            "what": "the class names alone, no temperature, all classes, not centred (Norouzi et al.)",
            **asdict(grid[SemanticConfig(WORDINGS["name"], ("{query}",), 1.0, 1000, centred=False)]),
        },
        "one_change_from_the_choice": {
            **{f"classes: {name}": asdict(grid[replace(chosen, class_templates=t)]) for name, t in WORDINGS.items()},
            **{f"temperature: {t:g}": asdict(grid[replace(chosen, temperature=t)]) for t in TEMPERATURES},
            **{f"top-k: {k}": asdict(grid[replace(chosen, top_k=k)]) for k in TOP_KS},
            **{f"centred: {c}": asdict(grid[replace(chosen, centred=c)]) for c in (True, False)},
            **{name: asdict(measured) for name, measured in bench.variants(chosen).items()},
        },
        "moments": bench.moments(SemanticConfig()),
        "held_out_and_reworded": bench.ranks(SemanticConfig()),
    }


def leave_one_out(grid: Mapping[SemanticConfig, Measured]) -> dict[str, Any]:
    """For each clip, its figure under the setting chosen without its queries: what the choice is worth elsewhere."""
    rows = {}
    for clip in next(iter(grid.values())).per_clip:
        without = {
            config: replace(
                measured, mrr=float(np.mean([value for name, value in measured.per_clip.items() if name != clip]))
            )
            for config, measured in grid.items()
        }
        chosen = choose(without)
        rows[clip] = {"mrr": grid[chosen].per_clip[clip], "config": asdict(chosen)}
    return {"mrr": round(float(np.mean([row["mrr"] for row in rows.values()])), 4), "clips": rows}


def _held_out_texts(clips: Iterable[str]) -> dict[str, str]:
    texts = {**HELD_OUT, **{text: clip for clip, texts in REWORDED.items() for text in texts}}
    present = set(clips)
    return {text: clip for text, clip in texts.items() if clip in present}


def _without(vectors: Mapping[str, Floats], basis: Floats) -> dict[str, Floats]:
    """Unit vectors without their part along `basis` (Mu and Viswanath 2018, "all but the top")."""
    bare = {clip: rows - rows @ basis.T @ basis for clip, rows in vectors.items()}
    return {clip: rows / np.linalg.norm(rows, axis=1, keepdims=True) for clip, rows in bare.items()}


def _against_hubs(
    frames: Mapping[str, Floats], queries: Mapping[str, Floats], *, classes: Floats, strength: float
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Score less `strength` × the frame's mean cosine with its 10 nearest classes, as one more dimension."""
    reach = {clip: np.sort(rows @ classes.T, axis=1)[:, -10:].mean(axis=1) for clip, rows in frames.items()}
    return (
        {clip: np.concatenate([rows, -strength * reach[clip][:, None]], axis=1) for clip, rows in frames.items()},
        {clip: np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1) for clip, rows in queries.items()},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the JSON, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.zero_shot", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder of clips named as in the queries; default: the sample clips")
    parser.add_argument("--out", type=Path, help="the JSON; default: bench/zero_shot/results.json, or encoders.json")
    parser.add_argument(
        "--encoder", type=Path, nargs="+", help="folders of trained encoders: compare them with the default, no more"
    )
    options = parser.parse_args(arguments)
    folder = options.clips or weights.fetch("sample-clips")
    paths = {path.stem: path for path in sorted(folder.glob("*.mp4"))}
    options.out = options.out or Path("bench/zero_shot") / ("encoders.json" if options.encoder else "results.json")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.encoder:
        compared = compare_encoders(options.encoder, paths)
        options.out.write_text(json.dumps(compared, indent=1) + "\n")
        for name, row in compared.items():
            figures = f"MRR {row['mrr']:.3f}  R@1 {row['recall_1']:.3f}"
            print(f"{figures}  better {row['better']}, worse {row['worse']} of {row['queries']}  {name}")
        return
    result = measure(paths)
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(f"chance {result['chance_mrr']:.3f}; plain {_line(result['plain'])}")
    print(f"best     {_line(result['best'])}  {result['best']['config']}")
    print(f"chosen   {_line(result['chosen'])}  {result['chosen']['config']}")
    print(f"default  {_line(result['default'])}; leave one clip out: MRR {result['leave_one_out']['mrr']:.3f}")
    for name, row in result["one_change_from_the_choice"].items():
        print(f"  {name:48} {_line(row)}")
    for row in result["moments"]:
        print(f"  moment: tolerance {row['tolerance']}, share {row['share']}: IoU {row['mean_iou']:.3f}")
    for row in result["held_out_and_reworded"]:
        mark = "*" if row["held_out"] else " "
        print(f"{mark} {row['query']:48} {row['clip']:18} rank {row['rank']}  {row['score']:.3f}  first {row['first']}")


def _line(row: Mapping[str, Any]) -> str:
    return f"MRR {row['mrr']:.3f}  R@1 {row['recall_1']:.3f}  margin {row['margin']:+.2f}"


if __name__ == "__main__":
    main()
