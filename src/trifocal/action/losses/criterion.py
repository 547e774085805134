"""The criterion: matches every decoder layer with the targets and sums class, actor, box and GIoU losses.

The default mends the released one: the class loss is divided by the number of actors as the box
losses are, so that batch size and clip length do not change its weight; matched queries weigh more in their own frame,
not in one shifted by the padding; padded frames take no part; the gated score keeps its gradient near 0 and 1. What
`compat="reference"` does instead stands in `_reference_class_term`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from trifocal.action.losses.boxes import cxcywh_to_xyxy, paired_giou
from trifocal.action.losses.config import CriterionConfig
from trifocal.action.losses.matcher import Assignment, match
from trifocal.action.losses.terms import actor_loss, class_loss, gated_logit, reference_gated_logit, smooth
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trifocal.action.data.targets import Targets

__all__ = ["ActionCriterion", "LayerOutputs", "Losses"]


class LayerOutputs(Protocol):
    """What one decoder layer gives: keyframe mode (B, Q, ·), tube mode (B, T, Q, ·)."""

    @property
    def class_logits(self) -> Tensor:
        """(..., Q, A)."""

    @property
    def boxes_cxcywh(self) -> Tensor:
        """(..., Q, 4), in parts of the clip's own width and height."""

    @property
    def person_logits(self) -> Tensor:
        """(..., Q, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The loss of a batch.

    Args:
        total: scalar to differentiate: all terms, weighted, of all layers.
        terms: unweighted, detached-free scalars by name: `class`, `person`, `box`, `giou` of the last layer, and the
            same with `_0`, `_1`, … for the earlier ones.
        assignments: per layer, in order of the layers.
    """

    total: Tensor
    terms: dict[str, Tensor]
    assignments: tuple[Assignment, ...]

    def values(self) -> dict[str, float]:
        """All terms and `total` as numbers, for a log."""
        return {"total": float(self.total.detach())} | {name: float(term.detach()) for name, term in self.terms.items()}


