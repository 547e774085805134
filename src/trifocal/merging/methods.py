"""The table of methods, and the one way to call any of them.

Every method is a configuration class in `METHODS`; a new one is added there and inherits the tests of all. `merge`
takes one video, or several of different lengths, and treats each on its own: a batch gives what its videos give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, overload

import torch

from trifocal.errors import InvalidInput
from trifocal.merging.config import Compat, MergeConfig, check_choice
from trifocal.merging.dycoke import DycokeConfig
from trifocal.merging.evs import EvsConfig
from trifocal.merging.fastv import FastvConfig
from trifocal.merging.frames import RandomConfig, UniformConfig
from trifocal.merging.octree import OctreeConfig
from trifocal.merging.pyramid import PyramidConfig
from trifocal.merging.sttm import SttmConfig
from trifocal.merging.tome import TomeConfig

if TYPE_CHECKING:
    from trifocal.merging.budget import BudgetPath
    from trifocal.merging.grouping import Grouping
    from trifocal.merging.result import MergedTokens

__all__ = ["METHODS", "QUERY_AWARE", "configure", "merge", "sttm"]

METHODS: Mapping[str, type[MergeConfig]] = MappingProxyType(
    {
        config.method: config
        for config in (
            SttmConfig,
            TomeConfig,
            DycokeConfig,
            OctreeConfig,
            PyramidConfig,
            UniformConfig,
            RandomConfig,
            EvsConfig,
        )
    }
)
"""Configuration class of every method that needs a video alone, by name."""

QUERY_AWARE: Mapping[str, type[FastvConfig]] = MappingProxyType({FastvConfig.method: FastvConfig})
"""The same for methods that need a model's attention too: `trifocal.accelerate` knows them, `configure` does not."""


def configure(method: str = "sttm", *, with_question: bool = False, **options: object) -> MergeConfig:
    """Build a method's configuration by name, for example `configure("tome", budget=0.3)`.

    Args:
        method: a name in `METHODS`, or with a question in `QUERY_AWARE` too.
        with_question: whether the caller has a model's attention to give.
        options: of the method.

    Raises:
        InvalidInput: no such method or option, a value that cannot be used, or a method that needs a question.
    """
    table: dict[str, type[MergeConfig]] = {**METHODS, **QUERY_AWARE} if with_question else dict(METHODS)
    if method in QUERY_AWARE and not with_question:
        raise InvalidInput(
            f"{method} keeps what a question attends to, and a video is merged without one here",
            remedy=f"Use trifocal.accelerate(model, method={method!r}, ...) and one prompt per question; "
            f"or one of {', '.join(METHODS)}.",
        )
    check_choice("method", method, tuple(table))
    config = table[method]
    known = list(config.__dataclass_fields__)
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise InvalidInput(f"{method} has no option {', '.join(unknown)}", remedy=f"It has {', '.join(known)}.")
    return config(**options)


@overload
def merge(x: torch.Tensor, config: MergeConfig) -> MergedTokens: ...
@overload
def merge(
    x: torch.Tensor, config: MergeConfig, *, lengths: Sequence[int] | torch.Tensor
) -> tuple[MergedTokens, ...]: ...
@overload
def merge(x: Sequence[torch.Tensor], config: MergeConfig) -> tuple[MergedTokens, ...]: ...


@torch.compiler.disable  # type: ignore[untyped-decorator]
def merge(
    x: torch.Tensor | Sequence[torch.Tensor],
    config: MergeConfig,
    *,
    lengths: Sequence[int] | torch.Tensor | None = None,
) -> MergedTokens | tuple[MergedTokens, ...]:
    """Merge one video or several.

    Inside `torch.compile` the graph breaks here and goes on after: the number of tokens depends on the data, and the
    heavy steps are single operators already.

    Args:
        x: `(T, H, W, C)` floating for one video; a sequence of those, of any sizes; or `(B, T, H, W, C)` with
            `lengths`.
        config: which method, and how.
        lengths: number of real frames of each video of a padded batch.

    Returns:
        One `MergedTokens`, or a tuple of them for several videos.

    Raises:
        InvalidInput: a shape or type that cannot be merged, or a budget that the method cannot reach on the video.
    """
    if not isinstance(x, torch.Tensor):
        return tuple(config.merge(video) for video in x)
    if lengths is None:
        if x.dim() == 5:
            raise InvalidInput(
                f"x has shape {tuple(x.shape)} and no lengths are given",
                remedy="Give lengths= for a padded batch, with the number of frames for each video.",
            )
        return config.merge(x)
    frames = [int(length) for length in lengths]
    if x.dim() != 5 or len(frames) != x.shape[0] or not all(0 < length <= x.shape[1] for length in frames):
        raise InvalidInput(
            f"x has shape {tuple(x.shape)} and lengths are {frames}",
            remedy="Give (B, T, H, W, C) and for each of the B videos a length between 1 and T.",
        )
    return tuple(config.merge(video[:length]) for video, length in zip(x, frames, strict=True))


@overload
def sttm(
    x: torch.Tensor,
    *,
    spatial_threshold: float | None = ...,
    temporal_threshold: float | None = ...,
    budget: float | None = ...,
    exact: bool = ...,
    path: BudgetPath = ...,
    root_level: int = ...,
    compat: Compat = ...,
    grouping: Grouping | None = ...,
    patch_weighting: bool = ...,
    head_dim: int | None = ...,
) -> MergedTokens: ...
@overload
def sttm(
    x: torch.Tensor | Sequence[torch.Tensor],
    *,
    spatial_threshold: float | None = ...,
    temporal_threshold: float | None = ...,
    budget: float | None = ...,
    exact: bool = ...,
    path: BudgetPath = ...,
    root_level: int = ...,
    compat: Compat = ...,
    grouping: Grouping | None = ...,
    patch_weighting: bool = ...,
    head_dim: int | None = ...,
    lengths: Sequence[int] | torch.Tensor | None = ...,
) -> MergedTokens | tuple[MergedTokens, ...]: ...


def sttm(
    x: torch.Tensor | Sequence[torch.Tensor],
    *,
    spatial_threshold: float | None = None,
    temporal_threshold: float | None = None,
    budget: float | None = None,
    exact: bool = False,
    path: BudgetPath = "both",
    root_level: int = 1,
    compat: Compat = "default",
    grouping: Grouping | None = None,
    patch_weighting: bool = False,
    head_dim: int | None = None,
    lengths: Sequence[int] | torch.Tensor | None = None,
) -> MergedTokens | tuple[MergedTokens, ...]:
    """Spatio-temporal token merging of one video or several; see `SttmConfig` for every option and `merge` for `x`.

    Beside input and features it holds at most 1.5 times the input, for any grid up to 256×256 from 96 channels on in
    float32 and from 512 on in a narrower type (32 and 128 on a 14×14 grid). With fewer channels the similarities and
    indices, 100 to 500 bytes a cell whatever `C`, are more than that.

    Examples:
        >>> tokens = sttm(x, spatial_threshold=0.80, temporal_threshold=0.60)
        >>> tokens = sttm(x, budget=0.3)  # at most 30 % of the tokens
        >>> tokens.features.shape  # (N, C)
    """
    config = SttmConfig(
        spatial_threshold=spatial_threshold,
        temporal_threshold=temporal_threshold,
        budget=budget,
        exact=exact,
        path=path,
        root_level=root_level,
        compat=compat,
        grouping=grouping,
        patch_weighting=patch_weighting,
        head_dim=head_dim,
    )
    return merge(x, config) if lengths is None else merge(x, config, lengths=lengths)  # type: ignore[arg-type]
