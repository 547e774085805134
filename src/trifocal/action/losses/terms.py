"""The terms of the criterion, each a pure function: focal, gated class score, actor cross entropy.

Focal loss: Lin et al. 2017, eq. 5, for soft targets. The gated score of tube mode is the logit of (actor probability x
class probability), in a form whose gradient lives at both ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from trifocal.action.losses.matcher import PERSON

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["actor_loss", "class_loss", "gated_logit", "reference_gated_logit", "smooth"]

_NO_ACTOR = 2
_CLOSEST = 1e-7
"""How near to 1 a product of probabilities may come before its logit is cut off, in float32."""
_REFERENCE_CLOSEST = 1e-5


def class_loss(logits: Tensor, target: Tensor, weight: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal loss per query, the mean over the classes.

    Args:
        logits: (..., A).
        target: (..., A), 0 to 1.
        weight: (...,) of each query.
        alpha: weight of a full positive.
        gamma: exponent of the modulating factor.

    Returns:
        (...,)
    """
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    agreement = probability * target + (1 - probability) * (1 - target)
    balance = alpha * target + (1 - alpha) * (1 - target)
    return (entropy * weight[..., None] * (1 - agreement) ** gamma * balance).mean(dim=-1)


def smooth(target: Tensor, amount: float) -> Tensor:
    """Pull targets of 0 and 1 towards the middle by half of `amount`."""
    return target * (1 - amount) + amount / 2


def gated_logit(class_logits: Tensor, person_logits: Tensor) -> Tensor:
    """Logit of actor probability x class probability: (..., A) and (..., 3) to (..., A)."""
    log_product = F.logsigmoid(class_logits) + F.log_softmax(person_logits, dim=-1)[..., PERSON, None]
    below = log_product.clamp(max=-_CLOSEST)
    return log_product - torch.log(-torch.expm1(below))


def reference_gated_logit(class_logits: Tensor, person_logits: Tensor) -> Tensor:
    """The same through probabilities clamped at 1e-5, as released; no gradient beyond the clamp."""
    product = person_logits.softmax(dim=-1)[..., PERSON, None] * class_logits.sigmoid()
    product = product.clamp(0, 1)
    return torch.log(product.clamp(min=_REFERENCE_CLOSEST) / (1 - product).clamp(min=_REFERENCE_CLOSEST))


def actor_loss(person_logits: Tensor, matched: Tensor, counted: Tensor, *, no_actor_weight: float) -> Tensor:
    """Weighted mean cross entropy of "actor" for matched queries and "no actor" for the others.

    Args:
        person_logits: (B, T, Q, 3).
        matched: bool (B, T, Q).
        counted: bool (B, T), frames that take part.
        no_actor_weight: weight of the queries that are not matched.

    Returns:
        A scalar; 0 where nothing takes part.
    """
    truth = torch.where(matched, PERSON, _NO_ACTOR)
    weight = torch.where(matched, 1.0, no_actor_weight) * counted[..., None]
    entropy = F.cross_entropy(person_logits.flatten(0, -2), truth.flatten(), reduction="none").view_as(weight)
    return (entropy * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