class ActionCriterion:
    """Losses of class-query detection: `criterion(layers, targets).total.backward()`.

    Args:
        config: weights and rules.
    """

    def __init__(self, config: CriterionConfig | None = None) -> None:
        """Keep the configuration; there is no state to train."""
        self.config = config or CriterionConfig()

    def __call__(self, layers: Sequence[LayerOutputs], targets: Targets) -> Losses:
        """Compare outputs with targets.

        Args:
            layers: outputs of the decoder layers, the last one last; in float32 or lower, computed in float32.
            targets: of the same batch, on the same device.

        Raises:
            InvalidInput: no layer, outputs that do not fit the targets, or outputs that are not finite.
        """
        config = self.config
        logits, boxes, persons = self._stack(layers, targets)
        assignments = match(
            boxes,
            persons,
            targets,
            box_cost=config.box_cost,
            giou_cost=config.giou_cost,
            person_cost=config.person_cost,
        )
        actors = self._actor_count(targets, assignments[-1])
        terms: dict[str, Tensor] = {}
        total = boxes.new_zeros(())
        for number in reversed(range(len(logits))):
            last = number == len(logits) - 1
            own = self._layer(logits[number], boxes[number], persons[number], targets, assignments[number], actors)
            for name, (term, weight) in own.items():
                terms[name if last else f"{name}_{number}"] = term
                if last or config.auxiliary:
                    total = total + weight * term
        return Losses(total, terms, tuple(assignments))

    @staticmethod
    def weight(targets: Targets, *, queries: int) -> float:
        """What the losses of a batch are means over, known before it is seen: actors that can be matched, at least 1.

        Args:
            targets: of the batch.
            queries: of the model; a frame with more actors leaves some out.
        """
        actors = (targets.valid & ~targets.padded[..., None]).sum(dim=-1)
        return max(1.0, float(actors.clamp(max=queries).sum()))

    def _stack(self, layers: Sequence[LayerOutputs], targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """(L, B, T, Q, ·) in float32; keyframe outputs gain their T of 1."""
        if not layers:
            raise InvalidInput(
                "there is no decoder layer to compare", remedy="Give the model's outputs, last one last."
            )
        stacked = []
        for name in ("class_logits", "boxes_cxcywh", "person_logits"):
            values = torch.stack([getattr(layer, name).float() for layer in layers])
            stacked.append(values.unsqueeze(2) if values.ndim == 4 else values)
        logits, boxes, persons = stacked
        wanted = (*targets.padded.shape, logits.shape[3], targets.actions.shape[3])
        if tuple(logits.shape[1:]) != wanted:
            raise InvalidInput(
                f"class logits are {tuple(logits.shape[1:])} and the targets ask for {wanted} (clips, frames, queries, "
                "classes)",
                remedy="Give targets of the same clips and the model's own classes.",
            )
        return logits, boxes, persons

    def _actor_count(self, targets: Targets, last: Assignment) -> Tensor:
        """What the sums are divided by: at least 1.

        Released: the boxes of this process's batch. Mended: those that were matched (with more actors than queries
        some are not); `Task.size` weighs them over batches and processes, see `weight`.
        """
        if self.config.compat == "reference":
            return (targets.valid & ~targets.padded[..., None]).sum().clamp(min=1).float()
        return torch.tensor(max(1.0, float(len(last))), device=targets.valid.device)

    def _layer(
        self, logits: Tensor, boxes: Tensor, persons: Tensor, targets: Targets, pairs: Assignment, actors: Tensor
    ) -> dict[str, tuple[Tensor, float]]:
        """Terms of one layer with their weights; logits (B, T, Q, A), boxes (B, T, Q, 4), persons (B, T, Q, 3)."""
        config = self.config
        reference = config.compat == "reference"
        where = (pairs.clip, pairs.frame, pairs.query)
        matched = torch.zeros(logits.shape[:3], dtype=torch.bool, device=logits.device)
        matched[where] = True
        truth = torch.zeros_like(logits)
        truth[where] = targets.actions[pairs.clip, pairs.frame, pairs.target]
        own = boxes[where]
        real = targets.boxes_cxcywh[pairs.clip, pairs.frame, pairs.target]
        overlap = paired_giou(cxcywh_to_xyxy(own), cxcywh_to_xyxy(real))
        counted = torch.ones_like(targets.padded) if reference else ~targets.padded
        if reference:
            classes = self._reference_class_term(logits, persons, truth, matched, targets, pairs)
        else:
            classes = self._class_term(logits, persons, truth, matched, counted, actors)
        return {
            "class": (classes, config.class_weight),
            "person": (
                actor_loss(persons, matched, counted, no_actor_weight=config.no_actor_weight),
                config.person_weight,
            ),
            "box": ((own - real).abs().sum() / actors, config.box_weight),
            "giou": ((1 - overlap).sum() / actors, config.giou_weight),
        }

    def _class_term(
        self, logits: Tensor, persons: Tensor, truth: Tensor, matched: Tensor, counted: Tensor, actors: Tensor
    ) -> Tensor:
        config = self.config
        score = gated_logit(logits, persons) if config.gated else logits
        soft = smooth(truth, config.smoothing)
        if config.plain_class_loss:
            each = torch.nn.functional.binary_cross_entropy_with_logits(score, soft, reduction="none").mean(dim=-1)
            share = counted[..., None].expand_as(each)
            return (each * share).sum() / share.sum().clamp(min=1)
        weight = torch.where(matched, config.matched_weight, 1.0) * counted[..., None]
        return class_loss(score, soft, weight, alpha=config.focal_alpha, gamma=config.focal_gamma).sum() / actors

    def _reference_class_term(
        self, logits: Tensor, persons: Tensor, truth: Tensor, matched: Tensor, targets: Targets, pairs: Assignment
    ) -> Tensor:
        """As released: a sum over the batch (AVA), or over clips divided by their length.

        The length counts the padding (UCF101-24) or not, when nothing else of the padding counts either (JHMDB).
        In tube mode the weights of matched queries land in frames counted without the padding at the front, in an
        array that has it: shifted by as many frames.
        """
        config = self.config
        score = reference_gated_logit(logits, persons) if config.gated else logits
        soft = smooth(truth, config.smoothing)
        if config.plain_class_loss:
            return torch.nn.functional.binary_cross_entropy_with_logits(score, soft)
        weight = torch.ones_like(matched, dtype=score.dtype)
        front = targets.padded.int().cumprod(dim=1).sum(dim=1)  # (B,) padded frames before the first real one
        weight[pairs.clip, pairs.frame - front[pairs.clip], pairs.query] = config.matched_weight
        each = class_loss(score, soft, weight, alpha=config.focal_alpha, gamma=config.focal_gamma)  # (B, T, Q)
        if config.regime == "ava":
            return each.sum()
        if config.regime == "ucf":
            return each.sum() / each.shape[1]
        real = ~targets.padded
        return ((each.sum(dim=2) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).sum()
