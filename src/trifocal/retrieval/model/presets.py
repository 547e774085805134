"""Named configurations with the training recipe that goes with each.

`paper` is the published form as far as it could be recovered, with what keeps it from collapsing; `paper_residual` the
plain form that collapses, for comparison; `default` what measured best (method page); `merged` the baseline of adjacent
merging in every step; `windows` exhaustive search without prototypes, an upper mark at many times the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from trifocal.errors import InvalidInput
from trifocal.retrieval.model.config import RetrieverConfig

__all__ = ["PRESETS", "PRESET_RECIPES", "Recipe", "preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a preset is trained, in the words of a training loop.

    Args:
        lr: highest learning rate of AdamW.
        weight_decay: on matrices; biases, norms and single numbers have none.
        warmup: share of all steps until the highest rate.
        schedule: what follows, down to zero.
        clip_norm: longest gradient.
        batch_videos: videos a batch.
        epochs: passes over the videos.
    """

    lr: float
    weight_decay: float = 0.01
    warmup: float = 0.05
    schedule: Literal["linear", "cosine"] = "linear"
    clip_norm: float = 1.0
    batch_videos: int = 25
    epochs: int = 12


_PAPER: Mapping[str, Any] = {"learn_temperature": False}
_LINEAR: Mapping[str, Any] = {
    "encoder": "linear",
    "pool_edges": True,
    "dropout": 0.0,
    "window_lengths": "geometric",
    "smooth_max": 0.05,
    "learn_temperature": True,
    "triplet_weight": 0.0,
    "word_weight": 0.0,
    "video_weight": 0.0,
    "guidance_weight": 0.0,
    "ortho_weight": 0.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": _PAPER,
        "paper_residual": {**_PAPER, "residual_last": True, "identity_values": False, "sharpness": 1.0, "layers": 2},
        "default": {**_LINEAR, "generator": "coverage"},
        "merged": {**_LINEAR, "generator": "merged", "window_max": 1, "prototypes": 16},
        "windows": {**_LINEAR, "generator": "tokens", "window_lengths": "all"},
    }
)
"""Fields of `RetrieverConfig` by the preset's name; the rest has the class's defaults."""

PRESET_RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "paper": Recipe(lr=1e-3),
        "paper_residual": Recipe(lr=1e-3),
        "default": Recipe(lr=1e-2),
        "merged": Recipe(lr=1e-2),
        "windows": Recipe(lr=1e-2),
    }
)
"""The recipe by the preset's name."""


def preset(name: str = "default", *, video_dim: int, text_dim: int, **changes: Any) -> RetrieverConfig:
    """The configuration of that name, for features of those widths, with changes.

    Raises:
        InvalidInput: no such preset, or a value that does not fit.
    """
    if name not in PRESETS:
        raise InvalidInput(f"no preset is called {name!r}", remedy=f"Give one of: {', '.join(PRESETS)}.")
    chosen = RetrieverConfig(video_dim=video_dim, text_dim=text_dim, **PRESETS[name])
    try:
        return replace(chosen, **changes)
    except TypeError as error:
        raise InvalidInput(f"a change is not a field ({error})", remedy="See RetrieverConfig.") from error
