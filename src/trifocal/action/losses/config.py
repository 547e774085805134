"""What the criterion weighs and how: one frozen set of numbers per data set, the published ones as presets.

Published values: spec table of the released configurations (AVA 10/5/2/1, CSN-50 12; UCF101-24 and JHMDB 4/5/2/3).
`compat="reference"` reproduces the released criterion with its quirks, to compare with; train with the default.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from trifocal.errors import InvalidInput

__all__ = ["CriterionConfig", "Regime"]

Regime = Literal["ava", "ucf", "jhmdb"]
Compat = Literal["default", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionConfig:
    """Weights and rules of the matcher and the losses.

    Args:
        regime: `ava` is keyframe mode with several actions per actor; `ucf` and `jhmdb` are tube mode, where the class
            score is multiplied by the actor's probability before it is compared. (The two differ only in
            `compat="reference"`.)
        person_cost: weight of the actor's probability in the matching (12 AVA, 4 tubes).
        box_cost: weight of the L1 distance in the matching.
        giou_cost: weight of the generalised IoU in the matching.
        class_weight: of the class loss (10 AVA, 12 for its CSN-50, 4 tubes).
        person_weight: of the actor loss (1 AVA, 3 tubes).
        box_weight: of the L1 loss.
        giou_weight: of the GIoU loss.
        no_actor_weight: of queries without an actor in the actor loss (.1 AVA, .5 tubes).
        matched_weight: of the classes of matched queries in the class loss.
        focal_alpha: weight of the positives in the focal loss; the negatives weigh 1 less that.
        focal_gamma: exponent of the focal loss; the released criterion has 2 only.
        smoothing: a target of 1 becomes 1 - smoothing / 2 and one of 0 becomes smoothing / 2.
        plain_class_loss: plain mean cross entropy in place of the focal loss (what the released evaluation reports).
        auxiliary: weigh the losses of the earlier decoder layers as the last one's.
        compat: `default`, or `reference` for the released criterion with its quirks.

    Raises:
        InvalidInput: an unknown regime or compat, or a number out of range.
    """

    regime: Regime = "ava"
    person_cost: float = 12.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    class_weight: float = 10.0
    person_weight: float = 1.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    no_actor_weight: float = 0.1
    matched_weight: float = 10.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    smoothing: float = 0.1
    plain_class_loss: bool = False
    auxiliary: bool = True
    compat: Compat = "default"

    def __post_init__(self) -> None:
        """Check the values."""
        for name, known in (("regime", get_args(Regime)), ("compat", get_args(Compat))):
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} is {getattr(self, name)!r}", remedy=f"Give one of {', '.join(known)}.")
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{name} is {value}", remedy="Give a finite number of at least 0.")
        for name in ("focal_alpha", "smoothing"):
            if getattr(self, name) > 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}", remedy="Give a part between 0 and 1.")

    @property
    def gated(self) -> bool:
        """Whether the class score is multiplied by the actor's probability."""
        return self.regime != "ava"

    @classmethod
    def preset(cls, regime: Regime, **changes: Any) -> CriterionConfig:
        """The published numbers of a data set, with changes.

        Args:
            regime: `ava`, `ucf` or `jhmdb`.
            **changes: fields that differ.
        """
        tubes = {
            "person_cost": 4.0,
            "class_weight": 4.0,
            "person_weight": 3.0,
            "no_actor_weight": 0.5,
            "smoothing": 0.0,
        }
        return cls(regime=regime, **({} if regime == "ava" else tubes) | changes)
