"""Train and judge the small detector that ships: playground actors, with one attention map per class or one for all.

    python -m trifocal.bench.small_detect train DATA --out RUN [--shared-map] [--start FIRST] ...
    python -m trifocal.bench.small_detect report DATA --runs RUN RIVAL --out bench/small_detect
    python -m trifocal.bench.small_detect ship RUN --out FOLDER

`train` uses the loop of `trifocal.training` and resumes. Training has two stages: first with one map for all classes,
then from there (`--start`) once more with one map, and once with a query, and so a map, for each class. The queries
begin around the one, so both second stages begin as nearly the same function and have the same budget. `report` gives
frame-AP at IoU .5 on held-out seeds by class and by kind of class (body: the pose tells; context: only something
outside does), and how much of a class's attention falls on the object that decides it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from trifocal.action import ActionModel, AttentionRequest, Detector, DetectorConfig, ImageConfig, preset
from trifocal.action.data.targets import Targets
from trifocal.action.evaluation.frame_map import frame_map
from trifocal.action.evaluation.tables import Detections, FrameTruth
from trifocal.action.labels import LabelMap
from trifocal.action.losses import ActionCriterion, CriterionConfig
from trifocal.bench.machine import machine
from trifocal.bench.small_detect_data import FPS, ClipSet, SplitPlan, make_clips
from trifocal.errors import InvalidInput
from trifocal.playground import ACTIONS
from trifocal.training import EpochBatches, NamedParameters, Task, TrainConfig, fit, load_weights

__all__ = ["SMALL", "SPLITS", "evaluate", "main"]

SMALL: Final = replace(
    preset("small"),
    backbone=ImageConfig(strides=(16, 32)),
    classes=len(ACTIONS),
    actors=5,
    short_side=192,
    width=64,
    heads=4,
    feedforward=256,
    encoder_layers=1,
    decoder_layers=2,
)
"""Sizes of the detector that ships and of its rival; `configuration` says what their class queries are."""

SPLITS: Final = {
    "val": SplitPlan(first_seed=2_000_000, videos=60, clips=3),
    "train": SplitPlan(first_seed=1_000_000, videos=1400, clips=3, balanced=True),
    "test": SplitPlan(first_seed=3_000_000, videos=300, clips=3),
}
CAVEAT: Final = (
    "This small detector was trained on drawn figures (the playground) alone: it shows how detection works; what it "
    "says of real people means nothing."
)
Batch = tuple[tuple[torch.Tensor, ...], Targets]


class SmallDetection(Task):
    """Kept maps in, losses of every decoder layer out."""

    def __init__(
        self, model: Detector, *, train: ClipSet, val: ClipSet, batch: int, seed: int, criterion: CriterionConfig
    ) -> None:
        """Take the data."""
        self.model = model
        self._train, self._val, self._batch, self._seed = train, val, batch, seed
        self._criterion = ActionCriterion(criterion)

    def batches(self, epoch: int) -> EpochBatches:
        """Clips in an order of the epoch's own."""
        return EpochBatches(
            len(self._train), batch=self._batch, collate=self._train.batch, epoch=epoch, seed=self._seed, drop_last=True
        )

    def loss(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Match and compare; half of the batches are mirrored."""
        maps, targets = batch
        if torch.rand(()) < 0.5:
            maps, targets = _mirrored(maps, targets)
        assert isinstance(self.model, Detector)
        found = self.model.from_features(maps)
        losses = self._criterion([*found.aux_outputs, found], targets)
        return {"loss": losses.total, **{name: losses.terms[name].detach() for name in ("class", "person", "box")}}

    def evaluate(self) -> dict[str, float]:
        """Frame-mAP at IoU .5 on clips of other seeds."""
        assert isinstance(self.model, Detector)
        summary: dict[str, float] = evaluate(self.model, self._val)["summary"]
        return summary

    def parameter_groups(self) -> dict[str, NamedParameters]:
        """Class queries learn at a rate of their own; the body is frozen."""
        groups: dict[str, list[tuple[str, torch.nn.Parameter]]] = {"model": [], "queries": []}
        for name, one in self.model.named_parameters():
            if one.requires_grad:
                groups["queries" if name == "decoder.class_queries" else "model"].append((name, one))
        return dict(groups)


def _mirrored(maps: tuple[torch.Tensor, ...], targets: Targets) -> Batch:
    """The same clips seen in a mirror; the maps of a mirrored frame are nearly the mirrored maps."""
    boxes = targets.boxes_cxcywh.clone()
    boxes[..., 0] = torch.where(targets.valid, 1 - boxes[..., 0], boxes[..., 0])
    return tuple(level.flip(3) for level in maps), replace(targets, boxes_cxcywh=boxes)


@torch.inference_mode()
def evaluate(model: Detector, clips: ClipSet, *, attention: bool = False, batch: int = 16) -> dict[str, Any]:
    """Frame-AP at IoU .5, each class's and in the mean, and where attention falls.

    Args:
        model: in eval mode.
        clips: with truth.
        attention: also measure the share of each context class's attention on its deciding object.
        batch: clips at a time.

    Returns:
        "summary" of means, "classes" with AP, number of labelled actors and attention by name.
    """
    boxes, scores, person, shares = [], [], [], []
    request = AttentionRequest() if attention else None
    for start in range(0, len(clips), batch):
        rows = list(range(start, min(start + batch, len(clips))))
        maps, _ = clips.batch(rows)
        found = model.from_features(maps, attention=request)
        boxes.append(found.boxes_cxcywh.float().numpy())
        person.append(found.person_scores.float().numpy())
        scores.append((found.class_scores * found.person_scores[..., None]).float().numpy())
        if request is not None:
            shares += _on_deciders(found.attention[0].float().numpy(), boxes[-1], clips, rows)
    truth, detections = _tables(clips, np.concatenate(boxes), np.concatenate(scores))
    table = frame_map(truth, detections)
    ap = table.ap[0]
    kinds = np.array([action.kind for action in ACTIONS])
    known = ~np.isnan(ap)
    summary = {
        "frame_map": float(np.nanmean(ap)),
        **{f"frame_map_{kind}": float(np.nanmean(ap[kinds == kind])) for kind in ("body", "context")},
        "actor_ap": _actor_ap(clips, np.concatenate(boxes), np.concatenate(person)),
    }
    classes = {
        action.name: {"kind": action.kind, "ap": float(value), "actors": int(count)}
        for action, value, count, there in zip(ACTIONS, ap, table.actors, known, strict=True)
        if there
    }
    if shares:
        by_class = {name: [(on, area) for named, on, area in shares if named == name] for name in classes}
        for name, values in by_class.items():
            if values:
                classes[name]["attention_on_decider"] = float(np.mean([on for on, _ in values]))
                classes[name]["decider_area"] = float(np.mean([area for _, area in values]))
        summary["attention_on_decider"] = float(np.mean([on for _, on, _ in shares]))
        summary["decider_area"] = float(np.mean([area for *_, area in shares]))
    return {"summary": summary, "classes": classes, "clips": len(clips)}


def _corners(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    centre, size = boxes[..., :2].astype(np.float64), boxes[..., 2:].astype(np.float64)
    return np.concatenate((centre - size / 2, centre + size / 2), -1)


def _tables(
    clips: ClipSet, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> tuple[FrameTruth, Detections]:
    """Truth and detections; every clip's key frame is a frame of one video."""
    classes = LabelMap.of(action.name for action in ACTIONS)
    clip, actor = np.nonzero(clips.valid)
    looked_at = np.stack((np.zeros(len(clips), np.int64), np.arange(len(clips))), 1)
    truth = FrameTruth(
        classes=classes,
        videos=("clips",),
        video=np.zeros(len(clip), np.int64),
        index=clip.astype(np.int64),
        boxes_xyxy=_corners(clips.boxes_cxcywh[clip, actor]),
        actions=clips.actions[clip, actor],
        tracks=np.full(len(clip), -1, np.int64),
        looked_at=looked_at,
    )
    count, queries = boxes.shape[:2]
    detections = Detections(
        classes=classes,
        videos=("clips",),
        video=np.zeros(count * queries, np.int64),
        index=np.repeat(np.arange(count), queries),
        boxes_xyxy=_corners(boxes).reshape(-1, 4),
        scores=scores.reshape(count * queries, -1).astype(np.float64),
    )
    return truth, detections


def _actor_ap(clips: ClipSet, boxes: npt.NDArray[np.float32], person: npt.NDArray[np.float32]) -> float:
    """AP of finding actors, whatever they do: all classes taken for one."""
    truth, detections = _tables(clips, boxes, np.repeat(person[..., None], len(ACTIONS), -1))
    one = LabelMap.of(["actor"])
    found = replace(detections, classes=one, scores=detections.scores[:, :1])
    return float(frame_map(replace(truth, classes=one, actions=np.ones((len(truth), 1), np.bool_)), found).ap[0, 0])


def _on_deciders(
    maps: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], clips: ClipSet, rows: list[int]
) -> list[tuple[str, float, float]]:
    """For every labelled context class: its name, the share of attention on the deciding box, the box's own area.

    The map is that of the query whose box overlaps the actor most. A cell counts by the part of it that is covered.
    """
    from trifocal.action.tubes import pairwise_iou

    height, width = maps.shape[-2:]
    out = []
    for place, row in enumerate(rows):
        for actor in np.flatnonzero(clips.valid[row]):
            overlap = pairwise_iou(_corners(boxes[place]), _corners(clips.boxes_cxcywh[row, actor])[None])[:, 0]
            query = int(overlap.argmax())
            if overlap[query] < 0.5:
                continue
            for label in np.flatnonzero(~np.isnan(clips.deciders_xyxy[row, actor, :, 0])):
                box = np.clip(clips.deciders_xyxy[row, actor, label], 0, 1)
                down, across = (_cover(box[axis], box[axis + 2], cells) for axis, cells in ((1, height), (0, width)))
                share = float((maps[place, query, label] * np.outer(down, across)).sum())
                area = float((box[2] - box[0]) * (box[3] - box[1]))
                out.append((ACTIONS[label].name, share, area))
    return out


