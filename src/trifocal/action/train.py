"""Training a detector on labelled videos: the task that joins clips, model and criterion for `trifocal.training`.

A frozen backbone that sees frame by frame is run once per clip and its maps are kept in memory, so that epochs after
the first cost the trained part alone. `start_from` is the second stage's beginning: encoder and decoder of another run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from trifocal.action.data.clips import Clip, ClipConfig, ClipDataset, VideoFolder, collate
from trifocal.action.data.targets import Targets
from trifocal.action.detector import Detector
from trifocal.action.evaluation.frame_map import frame_map
from trifocal.action.evaluation.tables import Detections, FrameTruth
from trifocal.action.losses import ActionCriterion
from trifocal.action.model import ActionModel
from trifocal.errors import InvalidInput, WeightsCorrupt
from trifocal.training import EpochBatches, FitResult, NamedParameters, Progress, Task, fit, rank_and_world

if TYPE_CHECKING:
    from trifocal.action.labels import Labels
    from trifocal.action.output import DetectorOutput
    from trifocal.action.recipes import DetectRecipe

__all__ = ["DetectTask", "StartReport", "add_low_rank", "start_from", "train_detect"]

CACHE_BYTES = 4 * 1024**3
_STAGE = ("encoder.", "decoder.", "level_code")
"""What a second stage takes from the first; the backbone and what leads from it to the encoder begin anew."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Maps or pixels, with targets."""

    levels: tuple[Tensor, ...]
    padding: Tensor | None
    targets: Targets
    seen: bool

    def to(self, device: torch.device | str) -> _Batch:
        padding = None if self.padding is None else self.padding.to(device)
        return _Batch(tuple(one.to(device) for one in self.levels), padding, self.targets.to(device), self.seen)


