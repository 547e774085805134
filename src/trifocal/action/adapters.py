"""Results in the words of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.detect import DetectReport
from trifocal.action.tube import Tube
from trifocal.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.action.tubes import FrameDetections

__all__ = ["to_supervision"]


def to_supervision(
    found: FrameDetections | Tube | DetectReport,
    *,
    classes: Sequence[str],
    least_actor_score: float = 0.5,
    at_s: float | None = None,
) -> Any:
    """Results as `supervision.Detections`: a box per actor and moment, with its likeliest action.

    Args:
        found: one moment; or a tube or a report, whose actors become `tracker_id`.
        classes: names of the actions; their places become `class_id`.
        least_actor_score: of a moment, less sure actors are left out.
        at_s: of a tube or a report, only the actors that are there at this second, boxes and scores between two moments
            interpolated; None gives every moment.

    Returns:
        `supervision.Detections` with `class_id` and `confidence` of the likeliest action, and in `data` "class_name";
        of a moment also "actor_score" and "class_scores" `(N, A)`, of tubes "time_s". A tube without actions has the
        class -1, no name and confidence 0.

    Raises:
        MissingExtra: the package `supervision` is not installed.
        InvalidInput: `at_s` with one moment, or an action that `classes` does not name.
    """
    try:
        import supervision
    except ImportError as error:
        raise MissingExtra(
            "Results for supervision need the package supervision", remedy="Install it: pip install supervision"
        ) from error
    if isinstance(found, Tube | DetectReport):
        tubes = found.tubes if isinstance(found, DetectReport) else (found,)
        return supervision.Detections(**_of_tubes(tubes, list(classes), at_s))
    if at_s is not None:
        raise InvalidInput(f"at_s is {at_s} beside one moment", remedy="Leave it out, or give a tube or a report.")
    kept = found.pick(np.flatnonzero(found.actor_scores >= least_actor_score))
    best = kept.class_scores.argmax(1)
    return supervision.Detections(
        xyxy=kept.boxes_xyxy.astype(np.float32),
        confidence=kept.class_scores[np.arange(len(kept)), best],
        class_id=best.astype(int),
        data={
            "class_name": np.array([classes[label] for label in best], dtype=str),
            "actor_score": kept.actor_scores,
            "class_scores": kept.class_scores,
        },
    )


def _of_tubes(tubes: Sequence[Tube], classes: list[str], at_s: float | None) -> dict[str, Any]:
    """What `supervision.Detections` takes."""
    parts = [_rows(tube, classes, at_s) for tube in tubes]
    boxes, scores, labels, actors, times = (
        np.concatenate([empty, *(part[column] for part in parts)])
        for column, empty in enumerate((np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros(0, int), np.zeros(0)))
    )
    names = np.array([classes[label] if label >= 0 else "" for label in labels], dtype=str)
    return {
        "xyxy": boxes.astype(np.float32),
        "confidence": scores.astype(np.float32),
        "class_id": labels,
        "tracker_id": actors,
        "data": {"class_name": names, "time_s": times},
    }


def _rows(tube: Tube, classes: list[str], at_s: float | None) -> tuple[npt.NDArray[Any], ...]:
    """Boxes, scores, labels, actors and seconds of one tube."""
    if unknown := [name for name in tube.actions if name not in classes]:
        raise InvalidInput(f"the tube's action {unknown[0]!r} is none of the classes", remedy="Give the model's names.")
    times = tube.times_s
    if at_s is not None:
        times = np.array([at_s] if tube.start_s <= at_s <= tube.end_s else [])

    def at(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.interp(times, tube.times_s, values)

    boxes = np.stack([at(side) for side in tube.boxes_xyxy.T], axis=1)
    actors = np.full(len(times), tube.actor)
    if not tube.actions:
        return boxes, np.zeros(len(times)), np.full(len(times), -1), actors, times
    scores = np.stack([at(values) for values in tube.actions.values()], axis=1)  # (T, actions)
    labels = np.array([classes.index(name) for name in tube.actions])
    return boxes, scores.max(1), labels[scores.argmax(1)], actors, times
