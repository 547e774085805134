"""Playground clips for the small detector: what the frozen image network sees of them, and what is true of them.

Videos are drawn and never written. A clip is `frames` frames around a key frame; its maps are kept in half precision on
disk, so that training does not see a pixel twice. Training clips lean towards rare classes; held-out clips do not, and
their seeds begin elsewhere. What is rare depends on the videos before, so key frames are chosen one video after
another, while several processes draw what is chosen. An interrupted run goes on with the next part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from trifocal.action import Detector, DetectorConfig
from trifocal.action.data.targets import ClipTargets, Targets
from trifocal.errors import InvalidInput
from trifocal.playground import ACTIONS, ActorNow, Renderer, VideoSpec, compose, truth

__all__ = ["ACTORS", "FPS", "SIZE", "ClipSet", "SplitPlan", "make_clips"]

FPS: Final = 25.0
SIZE: Final = (240, 320)
ACTORS: Final = 8
"""Most actors of a key frame that are kept; the playground has fewer."""
_CANDIDATES: Final = 12
_PART: Final = 50
"""Videos between two states of the folder that an interrupted run can go on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """Which videos, and how many clips of each.

    Args:
        first_seed: of the first video; the others follow.
        videos: how many.
        clips: of each video.
        duration_s: of a video.
        balanced: choose key frames with rare classes rather than any.
    """

    first_seed: int
    videos: int
    clips: int
    duration_s: float = 8.0
    balanced: bool = False


@dataclass(slots=True)
class ClipSet:
    """Clips with their truth; N clips.

    Args:
        maps: per level float16 (N, T, H, W, C), on disk.
        boxes_cxcywh: float32 (N, ACTORS, 4), shares of the frame.
        valid: bool (N, ACTORS).
        actions: bool (N, ACTORS, A).
        deciders_xyxy: float32 (N, ACTORS, A, 4), shares of the frame, of the object that decides a class; NaN where
            none does.
        seeds: int64 (N,), the video.
        indices: int64 (N,), the key frame.
    """

    maps: list[npt.NDArray[np.float16]]
    boxes_cxcywh: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.bool_]
    deciders_xyxy: npt.NDArray[np.float32]
    seeds: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    targets: Targets = field(init=False)

    def __post_init__(self) -> None:
        """Make the targets once."""
        self.targets = Targets.collate(
            [
                ClipTargets(
                    boxes_cxcywh=torch.from_numpy(boxes[None].copy()),
                    valid=torch.from_numpy(valid[None].copy()),
                    actions=torch.from_numpy(actions[None].astype(np.float32)),
                    padded=torch.zeros(1, dtype=torch.bool),
                )
                for boxes, valid, actions in zip(self.boxes_cxcywh, self.valid, self.actions, strict=True)
            ]
        )

    def __len__(self) -> int:
        """N."""
        return len(self.seeds)

    def batch(self, rows: Sequence[int]) -> tuple[tuple[torch.Tensor, ...], Targets]:
        """Maps (B, T, H, W, C) per level, and targets of some clips."""
        maps = tuple(torch.from_numpy(level[np.sort(rows)]) for level in self.maps)
        index = torch.from_numpy(np.sort(rows))
        parts = (self.targets.boxes_cxcywh, self.targets.valid, self.targets.actions, self.targets.padded)
        return maps, Targets(*(part[index] for part in parts))


