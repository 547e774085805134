"""One evaluation from labels and detections: figures, a table per class, a diagnosis; as JSON and as pictures.

`evaluate` is what `trifocal eval detect` and training call. Frame-mAP always; video-mAP where the labels follow actors
through frames, from tubes where there are some, else from frames linked per class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from trifocal.action.evaluation.class_tubes import split_tubes, truth_tubes
from trifocal.action.evaluation.diagnosis import KINDS, Oracles, error_kinds, oracles
from trifocal.action.evaluation.frame_map import FrameScores, frame_map
from trifocal.action.evaluation.linking import link_classes
from trifocal.action.evaluation.multisports import frame_map_multisports
from trifocal.action.evaluation.reference_video_map import reference_video_map
from trifocal.action.evaluation.tables import Detections, FrameTruth
from trifocal.action.evaluation.video_map import STRICT, VIDEO_THRESHOLDS, VideoScores, video_map
from trifocal.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trifocal.action.evaluation.class_tubes import ClassTube
    from trifocal.action.labels import Labels
    from trifocal.action.tube import Tube

__all__ = ["Evaluation", "EvaluationPolicy", "evaluate", "save_plot"]

EvaluationPolicy = Literal["fixed", "multisports", "reference-ava", "reference-ucf", "reference-jhmdb"]

_SHOWN = (0.2, 0.5, 0.75)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Args:
        policy: by which rules.
        frame: frame-AP.
        video: video-AP; None where no actor is followed through frames.
        oracles: what the truth's boxes or classes would give; None unless asked for.
        errors: int64 (A, 5), kinds of errors (`diagnosis.KINDS`); None unless asked for.
    """

    policy: EvaluationPolicy
    frame: FrameScores
    video: VideoScores | None
    oracles: Oracles | None = None
    errors: NDArray[np.int64] | None = None

    def figures(self) -> dict[str, float]:
        """The summary by name: `frame_map@.5`, `video_map@.2`, …, `video_map@.5:.95`; NaN where nothing is labelled."""
        out = {
            _named("frame_map", at): float(value)
            for at, value in zip(self.frame.thresholds, self.frame.mean, strict=True)
        }
        if self.video is not None:
            for at in self.video.thresholds:
                if at in _SHOWN or len(self.video.thresholds) <= len(_SHOWN):
                    out[_named("video_map", at)] = self.video.at(at)
            if set(STRICT) <= set(self.video.thresholds):
                out["video_map@.5:.95"] = self.video.strict()
        if self.oracles is not None:
            out["frame_map_with_true_boxes"] = self.oracles.with_true_boxes
            out["frame_map_with_true_classes"] = self.oracles.with_true_classes
        return out

    def rows(self) -> list[dict[str, Any]]:
        """One row per class: its name, actors, detections, frame-AP, video-AP, kinds of errors."""
        out = []
        for number, name in enumerate(self.frame.names):
            row: dict[str, Any] = {
                "class": name,
                "actors": int(self.frame.actors[number]),
                "detections": int(self.frame.detections[number]),
            }
            row |= {
                _named("frame_ap", at): _plain(value)
                for at, value in zip(self.frame.thresholds, self.frame.ap[:, number], strict=True)
            }
            if self.video is not None:
                row["tubes"] = int(self.video.tubes[number])
                row |= {
                    _named("video_ap", at): _plain(value)
                    for at, value in zip(self.video.thresholds, self.video.ap[:, number], strict=True)
                    if at in _SHOWN
                }
            if self.errors is not None:
                row["errors"] = dict(zip(KINDS, self.errors[number].tolist(), strict=True))
            out.append(row)
        return out

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON; null for what cannot be computed."""
        return {
            "policy": self.policy,
            "figures": {name: _plain(value) for name, value in self.figures().items()},
            "classes": self.rows(),
            "oracles": None if self.oracles is None else {k: _plain(v) for k, v in asdict(self.oracles).items()},
        }


def _named(what: str, threshold: float) -> str:
    return f"{what}@{f'{threshold:.2f}'.rstrip('0').lstrip('0') or '0'}"


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def evaluate(
    labels: Labels,
    detections: Detections,
    *,
    tubes: Sequence[Tube] | None = None,
    policy: EvaluationPolicy = "fixed",
    frame_thresholds: Sequence[float] = (0.5,),
    video_thresholds: Sequence[float] = VIDEO_THRESHOLDS,
    video: bool | None = None,
    diagnose: bool = True,
) -> Evaluation:
    """Compare detections with labels.

    Args:
        labels: the truth.
        detections: single frames, boxes in the labels' own pixels.
        tubes: what was linked already; without it, labelled frames are linked per class (`linking`).
        policy: `fixed`, the rules to use; `multisports`; or a released evaluator with its quirks.
        frame_thresholds: IoU.
        video_thresholds: spatio-temporal IoU.
        video: whether to compute video-mAP; None does where an actor is labelled in several frames.
        diagnose: also what goes wrong.

    Raises:
        InvalidInput: classes that differ, thresholds out of range, an unknown policy.
    """
    if policy not in get_args(EvaluationPolicy):
        raise InvalidInput(f"policy is {policy!r}", remedy=f"Give one of {', '.join(get_args(EvaluationPolicy))}.")
    truth = FrameTruth.of(labels)
    if policy == "multisports":
        frame = frame_map_multisports(truth, detections.on(truth), thresholds=frame_thresholds)
    else:
        rules: Literal["fixed", "reference"] = "fixed" if policy == "fixed" else "reference"
        frame = frame_map(truth, detections, thresholds=frame_thresholds, policy=rules)
    if video is None:
        video = policy != "reference-ava" and _followed(truth)
    scores = _video(labels, truth, detections, tubes, policy, video_thresholds) if video else None
    if not diagnose:
        return Evaluation(policy, frame, scores)
    threshold = float(frame_thresholds[0])
    return Evaluation(
        policy,
        frame,
        scores,
        oracles(truth, detections, threshold=threshold),
        error_kinds(truth, detections, threshold=threshold),
    )


def _followed(truth: FrameTruth) -> bool:
    """Whether some actor is labelled in two frames in a row or more."""
    known = truth.tracks >= 0
    keys = np.stack([truth.video[known], truth.tracks[known]], axis=1)
    return bool(len(keys)) and int(np.unique(keys, axis=0, return_counts=True)[1].max()) > 1


def _video(
    labels: Labels,
    truth: FrameTruth,
    detections: Detections,
    tubes: Sequence[Tube] | None,
    policy: EvaluationPolicy,
    thresholds: Sequence[float],
) -> VideoScores:
    names = labels.classes.names
    own = truth_tubes(truth)
    if policy == "reference-ucf" or policy == "reference-jhmdb":
        found = detections.aligned(truth.videos)
        kind: Literal["ucf", "jhmdb"] = "ucf" if policy == "reference-ucf" else "jhmdb"
        return reference_video_map(
            _from_one(own), _shifted(found) if kind == "ucf" else found, kind=kind, thresholds=thresholds
        )
    linked = split_tubes(tubes, labels) if tubes is not None else link_classes(detections, labels)
    rules: Literal["fixed", "multisports"] = "multisports" if policy == "multisports" else "fixed"
    return video_map(own, linked, names=names, thresholds=thresholds, policy=rules)


def _from_one(tubes: Sequence[Sequence[ClassTube]]) -> list[list[ClassTube]]:
    """Frame numbers from 1, as the released evaluators count."""
    from trifocal.action.evaluation.class_tubes import ClassTube

    return [[ClassTube(one.video, one.numbers + 1, one.boxes_xyxy, one.scores) for one in own] for own in tubes]


def _shifted(found: Detections) -> Detections:
    from dataclasses import replace

    return replace(found, index=found.index + 1)


def save_plot(result: Evaluation, path: Path) -> None:
    """Draw average precision and kinds of errors of each class as a picture.

    Args:
        result: with a diagnosis, or the second half stays away.
        path: PNG, SVG or PDF.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidInput: the path cannot be written.
    """
    try:
        # Imported here: only drawing needs it, and it is heavy.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plots need matplotlib", remedy="Run `pip install 'trifocal[train]'`.") from error
    present = np.flatnonzero(result.frame.actors > 0)
    order = present[np.argsort(result.frame.ap[0, present], kind="stable")]
    names = [result.frame.names[number] for number in order]
    count = 1 if result.errors is None else 2
    figure = Figure(figsize=(5.5 * count, 1.2 + 0.26 * max(4, len(names))), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    height = np.arange(len(names))
    axes[0].barh(
        height, result.frame.ap[0, order], color="#33658a", label=f"frame-AP at {result.frame.thresholds[0]:g}"
    )
    if result.video is not None and 0.5 in result.video.thresholds:
        row = result.video.thresholds.index(0.5)
        axes[0].plot(result.video.ap[row, order], height, "D", color="#f26419", markersize=5, label="video-AP at 0.5")
    axes[0].set(yticks=height, yticklabels=names, xlim=(0, 1), xlabel="average precision")
    axes[0].legend(loc="lower right", fontsize=8)
    if result.errors is not None:
        left = np.zeros(len(names))
        total = result.errors[order].sum(axis=1).clip(1)
        colours = ("#2f9e44", "#94d82d", "#fab005", "#e8590c", "#868e96")
        for kind, (name, colour) in enumerate(zip(KINDS, colours, strict=True)):
            share = result.errors[order, kind] / total
            axes[1].barh(height, share, left=left, color=colour, label=name)
            left += share
        axes[1].set(yticks=height, yticklabels=[], xlim=(0, 1), xlabel="share of the best detections")
        axes[1].legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.12 - 0.6 / (4 + len(names))), ncols=5, fontsize=7, frameon=False
        )
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be written: {error}", remedy="Give a path that ends in .png.") from error
