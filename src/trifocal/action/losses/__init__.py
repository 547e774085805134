"""Losses of class-query detection: box geometry, the matcher, the terms, the criterion."""

from __future__ import annotations

from trifocal.action.losses.config import CriterionConfig
from trifocal.action.losses.criterion import ActionCriterion, LayerOutputs, Losses
from trifocal.action.losses.matcher import Assignment, match

__all__ = ["ActionCriterion", "Assignment", "CriterionConfig", "LayerOutputs", "Losses", "match"]