def make_clips(
    folder: Path,
    plan: SplitPlan,
    config: DetectorConfig,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ClipSet:
    """The clips of a plan, drawn where they are not on disk yet.

    Args:
        folder: of this split.
        plan: which clips.
        config: whose body sees them.
        workers: processes that draw, by default one a core; the clips do not depend on it.
        progress: called with videos done and in all.

    Raises:
        InvalidInput: the folder holds clips of another plan or configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = [list(level.shape) for level in _see(config, [np.zeros((*SIZE, 3), np.uint8)] * config.frames)]
    described = {"plan": asdict(plan), "maps": shapes}
    state_file = folder / "state.json"
    state: dict[str, Any] = json.loads(state_file.read_text()) if state_file.exists() else {"done": 0, **described}
    if {name: state[name] for name in described} != described:
        raise InvalidInput(f"{folder} holds other clips", remedy="Give another folder, or remove it.")
    arrays = _open_arrays(folder, plan.videos * plan.clips, shapes, fresh=not state["done"])
    if state["done"] < plan.videos:
        pool = ProcessPoolExecutor(
            workers or os.cpu_count(), get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        )
        with pool:
            for start in range(state["done"], plan.videos, _PART):
                part = range(start, min(start + _PART, plan.videos))
                _draw_part(pool, plan, config, part, arrays, progress)
                state["done"] = part.stop
                state_file.write_text(json.dumps(state))
    levels = [arrays[f"map{level}"] for level in range(len(shapes))]
    rest = {name: np.asarray(array) for name, array in arrays.items() if not name.startswith("map")}
    return ClipSet(maps=levels, **rest)


def _open_arrays(folder: Path, count: int, maps: list[list[int]], *, fresh: bool) -> dict[str, Any]:
    kinds: dict[str, tuple[type, tuple[int, ...]]] = {
        "boxes_cxcywh": (np.float32, (ACTORS, 4)),
        "valid": (np.bool_, (ACTORS,)),
        "actions": (np.bool_, (ACTORS, len(ACTIONS))),
        "deciders_xyxy": (np.float32, (ACTORS, len(ACTIONS), 4)),
        "seeds": (np.int64, ()),
        "indices": (np.int64, ()),
        **{f"map{level}": (np.float16, tuple(shape)) for level, shape in enumerate(maps)},
    }
    return {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+" if fresh else "r+", dtype=kind, shape=(count, *shape)
        )
        for name, (kind, shape) in kinds.items()
    }


def _draw_part(
    pool: ProcessPoolExecutor,
    plan: SplitPlan,
    config: DetectorConfig,
    part: range,
    arrays: dict[str, Any],
    progress: Callable[[int, int], None],
) -> None:
    """Draw some videos; later ones are chosen while earlier ones are drawn."""
    frequency = arrays["actions"][: part.start * plan.clips].sum((0, 1)).astype(np.float64)
    drawn = []
    for number in part:
        keys = _choose(plan, number, config, arrays, frequency)
        drawn.append(pool.submit(_draw, plan.first_seed + number, plan.duration_s, config, keys))
    for number, video in zip(part, drawn, strict=True):
        for row, maps in enumerate(video.result(), start=number * plan.clips):
            for level, found in enumerate(maps):
                arrays[f"map{level}"][row] = found
        progress(number + 1, plan.videos)
    for array in arrays.values():
        array.flush()


def _choose(
    plan: SplitPlan,
    number: int,
    config: DetectorConfig,
    arrays: dict[str, Any],
    frequency: npt.NDArray[np.float64],
) -> list[int]:
    """Choose the key frames of one video and note what is true of them; classes are counted in `frequency`."""
    seed = plan.first_seed + number
    facts = truth(_composed(seed, plan.duration_s))
    keys = _key_frames(plan, seed, facts.frame_count, margin=config.frames // 2 * config.frame_stride)
    seen = {key: facts.at(key) for key in keys}
    chosen = []
    for row in range(number * plan.clips, (number + 1) * plan.clips):
        key = max(keys, key=lambda one: (_rarity(seen[one], frequency), -one)) if plan.balanced else keys[0]
        keys.remove(key)
        chosen.append(key)
        arrays["seeds"][row], arrays["indices"][row] = seed, key
        _note(seen[key], arrays, row)
        frequency += arrays["actions"][row].sum(0)
    return chosen


def _draw(seed: int, duration_s: float, config: DetectorConfig, keys: list[int]) -> list[list[npt.NDArray[np.float16]]]:
    """Draw a video's clips around key frames: per clip what the body sees, per level (T, H, W, C)."""
    spec = _composed(seed, duration_s)
    renderer = Renderer(spec)
    before, step = config.frames // 2, config.frame_stride
    clips = []
    for key in keys:
        indices = [min(max(key + step * (place - before), 0), spec.frame_count - 1) for place in range(config.frames)]
        clips.append(_see(config, [renderer.frame(index) for index in indices]))
    return clips


def _composed(seed: int, duration_s: float) -> VideoSpec:
    return compose(seed, duration_s=duration_s, size=SIZE, fps=FPS)


@cache
def _body(config: DetectorConfig) -> Detector:
    return Detector(config).eval()


@torch.inference_mode()
def _see(config: DetectorConfig, frames: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float16]]:
    """Frames (H, W, 3) → what the body sees of them, per level (T, H', W', C)."""
    model = _body(config)
    size = (int(config.short_side * SIZE[1] / SIZE[0]), config.short_side)
    resized = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in frames]
    clip: torch.Tensor = cast("Any", model.body).preprocess(torch.from_numpy(np.stack(resized)))
    return [level[0].half().numpy() for level in model.features(clip[None])]


def _key_frames(plan: SplitPlan, seed: int, count: int, *, margin: int) -> list[int]:
    wanted = max(plan.clips, _CANDIDATES) if plan.balanced else plan.clips
    chance = np.random.default_rng((seed, 1))
    return [int(one) for one in chance.choice(np.arange(margin, count - margin), wanted, replace=False)]


def _rarity(actors: list[ActorNow], frequency: npt.NDArray[np.float64]) -> float:
    names = [action.name for action in ACTIONS]
    return float(sum(1 / (5 + frequency[names.index(name)]) for actor in actors for name in actor.actions))


def _note(actors: list[ActorNow], arrays: dict[str, Any], row: int) -> None:
    scale = np.array([SIZE[1], SIZE[0]] * 2, np.float32)
    names = [action.name for action in ACTIONS]
    arrays["deciders_xyxy"][row] = np.nan
    kept = 0
    for actor in actors:
        box = np.clip(np.array(actor.box_xyxy, np.float32) / scale, 0, 1)
        if kept == ACTORS or (box[2:] - box[:2] <= 0).any():
            continue
        arrays["boxes_cxcywh"][row, kept] = [*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])]
        arrays["valid"][row, kept] = True
        for name in actor.actions:
            arrays["actions"][row, kept, names.index(name)] = True
        for name, (_, where) in actor.deciders.items():
            arrays["deciders_xyxy"][row, kept, names.index(name)] = np.array(where, np.float32) / scale
        kept += 1
