"""Tubes of the small detector that ships on held-out drawn videos: frame-mAP, video-mAP, and what savings cost.

    python -m trifocal.bench.small_detect_tubes --videos 60

Videos of the test seeds are written as files and watched as `trifocal detect` does, once for each way of watching: as
it comes, in bfloat16, and with actors left out of classification that are less sure than a bound. Truth is every
fourth frame. Tubes are those of the product, box and score by actor; they are not linked anew for each class.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from trifocal.action import ActionModel, DetectConfig, Tube, WatchConfig, detect, load_action_model
from trifocal.action.evaluation import Detections, evaluate
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.bench.machine import machine
from trifocal.bench.small_detect import SPLITS
from trifocal.bench.small_detect_data import FPS, SIZE
from trifocal.playground import ACTIONS, VideoSpec, compose, truth, write

__all__ = ["WAYS", "labels_of", "main", "measure"]

WAYS: Final[Mapping[str, WatchConfig]] = {
    "as it comes": WatchConfig(),
    "bf16": WatchConfig(precision="bf16"),
    "keep_above .2": WatchConfig(keep_above=0.2),
    "keep_above .5": WatchConfig(keep_above=0.5),
    "keep_above .8": WatchConfig(keep_above=0.8),
}
MEASURES: Final = ("frame_ap@.5", "video_ap@.2", "video_ap@.5")
LABEL_STEP: Final = 4
"""Frames from one labelled frame to the next."""
LEAST_SCORE: Final = 0.01
"""Actions below this are no part of a tube; average precision wants more of them than a reader does."""


def labels_of(spec: VideoSpec, name: str) -> VideoLabels:
    """The truth of a drawn video as labels: every fourth frame, the parts of boxes that are in the picture."""
    facts = truth(spec)
    looked_at = np.arange(0, facts.frame_count, LABEL_STEP)
    ids = {actor.id: number for number, actor in enumerate(facts.actors)}
    names = [action.name for action in ACTIONS]
    size = np.array([SIZE[1], SIZE[0]] * 2, np.float32)
    rows = [
        (index, box, ids[actor.id], [name in actor.actions for name in names])
        for index in looked_at.tolist()
        for actor in facts.at(index)
        if ((box := np.clip(np.array(actor.box_xyxy, np.float32), 0, size))[2:] > box[:2]).all()
    ]
    return VideoLabels(
        video=name,
        indices=np.array([row[0] for row in rows], np.int64),
        boxes_xyxy=np.array([row[1] for row in rows], np.float32),
        tracks=np.array([row[2] for row in rows], np.int64),
        actions=np.array([row[3] for row in rows], np.bool_).reshape(len(rows), len(names)),
        rate=FPS,
        width=SIZE[1],
        height=SIZE[0],
        frame_count=facts.frame_count,
        labelled=looked_at,
    )


def measure(
    folder: Path, *, model: ActionModel, videos: int, duration_s: float, ways: Mapping[str, WatchConfig]
) -> dict[str, Any]:
    """Watch so many held-out videos in every way.

    Args:
        folder: for the videos.
        model: what to watch with; its classes are the playground's actions.
        videos: how many.
        duration_s: of each.
        ways: how, by name.

    Returns:
        By way: the figures of `evaluate`, AP by class and by kind of class, CPU-seconds per minute of video.
    """
    found: dict[str, list[Tube]] = {way: [] for way in ways}
    spent = dict.fromkeys(ways, 0.0)
    labels = []
    for number in range(videos):
        spec = compose(SPLITS["test"].first_seed + number, duration_s=duration_s, size=SIZE, fps=FPS)
        name = f"{number:04d}"
        path = write(spec, folder, name=name).with_suffix(".mp4")
        labels.append(labels_of(spec, name))
        for way, watch in ways.items():
            config = DetectConfig(watch=watch, least_class_score=LEAST_SCORE)
            before = time.process_time()
            report = detect(path, model=model, name=name, config=config, isolated=False)
            spent[way] += time.process_time() - before
            found[way] += report.tubes
        print(f"{number + 1} of {videos} videos", file=sys.stderr, flush=True)
    whole = Labels(LabelMap.of(action.name for action in ACTIONS), tuple(labels))
    kinds = {action.name: action.kind for action in ACTIONS}
    rows: dict[str, Any] = {}
    for way, tubes in found.items():
        result = evaluate(whole, Detections.of_tubes(tubes, whole), tubes=tubes)
        by_class = result.rows()
        rows[way] = {
            "figures": result.figures(),
            "by_kind": {
                kind: {
                    measure: float(np.nanmean([row[measure] for row in by_class if of_kind(row, kinds, kind, measure)]))
                    for measure in MEASURES
                }
                for kind in sorted(set(kinds.values()))
            },
            "by_class": {row["class"]: {name: row[name] for name in MEASURES} for row in by_class},
            "tubes": len(tubes),
            "cpu_s_per_minute": spent[way] / (videos * duration_s / 60),
        }
    return {"videos": videos, "duration_s": duration_s, "ways": rows}


def of_kind(row: Mapping[str, Any], kinds: Mapping[str, str], kind: str, measure: str) -> bool:
    """Whether a class's row belongs to a kind and has a figure."""
    return kinds[row["class"]] == kind and row[measure] is not None


def main(words: list[str] | None = None) -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="default, or a model's folder")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--duration-s", type=float, default=8.0)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="of watching; all by default")
    parser.add_argument("--out", type=Path, default=Path("bench/small_detect/tubes.json"), help="a JSON file")
    given = parser.parse_args(words)
    model = load_action_model(given.model)
    with tempfile.TemporaryDirectory() as folder:
        ways = {way: WAYS[way] for way in given.ways}
        found = measure(Path(folder), model=model, videos=given.videos, duration_s=given.duration_s, ways=ways)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "model": model.name, **found}
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print("| way | frame-mAP@.5 | video-mAP@.2 | @.5 | body @.5 | context @.5 | CPU-s a minute |\n|" + "---|" * 7)
    for way, row in found["ways"].items():
        figures, kinds = row["figures"], row["by_kind"]
        cells = [figures[name] for name in ("frame_map@.5", "video_map@.2", "video_map@.5")]
        cells += [kinds[kind]["video_ap@.5"] for kind in ("body", "context")]
        print(f"| {way} | " + " | ".join(f"{cell:.3f}" for cell in cells) + f" | {row['cpu_s_per_minute']:.1f} |")


if __name__ == "__main__":
    main()