class DetectTask(Task):
    """Clips in, losses of every decoder layer out.

    Args:
        model: the detector; what of it shall not train has `requires_grad` off.
        train: clips to train on.
        held_out: clips to evaluate on, and their labels; None for no evaluation.
        recipe: matching, losses, batch.
    """

    def __init__(
        self, model: Detector, *, train: ClipDataset, held_out: ClipDataset | None, recipe: DetectRecipe
    ) -> None:
        """Take the data."""
        if not len(train):
            raise InvalidInput("there is no clip to train on", remedy="Check the labels with `trifocal labels check`.")
        self.model = model
        self._train, self._held_out, self._recipe = train, held_out, recipe
        self._criterion = ActionCriterion(recipe.criterion)
        frozen = not any(one.requires_grad for one in model.body.parameters())
        self._keeps = frozen and bool(cast("Any", model.body).per_frame) and train.config.augmentation is None
        self._kept: dict[tuple[str, int], tuple[Tensor, ...]] = {}
        self._kept_bytes = 0

    def batches(self, epoch: int) -> EpochBatches:
        """Clips in an order of the epoch's own."""
        self._train.epoch = epoch
        rank, world = rank_and_world()
        return EpochBatches(
            len(self._train),
            batch=self._recipe.batch,
            collate=lambda rows: self._collate(self._train, rows),
            epoch=epoch,
            seed=self._recipe.train.seed,
            rank=rank,
            world=world,
        )

    def loss(self, batch: _Batch) -> Mapping[str, Tensor]:
        """Match and compare."""
        found = self._run(batch)
        losses = self._criterion([*found.aux_outputs, found], batch.targets)
        terms = {name: losses.terms[name].detach() for name in ("class", "person", "box", "giou")}
        return {"loss": losses.total, **terms}

    def size(self, batch: _Batch) -> float:
        """Losses are means over actors."""
        return max(1.0, float(batch.targets.valid.sum()))

    def evaluate(self) -> Mapping[str, float]:
        """Frame-mAP at IoU .5 on the held-out clips."""
        if self._held_out is None:
            return {}
        truth = FrameTruth.of(self._held_out.labels)
        scores = frame_map(truth, self.detections(self._held_out))
        return {"frame_map": float(np.nan_to_num(scores.mean[0]))}

    def parameter_groups(self) -> Mapping[str, NamedParameters]:
        """The backbone, which learns more slowly, and the rest."""
        named = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
        body = [(name, one) for name, one in named if name.startswith("body.")]
        return {"body": body, "model": [pair for pair in named if not pair[0].startswith("body.")]}

    @torch.inference_mode()
    def detections(self, clips: ClipDataset) -> Detections:
        """What the model finds on clips, in the labels' own pixels and frames."""
        parts: list[tuple[int, Clip, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        places = {one.video: place for place, one in enumerate(clips.labels.videos)}
        self.model.eval()
        device = next(self.model.parameters()).device
        for start in range(0, len(clips), self._recipe.batch):
            rows = range(start, min(start + self._recipe.batch, len(clips)))
            samples = [clips[row] for row in rows]
            found = self._run(self._joined(samples).to(device))
            actor = found.person_scores.float()
            scores = found.class_scores.float() * (actor[..., None] if self._recipe.criterion.gated else 1.0)
            for row, sample in enumerate(samples):
                values = [part[row].float().cpu().numpy() for part in (found.boxes_cxcywh, scores, actor)]
                if values[2].ndim == 1:
                    values = [value[None] for value in values]  # a key frame has no axis of time
                parts.append((places[sample.video], sample, values[0], values[1], values[2]))
        return _as_detections(clips.labels, parts)

    def _run(self, batch: _Batch) -> DetectorOutput:
        assert isinstance(self.model, Detector)
        if batch.seen:
            return self.model.from_features(batch.levels, batch.padding)
        return self.model(batch.levels[0], batch.padding)  # type: ignore[no-any-return]

    def _collate(self, clips: ClipDataset, rows: Sequence[int]) -> _Batch:
        if not self._keeps:
            return self._joined([clips[row] for row in rows])
        device = next(self.model.parameters()).device
        levels = []
        for row in rows:
            key = clips.key(row)
            if key not in self._kept:
                maps = self._maps(clips[row], device)
                if self._kept_bytes < CACHE_BYTES:
                    self._kept[key] = maps
                    self._kept_bytes += sum(one.numel() * one.element_size() for one in maps)
            else:
                maps = self._kept[key]
            levels.append(maps)
        shapes = {tuple(one.shape for one in maps) for maps in levels}
        if len(shapes) > 1:  # videos of different sizes are padded as pixels, before the body
            return self._joined([clips[row] for row in rows])
        joined = tuple(torch.cat(level) for level in zip(*levels, strict=True))
        return _Batch(joined, None, Targets.collate([clips.targets(row) for row in rows]), seen=True)

    @torch.no_grad()
    def _maps(self, sample: Clip, device: torch.device) -> tuple[Tensor, ...]:
        clip = cast("Any", self.model.body).preprocess(sample.frames)[None]
        return tuple(level.half().cpu() for level in cast("Detector", self.model).features(clip.to(device)))

    def _joined(self, samples: Sequence[Clip]) -> _Batch:
        batch = collate(samples, preprocess=cast("Callable[[Tensor], Tensor]", cast("Any", self.model.body).preprocess))
        return _Batch((batch.clips,), batch.padding, batch.targets, seen=False)


def _as_detections(
    labels: Labels,
    parts: Sequence[tuple[int, Clip, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]],
) -> Detections:
    video, index, boxes, scores, person = [], [], [], [], []
    for place, sample, centred, classes, actor in parts:
        width, height = sample.size
        for moment in np.flatnonzero(~sample.padded):
            corners = np.concatenate(
                (
                    centred[moment, :, :2] - centred[moment, :, 2:] / 2,
                    centred[moment, :, :2] + centred[moment, :, 2:] / 2,
                ),
                axis=1,
            )
            count = len(corners)
            video.append(np.full(count, place))
            index.append(np.full(count, sample.indices[moment]))
            boxes.append(corners.astype(np.float64) * [width, height, width, height])
            scores.append(classes[moment].astype(np.float64))
            person.append(actor[moment].astype(np.float64))
    return Detections(
        classes=labels.classes,
        videos=tuple(one.video for one in labels.videos),
        video=np.concatenate(video).astype(np.int64),
        index=np.concatenate(index).astype(np.int64),
        boxes_xyxy=np.concatenate(boxes),
        scores=np.concatenate(scores),
        person=np.concatenate(person),
    )


@dataclass(frozen=True, slots=True)
class StartReport:
    """What a start took over.

    Args:
        taken: names of parameters.
        left: names that the other run has and that did not fit, or do not belong to encoder and decoder.
    """

    taken: tuple[str, ...]
    left: tuple[str, ...]


def start_from(model: Detector, weights: str | Path) -> StartReport:
    """Take encoder and decoder from another run, as the second stage of training does.

    Args:
        model: gets the weights.
        weights: a `.safetensors` file, or a folder that holds `model.safetensors` or `best.safetensors`.

    Raises:
        WeightsCorrupt: the file cannot be read.
        InvalidInput: nothing in it fits.
    """
    path = Path(weights)
    if path.is_dir():
        path = next((path / name for name in ("model.safetensors", "best.safetensors") if (path / name).exists()), path)
    try:
        state = load_file(path)
    except Exception as error:
        raise WeightsCorrupt(f"{path} cannot be read: {error}", remedy="Give another run's folder.") from error
    own = model.state_dict()
    taken, left = [], []
    for name, value in state.items():
        target = own.get(name)
        # Anchors of a tube model are one set per frame; a keyframe model takes those of the middle one.
        if target is not None and name == "decoder.anchors" and value.ndim > target.ndim:
            value = value[:, value.shape[1] // 2]
        if target is not None and name.startswith(_STAGE) and value.shape == target.shape:
            own[name] = value.to(target.dtype)
            taken.append(name)
        else:
            left.append(name)
    if not taken:
        raise InvalidInput(f"nothing in {path} fits this model", remedy="Give a run of the same width and layers.")
    model.load_state_dict(own)
    return StartReport(tuple(taken), tuple(left))


def add_low_rank(model: Detector, rank: int) -> None:
    """Freeze the backbone and add low-rank updates (LoRA, arXiv 2106.09685) to its linear layers, for few labels.

    Args:
        model: changed in place; its forward pass is the same until it is trained.
        rank: of the updates.

    Raises:
        MissingExtra: peft is not installed.
        InvalidInput: the backbone has no linear layer that trains.
    """
    from trifocal.errors import MissingExtra

    try:
        import peft
    except ImportError as error:
        raise MissingExtra("LoRA needs peft", remedy="pip install 'trifocal[train]'") from error
    names = [name for name, part in model.body.named_modules() if isinstance(part, torch.nn.Linear)]
    if not names or rank < 1:
        raise InvalidInput(
            f"rank is {rank} and the backbone has {len(names)} linear layers",
            remedy="Give a rank of at least 1, and a ViT backbone.",
        )
    for one in model.body.parameters():
        one.requires_grad_(False)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, bias="none")
    peft.inject_adapter_in_model(config, model.body)


def merge_low_rank(model: Detector) -> None:
    """Make low-rank updates part of the weights they belong to, so that the model saves and loads as any other."""
    from peft.tuners.lora import Linear

    for path, part in list(model.body.named_modules()):
        if isinstance(part, Linear):
            part.merge()
            owner = model.body.get_submodule(path.rpartition(".")[0])
            setattr(owner, path.rpartition(".")[2], part.get_base_layer())


def train_detect(
    labels: Labels,
    *,
    videos: str | Path,
    folder: str | Path,
    recipe: DetectRecipe,
    held_out: Labels | None = None,
    start: str | Path | None = None,
    freeze_body: bool = False,
    low_rank: int | None = None,
    resume: bool = False,
    isolated: bool = True,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> tuple[ActionModel, FitResult]:
    """Train a detector on labelled videos and save it in `folder/model`.

    Args:
        labels: to train on; their classes become the model's.
        videos: the folder of the files.
        folder: of the run: checkpoints, logs, the model.
        recipe: how.
        held_out: labels to evaluate on; the best epoch is chosen by them. None takes the last epoch by training loss.
        start: another run, whose encoder and decoder are the beginning (the second stage).
        freeze_body: leave the backbone as it is.
        low_rank: rank of LoRA on a frozen backbone; None for none.
        resume: go on from the folder's last checkpoint.
        isolated: decode in processes of their own.
        progress: as for `trifocal.training.fit`.
        on_epoch: likewise.

    Raises:
        InvalidInput: labels and recipe do not fit together.
        VideoError: a video is missing or cannot be decoded.
    """
    folder = Path(folder)
    config = replace(recipe.detector, classes=len(labels.classes))
    torch.manual_seed(recipe.train.seed)
    detector = Detector(config)
    if start is not None:
        start_from(detector, start)
    if low_rank is not None:
        add_low_rank(detector, low_rank)
    elif freeze_body:
        for one in detector.body.parameters():
            one.requires_grad_(False)
    clip = ClipConfig(
        mode=config.mode,
        frames=config.frames,
        step=config.frame_stride,
        short_side=config.short_side,
        frame_rate=recipe.fps if config.mode == "keyframe" else None,
        augmentation=recipe.augmentation,
    )
    recipe = recipe if held_out is not None else replace(recipe, train=_without_evaluation(recipe))
    with VideoFolder(Path(videos), isolated=isolated) as frames:
        train = ClipDataset(labels, clip, frames=frames, seed=recipe.train.seed)
        still = replace(clip, augmentation=None)
        other = None if held_out is None else ClipDataset(held_out, still, frames=frames)
        task = DetectTask(detector, train=train, held_out=other, recipe=recipe)
        result = fit(task, recipe.train, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch)
    if low_rank is not None:
        merge_low_rank(detector)
    rate = recipe.fps or max(one.rate for one in labels.videos)
    classes = labels.classes
    model = ActionModel(detector.eval().cpu(), classes.names, fps=rate, name=folder.name, ids=classes.ids)
    if rank_and_world()[0] == 0:
        model.save(folder / "model")
    return model, result


def _without_evaluation(recipe: DetectRecipe) -> Any:
    return replace(recipe.train, monitor="loss", mode="min", patience=None)