def _cover(low: float, high: float, cells: int) -> npt.NDArray[np.float64]:
    edges = np.arange(cells + 1) / cells
    covered: npt.NDArray[np.float64] = (
        np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * cells
    )
    return covered


def _train(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    data = {name: _clips(arguments.data, name, config) for name in ("train", "val")}
    torch.manual_seed(arguments.seed)
    model = Detector(config)
    if arguments.start is not None:
        run = arguments.start / "best.safetensors"
        grow_queries(model, load_file(run if run.exists() else arguments.start / "model.safetensors"))
    recipe = TrainConfig(
        epochs=arguments.epochs,
        lr=arguments.lr,
        group_lr={"queries": 5 * arguments.lr},
        schedule="cosine",
        warmup=0.03,
        weight_decay=1e-4,
        clip_norm=1.0,
        precision=arguments.precision,
        seed=arguments.seed,
        ema=0.998,
        monitor="frame_map",
        mode="max",
        evaluate_every=arguments.evaluate_every,
    )
    criterion = CriterionConfig.preset("ava", **json.loads(arguments.criterion))
    task = SmallDetection(model, **data, batch=arguments.batch, seed=arguments.seed, criterion=criterion)
    started = time.time()

    def tell(row: Mapping[str, Any]) -> None:
        shown = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        print(f"{time.time() - started:.0f} s {json.dumps(shown)}", file=sys.stderr, flush=True)

    result = fit(
        task, recipe, folder=arguments.out, resume=(arguments.out / "last.safetensors").exists(), on_epoch=tell
    )
    (arguments.out / "config.json").write_text(config.to_json())
    print(f"best epoch {result.best_epoch}: {result.best:.4f}")


def grow_queries(model: Detector, first: dict[str, torch.Tensor], *, noise: float = 1.0) -> None:
    """Begin where another run ended; one query for all classes becomes one for each, as far apart as untrained ones."""
    state = dict(first)
    query, wanted = state["decoder.class_queries"], model.decoder.class_queries
    if len(query) != len(wanted):
        state["decoder.class_queries"] = query.expand(len(wanted), -1) + noise * torch.randn(wanted.shape)
    missing, unknown = model.load_state_dict(state, strict=False)
    if missing or unknown:
        raise InvalidInput(f"the runs differ in {[*missing, *unknown][:3]}", remedy="Start from a run of this script.")


def configuration(arguments: argparse.Namespace) -> DetectorConfig:
    """One attention map for all classes, or a query for each that is told from the others in every layer."""
    return replace(SMALL, class_queries="shared") if arguments.shared_map else replace(SMALL, carry_classes=True)


def _clips(folder: Path, name: str, config: DetectorConfig) -> ClipSet:
    def tell(done: int, count: int) -> None:
        if done % 50 == 0:
            print(f"{name}: {done} of {count} videos", file=sys.stderr, flush=True)

    return make_clips(folder / name, SPLITS[name], config, progress=tell)


def _report(arguments: argparse.Namespace) -> None:
    rows = {}
    for run in arguments.runs:
        config = DetectorConfig.from_json((run / "config.json").read_text())
        model = Detector(config)
        load_weights(run / "best.safetensors", model)
        found = evaluate(model.eval(), _clips(arguments.data, "test", config), attention=True)
        trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
        rows[config.class_queries] = {"parameters": trained, **found}
    arguments.out.mkdir(parents=True, exist_ok=True)
    target = arguments.out / "small_detect.json"
    target.write_text(json.dumps({"machine": machine(), "models": rows}, indent=2) + "\n")
    names = list(next(iter(rows.values()))["summary"])
    print("| figure |" + "".join(f" {kind} |" for kind in rows) + "\n|---|" + "---|" * len(rows))
    for name in names:
        print(f"| {name} |" + "".join(f" {row['summary'][name]:.3f} |" for row in rows.values()))


def _ship(arguments: argparse.Namespace) -> None:
    """Write the folder that `load_action_model("default")` reads."""
    config = DetectorConfig.from_json((arguments.folder / "config.json").read_text())
    model = Detector(config)
    load_weights(arguments.folder / "best.safetensors", model)
    classes = tuple(action.name for action in ACTIONS)
    shipped = ActionModel(model.eval(), classes, fps=FPS, name="small playground detector", caveat=CAVEAT)
    shipped.save(arguments.out, half=True)
    size = sum(path.stat().st_size for path in arguments.out.iterdir())
    print(f"{arguments.out}: {size / 1e6:.2f} MB")


def main(words: list[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(required=True)
    data = stages.add_parser("data", help="draw the clips")
    data.add_argument("data", type=Path)
    data.set_defaults(run=lambda given: [_clips(given.data, name, SMALL) for name in SPLITS])
    train = stages.add_parser("train", help="train one model")
    train.add_argument("data", type=Path)
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--shared-map", action="store_true")
    train.add_argument("--start", type=Path, help="a run or a model's folder to begin from")
    train.add_argument("--epochs", type=int, default=16)
    train.add_argument("--batch", type=int, default=8)
    train.add_argument("--lr", type=float, default=8e-4)
    train.add_argument("--precision", default="bf16")
    train.add_argument("--evaluate-every", type=int, default=2)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--criterion", default='{"smoothing": 0.0}', help="changes of the criterion, as JSON")
    train.set_defaults(run=_train)
    report = stages.add_parser("report", help="judge trained models on held-out seeds")
    report.add_argument("data", type=Path)
    report.add_argument("--runs", type=Path, nargs="+", required=True)
    report.add_argument("--out", type=Path, default=Path("bench/small_detect"))
    report.set_defaults(run=_report)
    ship = stages.add_parser("ship", help="write the folder that ships")
    ship.add_argument("folder", type=Path)
    ship.add_argument("--out", type=Path, required=True)
    ship.set_defaults(run=_ship)
    arguments = parser.parse_args(words)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
