"""Which query stands for which actor: the cheapest one-to-one assignment, per frame and decoder layer.

The cost is 5 L1 - 2 GIoU - c person probability; the actions are not in it (Carion et al. 2020, eq. 1, with the person
in the class's place). The costs of all layers, clips and frames are one tensor and travel to the CPU once; the
assignment itself is scipy's, whose order decides between equal costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from trifocal.action.losses.boxes import cxcywh_to_xyxy, pairwise_giou
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.action.data.targets import Targets

__all__ = ["Assignment", "match"]

PERSON = 1
"""Index of "an actor" among the three actor logits; 2 is "no actor", 0 is unused."""


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """The matched pairs of one decoder layer, in order of clip, frame and query; all int64 (M,).

    Args:
        clip: index in the batch.
        frame: index in the clip, padding counted.
        query: index of the matched query.
        target: index of the actor's slot in `Targets`.
    """

    clip: Tensor
    frame: Tensor
    query: Tensor
    target: Tensor

    def __len__(self) -> int:
        """M, the number of pairs."""
        return len(self.clip)


def match(
    boxes_cxcywh: Tensor,
    person_logits: Tensor,
    targets: Targets,
    *,
    box_cost: float = 5.0,
    giou_cost: float = 2.0,
    person_cost: float = 12.0,
) -> list[Assignment]:
    """Assign queries to actors in every layer, clip and frame that is not padded.

    Args:
        boxes_cxcywh: (L, B, T, Q, 4), 0 to 1, of L decoder layers.
        person_logits: (L, B, T, Q, 3).
        targets: of the batch.
        box_cost: weight of the L1 distance.
        giou_cost: weight of the generalised IoU.
        person_cost: weight of the person probability (12 for AVA, 4 for UCF101-24 and JHMDB).

    Returns:
        One assignment per layer, on the device of the boxes.

    Raises:
        InvalidInput: a prediction that is not a number, which no assignment can use.
    """
    device = boxes_cxcywh.device
    with torch.no_grad():
        boxes, truth = boxes_cxcywh.float(), targets.boxes_cxcywh[None].float()
        distance = (boxes[..., :, None, :] - truth[..., None, :, :]).abs().sum(dim=-1)  # (L, B, T, Q, N)
        overlap = pairwise_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(truth).expand(len(boxes), -1, -1, -1, -1))
        person = person_logits.float().softmax(dim=-1)[..., PERSON, None]
        cost = (box_cost * distance - giou_cost * overlap - person_cost * person).cpu().numpy()
        usable = (targets.valid & ~targets.padded[..., None]).cpu().numpy()
    used = np.broadcast_to(usable[None, :, :, None], cost.shape)
    if not np.isfinite(cost[used]).all():
        raise InvalidInput(
            "the model's boxes or actor logits are not finite, so nothing can be matched",
            remedy="Lower the learning rate, or turn mixed precision off.",
        )
    return [_assign(layer, usable, device) for layer in cost]


def _assign(cost: np.ndarray, usable: np.ndarray, device: torch.device) -> Assignment:
    """Of one layer: cost (B, T, Q, N), usable (B, T, N)."""
    rows = [np.zeros((4, 0), dtype=np.int64)]
    for clip, frame in zip(*np.nonzero(usable.any(axis=2)), strict=True):
        slots = np.flatnonzero(usable[clip, frame])
        query, column = linear_sum_assignment(cost[clip, frame][:, slots])
        rows.append(np.stack([np.full_like(query, clip), np.full_like(query, frame), query, slots[column]]))
    pairs = torch.from_numpy(np.concatenate(rows, axis=1)).to(device)
    return Assignment(pairs[0], pairs[1], pairs[2], pairs[3])
