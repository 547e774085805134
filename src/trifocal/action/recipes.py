"""How the published models were trained, data set by data set, as plain data.

The numbers are those of the development code's last committed state (specification, §6); the published runs may differ
in detail. Two stages: first from a pretrained backbone alone, then again with encoder and decoder from the first stage.
`small` is the recipe for few videos on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trifocal.action.config import DetectorConfig, preset
from trifocal.action.data.transforms import Augmentation
from trifocal.action.losses import CriterionConfig
from trifocal.errors import InvalidInput
from trifocal.training import TrainConfig

__all__ = ["RECIPES", "DetectRecipe", "recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectRecipe:
    """Everything a run of training needs but the data.

    Args:
        detector: the model; its number of classes is taken from the labels.
        criterion: matching and losses.
        train: the loop.
        augmentation: how clips vary; None for not at all.
        batch: clips a batch and process.
        frozen_stages: of an ir-CSN, the stem and so many stages that do not train (2 published).
        sync_batch_norm: under several processes with GPUs, batch norms take their statistics from all of them.
        recompute: compute the encoder's inner values again for the gradients, for a fraction of the memory.
        fps: frames a second that the clip's stride counts in; None takes each video's own.
    """

    detector: DetectorConfig
    criterion: CriterionConfig
    train: TrainConfig
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    batch: int = 2
    fps: float | None = None
    frozen_stages: int = 0
    sync_batch_norm: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        """Check the batch."""
        if self.batch < 1:
            raise InvalidInput(f"batch is {self.batch}", remedy="Give a whole number of at least 1.")


def _train(
    epochs: int, milestones: tuple[int, ...], *, lr: float, warm_epochs: int, weight_decay: float
) -> TrainConfig:
    return TrainConfig(
        epochs=epochs,
        lr=lr,
        group_lr={"body": lr / 10},
        schedule="steps",
        milestones=milestones,
        warmup=warm_epochs / epochs,
        weight_decay=weight_decay,
        clip_norm=0.1,
        seed=1,
        monitor="frame_map",
        mode="max",
    )


_AVA = {
    "train": _train(12, (8, 11), lr=1e-4, warm_epochs=3, weight_decay=1e-4),
    "criterion": CriterionConfig.preset("ava"),
    "fps": 30.0,
    "sync_batch_norm": True,
    "recompute": True,
}
_CSN = {"frozen_stages": 2}
_UCF = {"augmentation": Augmentation(resize=256 / 224, saturation=0.5, value=0.5), "batch": 1, "recompute": True}
_JHMDB = {"augmentation": Augmentation(saturation=0.5, value=0.5), "batch": 1, "recompute": True}
_UCF_LOSS = CriterionConfig.preset("ucf")
_JHMDB_LOSS = CriterionConfig.preset("jhmdb")

RECIPES: Mapping[str, DetectRecipe] = MappingProxyType(
    {
        # All AVA models take their second stage's start from the CSN-50 run, the ViT ones too.
        "ava22-csn50": DetectRecipe(
            detector=preset("ava22-csn50"),
            **{**_AVA, **_CSN, "criterion": CriterionConfig.preset("ava", class_weight=12.0)},  # type: ignore[arg-type]
        ),
        "ava22-csn152": DetectRecipe(detector=preset("ava22-csn152"), **_AVA, **_CSN),  # type: ignore[arg-type]
        # The two differ in the backbone's weights: VideoMAE, and VideoMAE v2 distilled.
        "ava22-vit-b": DetectRecipe(detector=preset("ava22-vit-b"), **_AVA),  # type: ignore[arg-type]
        "ava22-vit-b-v2": DetectRecipe(detector=preset("ava22-vit-b-v2"), **_AVA),  # type: ignore[arg-type]
        "ucf101-24-vit-b-stage1": DetectRecipe(
            detector=preset("ucf101-24-vit-b"),
            criterion=_UCF_LOSS,
            train=_train(35, (30,), lr=2e-4, warm_epochs=4, weight_decay=2e-4),
            **_UCF,  # type: ignore[arg-type]
        ),
        "ucf101-24-vit-b": DetectRecipe(
            detector=preset("ucf101-24-vit-b"),
            criterion=_UCF_LOSS,
            train=_train(18, (16,), lr=2e-4, warm_epochs=4, weight_decay=2e-4),
            **_UCF,  # type: ignore[arg-type]
        ),
        "jhmdb-vit-b-stage1": DetectRecipe(
            detector=preset("jhmdb-vit-b"),
            criterion=_JHMDB_LOSS,
            train=_train(300, (280,), lr=2e-4, warm_epochs=10, weight_decay=2e-4),
            **_JHMDB,  # type: ignore[arg-type]
        ),
        "jhmdb-vit-b": DetectRecipe(
            detector=preset("jhmdb-vit-b"),
            criterion=_JHMDB_LOSS,
            train=_train(100, (50, 90), lr=2e-4, warm_epochs=10, weight_decay=2e-4),
            **_JHMDB,  # type: ignore[arg-type]
        ),
        "small": DetectRecipe(
            detector=preset("small"),
            criterion=CriterionConfig.preset("ava", smoothing=0.0),
            train=TrainConfig(
                epochs=40,
                lr=8e-4,
                schedule="cosine",
                warmup=0.03,
                weight_decay=1e-4,
                clip_norm=1.0,
                ema=0.998,
                monitor="frame_map",
                mode="max",
                patience=10,
            ),
            augmentation=None,
            batch=8,
            fps=25.0,
        ),
    }
)
"""Recipes by name; JHMDB's is the same for its three splits."""


def recipe(name: str) -> DetectRecipe:
    """The recipe of that name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in RECIPES:
        raise InvalidInput(f"no recipe is called {name!r}", remedy=f"Give one of {', '.join(RECIPES)}.")
    return RECIPES[name]
