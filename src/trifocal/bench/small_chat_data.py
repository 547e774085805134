"""Playground videos as arrays and questions, to train and to judge the small chat model with.

Each video is composed from its seed, only the frames that the model looks at are drawn, and what the frozen classifier
makes of them is kept: no video file is written. A split is a folder of shards, each a safetensors file of arrays and a
JSON file of what is asked and what is there; a shard that exists is left alone, so the work can be resumed.

    python -m trifocal.bench.small_chat_data FOLDER --count 1000 --seed 11
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import load_file, save_file

from trifocal import playground
from trifocal.chat.small.cells import cell_inputs
from trifocal.errors import InvalidInput
from trifocal.playground.places import PLACE_RULES
from trifocal.playground.questions import phrase

if TYPE_CHECKING:
    import torch

    from trifocal.backbones import EfficientNetLite0
    from trifocal.playground import Truth, VideoSpec

__all__ = ["Sample", "load_split", "make_split"]

FPS = 8.0
GRID = 4
SHARD = 50


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A video as the model sees it, with what is asked about it.

    Args:
        name: of the video.
        cells: `(T, GRID, GRID, F + 125)` float16, from `trifocal.chat.small.cells`.
        pooled: the mean features of each frame, `(T, F)` float16.
        times_s: when each frame is shown, `(T,)`.
        questions: `type`, `text`, `answer`, `choices`, `start_s`, `end_s` each.
        frames: for each frame its `place`, and `seen`: words and a box in shares of the frame each.
    """

    name: str
    cells: torch.Tensor
    pooled: torch.Tensor
    times_s: list[float]
    questions: list[dict[str, Any]]
    frames: list[dict[str, Any]]


def make_split(
    folder: Path,
    *,
    count: int,
    seed: int,
    frames: int,
    duration_s: tuple[float, float],
    network: EfficientNetLite0,
) -> None:
    """Make a split, or finish one.

    Args:
        folder: made if need be.
        count: how many videos.
        seed: of the collection; videos of different seeds share nothing.
        frames: how many of each video, at the centres of equal parts.
        duration_s: shortest and longest video.
        network: the classifier.

    Raises:
        InvalidInput: an argument is out of range, or the folder holds another split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"count": count, "seed": seed, "frames": frames, "duration_s": list(duration_s), "grid": GRID}
    about = folder / "split.json"
    if about.is_file() and json.loads(about.read_text(encoding="utf-8")) != settings:
        raise InvalidInput(f"{folder} holds a split made otherwise", remedy="Give another folder, or empty this one.")
    about.write_text(json.dumps(settings, sort_keys=True) + "\n", encoding="utf-8")
    specs = playground.collection_specs(count=count, seed=seed, duration_s=duration_s, fps=FPS)
    for start in range(0, count, SHARD):
        path = folder / f"{start:05d}.safetensors"
        if path.is_file():
            continue
        began = time.perf_counter()
        tensors: dict[str, torch.Tensor] = {}
        facts: list[dict[str, Any]] = []
        for name, spec in specs[start : start + SHARD]:
            cells, pooled, fact = _look(spec, frames=frames, network=network)
            tensors[f"{name}/cells"], tensors[f"{name}/pooled"] = cells, pooled
            facts.append({"name": name, **fact})
        path.with_suffix(".json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        part = path.with_suffix(".part")
        save_file(tensors, part)
        part.replace(path)
        print(f"{min(start + SHARD, count)}/{count} videos, {time.perf_counter() - began:.0f} s", file=sys.stderr)


def load_split(folder: Path, *, first: int | None = None) -> Iterator[Sample]:
    """The videos of a split in order, of those shards that exist.

    Args:
        folder: of `make_split`.
        first: stop after so many; all by default.

    Raises:
        InvalidInput: there is none.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InvalidInput(f"{folder} holds no videos", remedy="Make them: python -m trifocal.bench.small_chat_data.")
    given = 0
    for path in paths:
        tensors = load_file(path)
        for fact in json.loads(path.with_suffix(".json").read_text(encoding="utf-8")):
            if given == first:
                return
            given += 1
            name = fact.pop("name")
            yield Sample(name=name, cells=tensors[f"{name}/cells"], pooled=tensors[f"{name}/pooled"], **fact)


def _look(
    spec: VideoSpec, *, frames: int, network: EfficientNetLite0
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    truth = playground.truth(spec)
    renderer = playground.Renderer(spec)
    indexes = [int((number + 0.5) / frames * spec.frame_count) for number in range(frames)]
    images = np.stack([renderer.frame(index) for index in indexes])
    feature_map = network.features(network.preprocess(images))
    facts = {
        "times_s": [index / spec.fps for index in indexes],
        "questions": [
            {
                "type": question.type,
                "text": question.text,
                "answer": question.answer,
                "choices": list(question.choices),
                "start_s": question.start_s,
                "end_s": question.end_s,
            }
            for question in truth.questions
        ],
        "frames": [_seen(spec, truth, index) for index in indexes],
    }
    return cell_inputs(feature_map, images, grid=GRID).half(), feature_map.mean(dim=(2, 3)).half(), facts


def _seen(spec: VideoSpec, truth: Truth, index: int) -> dict[str, Any]:
    """The place of a frame, and who and what is in it: words and a box each."""
    scene = max(number for number in range(len(spec.scenes)) if spec.frames_of(number)[0] <= index)
    looks = {actor.id: actor.look for actor in spec.scenes[scene].actors}
    seen = []
    for now in truth.at(index):
        look = looks[now.id]
        words = [look.kind, look.top, *(phrase(name) for name in now.actions)]
        seen.append({"words": words, "box": _shares(now.box_xyxy, spec)})
    boxes = [(thing, truth.box(thing.id, index)) for thing in truth.things if thing.scene == scene]
    seen += [
        {"words": [thing.kind, thing.colour], "box": _shares(box, spec)} for thing, box in boxes if box is not None
    ]
    return {"place": PLACE_RULES[spec.scenes[scene].place].phrase, "seen": seen}


def _shares(box: tuple[float, float, float, float], spec: VideoSpec) -> list[float]:
    return [round(side / whole, 4) for side, whole in zip(box, (spec.width, spec.height) * 2, strict=True)]


def main(arguments: list[str] | None = None) -> None:
    """Make a split."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, required=True, help="how many videos")
    parser.add_argument("--seed", type=int, required=True, help="of the collection")
    parser.add_argument("--frames", type=int, default=16, help="of each video")
    parser.add_argument("--shortest", type=float, default=10.0, help="seconds")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds")
    given = parser.parse_args(arguments)
    from trifocal.backbones import load_efficientnet_lite0

    make_split(
        given.folder,
        count=given.count,
        seed=given.seed,
        frames=given.frames,
        duration_s=(given.shortest, given.longest),
        network=load_efficientnet_lite0(),
    )


if __name__ == "__main__":
    main()
