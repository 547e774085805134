"""Training a detector on labelled videos: the task that joins clips, model and criterion for `trifocal.training`.

A frozen backbone that sees frame by frame is run once per clip and its maps are kept in memory, so that epochs after
the first cost the trained part alone. What a run begins with is in `pretrained`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from trifocal.action.clip_input import ClipInput, ClipReader, detect_clips
from trifocal.action.data.clips import ClipConfig, ClipDataset, VideoFolder
from trifocal.action.detector import Detector
from trifocal.action.evaluation.frame_map import frame_map
from trifocal.action.evaluation.tables import Detections, FrameTruth
from trifocal.action.losses import ActionCriterion
from trifocal.action.model import ActionModel
from trifocal.action.pretrained import begin_with, freeze_body, load_backbone, start_from
from trifocal.errors import InvalidInput
from trifocal.training import (
    EpochBatches,
    FitResult,
    NamedParameters,
    Progress,
    Task,
    fit,
    pick_device,
    rank_and_world,
)

if TYPE_CHECKING:
    from trifocal.action.labels import Labels
    from trifocal.action.recipes import DetectRecipe
    from trifocal.training import TrainConfig

__all__ = ["DetectTask", "add_low_rank", "merge_low_rank", "train_detect"]


class DetectTask(Task):
    """Clips in, losses of every decoder layer out.

    Args:
        model: the detector; what of it shall not train has `requires_grad` off.
        train: clips to train on.
        held_out: clips to evaluate on, and their labels; None for no evaluation.
        recipe: matching, losses, batch.
    """

    model: Detector

    def __init__(
        self, model: Detector, *, train: ClipDataset, held_out: ClipDataset | None, recipe: DetectRecipe
    ) -> None:
        """Take the data."""
        if not len(train):
            raise InvalidInput("there is no clip to train on", remedy="Check the labels with `trifocal labels check`.")
        self.model = model
        self._train, self._held_out, self._recipe = train, held_out, recipe
        self._criterion = ActionCriterion(recipe.criterion)
        self._reader = ClipReader(model)

    def batches(self, epoch: int) -> EpochBatches:
        """Clips in an order of the epoch's own."""
        self._train.epoch = epoch
        rank, world = rank_and_world()
        return EpochBatches(
            len(self._train),
            batch=self._recipe.batch * world,
            collate=lambda rows: self._reader.read(self._train, rows),
            epoch=epoch,
            seed=self._recipe.train.seed,
            rank=rank,
            world=world,
        )

    def loss(self, batch: ClipInput) -> Mapping[str, Tensor]:
        """Match and compare."""
        found = self._reader.look(batch)
        losses = self._criterion([*found.aux_outputs, found], batch.targets)
        terms = {name: losses.terms[name].detach() for name in ("class", "person", "box", "giou")}
        return {"loss": losses.total, **terms}

    def size(self, batch: ClipInput) -> float:
        """Losses are means over actors."""
        return ActionCriterion.weight(batch.targets, queries=self.model.config.actors)

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

    def detections(self, clips: ClipDataset) -> Detections:
        """What the model finds on clips, in the labels' own pixels and frames."""
        return detect_clips(self._reader, clips, gated=self._recipe.criterion.gated, batch=self._recipe.batch)


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
    backbone: str | Path | None = None,
    init: ActionModel | None = None,
    start: str | Path | None = None,
    freeze: bool = False,
    low_rank: int | None = None,
    start_s: float = 0.0,
    resume: bool = False,
    isolated: bool = True,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> tuple[ActionModel, FitResult]:
    """Train a detector on labelled videos and save it in `folder/model`.

    Args:
        labels: to train on; their classes become the model's. A rate that nobody told is taken from the video.
        videos: the folder of the files.
        folder: of the run: checkpoints, logs, the model.
        recipe: how.
        held_out: labels to evaluate on; the best epoch is chosen by them. None takes the last epoch by training loss.
        backbone: pretrained weights of the body (`pretrained.load_backbone`).
        init: a whole model to begin with, whose configuration the recipe has (`pretrained.begin_with`).
        start: another run, whose encoder and decoder are the beginning (the second stage).
        freeze: leave the backbone as it is.
        low_rank: rank of LoRA on a frozen backbone; None for none.
        start_s: the videos' second that is the labels' second 0; -900 for AVA's clips that begin at second 900.
        resume: go on from the folder's last checkpoint.
        isolated: decode in processes of their own.
        progress: as for `trifocal.training.fit`.
        on_epoch: likewise.

    Raises:
        InvalidInput: labels and recipe do not fit together, or a backbone with random weights shall stay as it is.
        VideoError: a video is missing or cannot be decoded.
        WeightsError: weights to begin with cannot be read.
    """
    folder = Path(folder)
    config = replace(recipe.detector, classes=len(labels.classes))
    if (config.mode == "tube") != recipe.criterion.gated:
        raise InvalidInput(
            f"the model's mode is {config.mode} and the recipe's losses are of the other one",
            remedy="Name a recipe of the model's kind: jhmdb-vit-b for tubes, ava22-vit-b or small for key frames.",
        )
    torch.manual_seed(recipe.train.seed)
    detector = Detector(config)
    if init is not None:
        begin_with(detector, init, labels.classes.names)
    if backbone is not None:
        load_backbone(detector, backbone)
    elif init is None and (freeze or low_rank is not None) and any(True for _ in detector.body.parameters()):
        raise InvalidInput(
            "the backbone has random weights and shall not train", remedy="Give --backbone or --init, or let it train."
        )
    if start is not None:
        start_from(detector, start)
    if low_rank is not None:
        add_low_rank(detector, low_rank)
    elif freeze or recipe.frozen_stages:
        freeze_body(detector, stages=None if freeze else recipe.frozen_stages)
    detector.encoder.recompute = recipe.recompute
    synced = recipe.sync_batch_norm and rank_and_world()[1] > 1 and pick_device(recipe.train.device).type == "cuda"
    if synced:
        nn.SyncBatchNorm.convert_sync_batchnorm(detector)  # type: ignore[no-untyped-call] # in place
    clip = ClipConfig(
        mode=config.mode,
        frames=config.frames,
        step=config.frame_stride,
        short_side=config.short_side,
        frame_rate=recipe.fps if config.mode == "keyframe" else None,
        start_s=start_s,
        augmentation=recipe.augmentation,
    )
    recipe = recipe if held_out is not None else replace(recipe, train=_without_evaluation(recipe))
    with VideoFolder(Path(videos), isolated=isolated) as frames:
        labels = frames.timed(labels)
        train = ClipDataset(labels, clip, frames=frames, seed=recipe.train.seed)
        still = replace(clip, augmentation=None)
        other = None if held_out is None else ClipDataset(frames.timed(held_out), still, frames=frames)
        task = DetectTask(detector, train=train, held_out=other, recipe=recipe)
        result = fit(task, recipe.train, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch)
    if low_rank is not None:
        merge_low_rank(detector)
    if synced:  # what is given back runs anywhere
        plain = Detector(config)
        plain.load_state_dict(detector.state_dict())
        detector = plain
    rate = recipe.fps or max(one.rate for one in labels.videos)
    classes = labels.classes
    model = ActionModel(detector.eval().cpu(), classes.names, fps=rate, name=folder.name, ids=classes.ids)
    if rank_and_world()[0] == 0:
        model.save(folder / "model")
    return model, result


def _without_evaluation(recipe: DetectRecipe) -> TrainConfig:
    return replace(recipe.train, monitor="loss", mode="min", patience=None)
