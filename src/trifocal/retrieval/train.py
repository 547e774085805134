"""Training a retriever: what joins a data set, the model and the training loop.

`FindConfig` is everything about a run, `RetrievalTask` what the loop asks for, `train_find` the run itself. Early
stopping looks at a held-out share of the training videos; the field looks at its test set, which `stop_on="test"` does,
and the run's files then say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import torch

from trifocal._version import __version__
from trifocal.errors import InvalidInput
from trifocal.retrieval.collapse import collapse_figures
from trifocal.retrieval.data.batches import SplitBatches
from trifocal.retrieval.data.presets import FIELD_PRESETS
from trifocal.retrieval.evaluation.metrics import rank_scores, ranks_of
from trifocal.retrieval.model import PRESET_RECIPES, PRESETS, PrototypeRetriever, RetrievalBatch, preset
from trifocal.training import EpochBatches, FitResult, Progress, Task, TrainConfig, fit, rank_and_world

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from trifocal.retrieval.data.captions import Caption, CaptionSet
    from trifocal.retrieval.data.collection import RetrievalData
    from trifocal.retrieval.model import EncodedVideos

__all__ = ["FindConfig", "RetrievalTask", "StopOn", "find_config", "train_find"]

StopOn = Literal["held-out", "test", "nothing"]
HELD_OUT = "held-out"
VALIDATION = "val"
_SECTIONS = ("model", "changes", "batch_videos", "captions_per_video", "hold_out", "stop_on", "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindConfig:
    """A run of training, apart from its data.

    Args:
        model: name of a preset of `retrieval.model`.
        changes: fields of the model's configuration that differ from the preset.
        batch_videos: videos a batch over all processes.
        captions_per_video: at most so many captions of a video in a batch, drawn anew each time; None takes all.
        hold_out: share of the training videos that early stopping looks at, with `stop_on="held-out"`.
        stop_on: what early stopping and the choice of the best epoch look at: the split "val" where the data has one,
            else a held-out share of train; the test split (the field's practice: figures on it are then flattered); or
            nothing, which keeps the last epoch.
        train: the loop's configuration; `monitor` and `mode` are set here, the rest is taken as it is.

    Raises:
        InvalidInput: a value that cannot be used.
    """

    model: str = "default"
    changes: Mapping[str, Any] = field(default_factory=dict)
    batch_videos: int = 128
    captions_per_video: int | None = None
    hold_out: float = 0.1
    stop_on: StopOn = "held-out"
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        """Check the values and set what the loop monitors."""
        if self.model not in PRESETS:
            raise InvalidInput(f"there is no model {self.model!r}", remedy=f"Use one of {', '.join(PRESETS)}.")
        if self.stop_on not in get_args(StopOn):
            raise InvalidInput(f"stop_on is {self.stop_on!r}", remedy=f"Use one of {', '.join(get_args(StopOn))}.")
        if type(self.batch_videos) is not int or self.batch_videos < 2:
            raise InvalidInput(f"batch_videos is {self.batch_videos!r}", remedy="Give a whole number of at least 2.")
        if self.captions_per_video is not None and self.captions_per_video < 1:
            raise InvalidInput(f"captions_per_video is {self.captions_per_video}", remedy="Give at least 1, or none.")
        if not 0 < self.hold_out < 1:
            raise InvalidInput(f"hold_out is {self.hold_out}", remedy="Give a share between 0 and 1, such as 0.1.")
        monitor = "epoch" if self.stop_on == "nothing" else "sum_r"
        object.__setattr__(self, "train", replace(self.train, monitor=monitor, mode="max"))
        object.__setattr__(self, "changes", dict(self.changes))

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON, with the version that made it."""
        return {**asdict(self), "train": self.train.to_dict(), "version": __version__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from what `to_dict` gave, or from what a person wrote.

        Raises:
            InvalidInput: an unknown key, or a value that cannot be used.
        """
        known = {entry.name for entry in fields(cls)} | {"version"}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidInput(
                f"the configuration has {', '.join(unknown)}", remedy=f"Known are {', '.join(_SECTIONS)}."
            )
        given = {name: value for name, value in values.items() if name != "version"}
        for name in ("train", "changes"):
            if not isinstance(given.get(name, {}), Mapping):
                raise InvalidInput(f"{name} is {given[name]!r:.60}", remedy="Give an object of settings.")
        return cls(**{**given, "train": TrainConfig.from_dict(given.get("train", {}))})


def find_config(
    model: str = "default", *, data: str | None = None, changes: Mapping[str, Any] | None = None, **train: Any
) -> FindConfig:
    """The configuration that goes with a model and, where one is named, a data set of the field.

    The model's own recipe sets rate, schedule and warm-up. A data set's sets batch, epochs and patience; for the form
    of the paper also rate, warm-up, dropout, margin, words and the weight of InfoNCE, which the field found for such
    models.

    Args:
        model: name of a preset of `retrieval.model`.
        data: name of a preset of `retrieval.data`.
        changes: further fields of the model's configuration.
        train: further fields of the loop's configuration.

    Raises:
        InvalidInput: no such name, or a value that cannot be used.
    """
    if model not in PRESET_RECIPES:
        raise InvalidInput(f"there is no model {model!r}", remedy=f"Use one of {', '.join(PRESET_RECIPES)}.")
    if data is not None and data not in FIELD_PRESETS:
        raise InvalidInput(f"there is no data set {data!r}", remedy=f"Use one of {', '.join(FIELD_PRESETS)}.")
    own = asdict(PRESET_RECIPES[model])
    batch = own.pop("batch_videos")
    settings: dict[str, Any] = {**own, "patience": 10}
    fitted: dict[str, Any] = {}
    if data is not None:
        recipe = FIELD_PRESETS[data].recipe
        batch = recipe["batch_videos"]
        of_the_field = dict(recipe["train"])
        fitted = {"max_words": recipe["model"]["max_words"]}
        if model.startswith("paper"):
            fitted = {**recipe["model"], **recipe["parity"]}
        else:
            of_the_field = {name: value for name, value in of_the_field.items() if name not in ("lr", "warmup")}
        settings |= of_the_field
    return FindConfig(
        model=model,
        changes={**fitted, **(changes or {})},
        batch_videos=batch,
        train=TrainConfig(**{**settings, **train}),
    )


class RetrievalTask(Task):
    """What the loop asks of retrieval.

    Args:
        data: with a split "train", and the one that is watched.
        config: of the run.
        watched: the split that is evaluated after an epoch; None for none, and then the figures of collapse are those
            of some training videos, without a look at their moments.
    """

    def __init__(self, data: RetrievalData, config: FindConfig, *, watched: str | None) -> None:
        torch.manual_seed(config.train.seed)
        chosen = preset(config.model, video_dim=data.features.dim, text_dim=data.words.dim, **dict(config.changes))
        self.config = config
        apart = {name: value for name, value in config.to_dict().items() if name not in ("train", "version")}
        self.version = f"retrieval/1 {json.dumps({**apart, 'data': data.name, 'watched': watched}, sort_keys=True)}"
        self.model: PrototypeRetriever = PrototypeRetriever(chosen)
        frames = chosen.max_frames if chosen.frame_branch or chosen.frame_tokens else None

        def batches(captions: CaptionSet, captions_per_video: int | None = None) -> SplitBatches:
            return SplitBatches(
                data,
                captions,
                clips=chosen.clips,
                max_words=chosen.max_words,
                max_frames=frames,
                captions_per_video=captions_per_video,
            )

        train = data.split("train")
        self.split = batches(train, config.captions_per_video)
        self.watched = None if watched is None else batches(data.split(watched))
        some = np.unique(np.linspace(0, len(self.split) - 1, min(_SOME, len(self.split))).round().astype(np.int64))
        self._some = batches(train.only([self.split.videos[place] for place in some])) if watched is None else None
        self._durations_s = {} if watched is None else data.split(watched).durations_s
        self._epoch = 0

    def begin_epoch(self, epoch: int) -> None:
        """Hard negatives begin at an epoch."""
        self._epoch = epoch

    def batches(self, epoch: int) -> EpochBatches:
        """Videos in an order of the epoch, some at a time, all captions with them."""
        rank, world = rank_and_world()
        return EpochBatches(
            len(self.split),
            batch=min(self.config.batch_videos, len(self.split)),
            collate=self.split.make,
            epoch=epoch,
            seed=self.config.train.seed,
            rank=rank,
            world=world,
        )

    def loss(self, batch: RetrievalBatch) -> Mapping[str, Tensor]:
        """The model's losses, the total under the loop's name; negatives are those of the batch of all processes."""
        terms = self.model.loss(batch, epoch=self._epoch, together=rank_and_world()[1] > 1)
        return {"loss": terms["total"], **{name: one for name, one in terms.items() if name != "total"}}

    def size(self, batch: RetrievalBatch) -> float:
        """Captions, which the losses are means over."""
        return float(len(batch.owner))

    def spare(self, batch: RetrievalBatch) -> RetrievalBatch:
        """Marked, so that its videos are nobody's negatives."""
        return replace(batch, spare=True)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """The shared prototypes are values, not a map: they do not decay."""
        return parameter.ndim > 1 and name != "generator.prototypes"

    def evaluate(self) -> Mapping[str, float]:
        """Recall and SumR on the watched split, and how its prototypes are used (`retrieval.collapse`)."""
        looked_at = self._some if self.watched is None else self.watched
        assert looked_at is not None
        made = [
            self.model.encode_clips(
                batch.clips.numpy(),
                frames=None if batch.frames is None else batch.frames.numpy(),
                frame_mask=None if batch.frame_mask is None else batch.frame_mask.numpy(),
            )
            for batch in looked_at.each(_EVALUATED)
        ]
        vectors = np.concatenate([one.vectors for one in made]).astype(np.float32)  # (Nv, K, D)
        captions = [one for video in looked_at.videos for one in looked_at.captions[video]]
        queries = self.model.encode_query([looked_at.words(one.id) for one in captions])  # (N, D)
        owner = np.repeat(np.arange(len(vectors)), [len(looked_at.captions[one]) for one in looked_at.videos])
        # Collapse is a matter of shares and means: a part of many queries tells it, and their prototypes fit in memory.
        most = max(100, _COLLAPSE_NUMBERS // (vectors.shape[1] * vectors.shape[2]))
        chosen = np.unique(np.linspace(0, len(captions) - 1, min(most, len(captions))).round().astype(np.int64))
        figures = collapse_figures(
            queries[chosen],
            vectors,
            owner[chosen],
            attention=np.concatenate([one.attention for one in made]),
            peaks=np.concatenate([one.peaks for one in made]),
            moments=None if self.watched is None else self._moments([captions[index] for index in chosen]),
        )
        collapse = {name: float(value) for name, value in figures.to_dict().items() if value is not None}
        if self.watched is None:
            return collapse
        found = rank_scores(ranks_of(self._scores(queries, vectors, made), owner)[0])
        return {"sum_r": found.sum_r, **{f"r{k}": value for k, value in found.recall.items()}, **collapse}

    def _scores(
        self, queries: NDArray[np.float32], vectors: NDArray[np.float32], made: Sequence[EncodedVideos]
    ) -> NDArray[np.float32]:
        """Scores (N, Nv) as the model scores in use, some queries at a time."""
        flat = vectors.reshape(-1, vectors.shape[2])
        scores = np.concatenate(
            [
                (queries[start : start + _QUERIES] @ flat.T).reshape(-1, *vectors.shape[:2]).max(axis=2)
                for start in range(0, len(queries), _QUERIES)
            ]
        )
        frames = [one.frames for one in made if one.frames is not None]
        if not frames:
            return scores
        weight = self.model.config.frame_weight
        whole = np.concatenate(frames).astype(np.float32)  # (Nv, D)
        return np.asarray((1 - weight) * scores + weight * (queries @ whole.T), dtype=np.float32)

    def _moments(self, captions: Sequence[Caption]) -> list[NDArray[np.float64]]:
        """The captions' moments as shares of their videos, (m, 2) each; (0, 2) where none is known."""
        return [
            np.array(one.moments_s if one.video in self._durations_s else ()).reshape(-1, 2)
            / self._durations_s.get(one.video, 1.0)
            for one in captions
        ]


_EVALUATED = 64
_SOME = 200  # training videos that show collapse where nothing is watched
_QUERIES = 256
_COLLAPSE_NUMBERS = 1 << 26


def train_find(
    data: RetrievalData,
    config: FindConfig,
    *,
    folder: Path | str,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> tuple[FitResult, PrototypeRetriever]:
    """Train a retriever and save it.

    Args:
        data: with a split "train", and "test" where early stopping is to look at it.
        config: of the run.
        folder: gets the loop's files, `find.json` with the configuration, and `model/` with the best weights.
        resume: go on from the folder's last checkpoint.
        progress: called after every step.
        on_epoch: called with the figures after every epoch.

    Returns:
        What the run came to, and the trained model in eval mode.

    Raises:
        InvalidInput: a split is missing or too small, ids without rows, or what `training.fit` refuses.
        ModelError: training diverged.
    """
    target = Path(folder)
    watched: str | None = None
    if config.stop_on == HELD_OUT and VALIDATION in data.splits:
        watched = VALIDATION
    elif config.stop_on == HELD_OUT:
        data = data.holding_out(config.hold_out, seed=config.train.seed, name=HELD_OUT)
        watched = HELD_OUT
    elif config.stop_on == "test":
        data.split("test")
        watched = "test"
    task = RetrievalTask(data, config, watched=watched)
    result = fit(task, config.train, folder=target, resume=resume, progress=progress, on_epoch=on_epoch)
    model = task.model
    if rank_and_world()[0] == 0:
        document = {
            "config": config.to_dict(),
            "data": data.name,
            "train_videos": len(task.split),
            "watched": watched,
            "watched_videos": None if task.watched is None else len(task.watched),
            "best_epoch": result.best_epoch,
            "best": result.best,
            "epochs": result.epochs,
            "stopped_early": result.stopped_early,
        }
        (target / "find.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        model.save_pretrained(target / "model")
    return result, model
