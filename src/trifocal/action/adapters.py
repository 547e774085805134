"""Results in the words of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import MissingExtra

if TYPE_CHECKING:
    from trifocal.action.tubes import FrameDetections

__all__ = ["to_supervision"]


def to_supervision(moment: FrameDetections, *, classes: Sequence[str], least_actor_score: float = 0.5) -> Any:
    """One moment as `supervision.Detections`: a box per actor with its likeliest action.

    Args:
        moment: what was seen.
        classes: names of the actions.
        least_actor_score: less sure actors are left out.

    Returns:
        `supervision.Detections` with `class_id` and `confidence` of the likeliest action, and in `data` "class_name",
        "actor_score" and "class_scores" `(N, A)`.

    Raises:
        MissingExtra: the package `supervision` is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise MissingExtra(
            "Results for supervision need the package supervision", remedy="Install it: pip install supervision"
        ) from error
    kept = moment.pick(np.flatnonzero(moment.actor_scores >= least_actor_score))
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
