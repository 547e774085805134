"""Attach token merging to a Hugging Face video language model: `handle = accelerate(model, budget=0.3, layer=2)`.

From then on every prefill of a video is shortened in front of the given layer, in `forward` and in `generate`, until
`handle.remove()`. Nothing but forward pre-hooks is put on the model; what one prompt needs later is kept in its cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from trifocal.chat.families import Family, family_of
from trifocal.chat.hooks.attach import Hooks, text_model_of
from trifocal.chat.hooks.cache import Record, merged_layer
from trifocal.chat.hooks.positions import POSITIONS, Positions
from trifocal.chat.hooks.run import Plan, Usage
from trifocal.errors import InvalidInput, ModelError
from trifocal.merging import METHODS, MergeConfig, configure

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers.cache_utils import Cache

    from trifocal.chat.hooks.spans import VideoSpan
    from trifocal.merging.config import Compat

__all__ = ["Accelerated", "accelerate"]


class Accelerated:
    """A model with merging attached; made by `accelerate`. A context manager that detaches at its end.

    Attributes:
        family: of the model.
        config: how videos are merged.
        layer: in front of which layer.
        positions: which positions the shortened prompt has.
    """

    def __init__(self, model: nn.Module, *, family: Family, plan: Plan) -> None:
        """Attach."""
        self.family = family
        self.config: MergeConfig = plan.config
        self.layer = plan.layer
        self.positions: Positions = plan.positions
        self._hooks = Hooks(model, family=family, plan=plan)

    def __repr__(self) -> str:
        state = "attached" if self.attached else "removed"
        return f"Accelerated({self.family.name}: {self.config}, layer={self.layer}, {self.positions}, {state})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Detach; the model is then as it was. A cache that was merged needs the hooks to go on."""
        self._hooks.remove()

    @property
    def attached(self) -> bool:
        """Whether the hooks are on."""
        return self._hooks.attached

    @property
    def text_model(self) -> nn.Module:
        """The decoder, with `layers` and `rotary_emb`."""
        return self._hooks.text_model

    @property
    def usage(self) -> Usage | None:
        """Tokens before and after in the last prefill of a video, by whichever thread; None before the first."""
        return self._hooks.usage

    @contextmanager
    def video_spans(self, spans: Iterable[VideoSpan]) -> Iterator[None]:
        """Say where the videos of prefills in this thread are, for `generate`; none of them for an empty list.

        Wins over what the family would find. A single call takes the same as an argument: `model(..., video_spans=[])`.
        """
        self._hooks.name_spans(tuple(spans))
        try:
            yield
        finally:
            self._hooks.name_spans(None)

    def record(self, cache: Cache) -> Record | None:
        """Where the entries of a cache's shortened layers came from; None when nothing in it is merged."""
        memory = merged_layer(cache, self.layer)
        return None if memory is None else memory.record

    def next_position(self, cache: Cache) -> torch.Tensor:
        """The position id of text that follows what is in a cache, as the model counts without merging.

        Positions are always given in that count; the shortened layers move them by themselves. (With three positions
        per token, the first *generated* token of a long video's prompt stands behind the highest of all positions.)

        Returns:
            `(B,)` int64.

        Raises:
            InvalidInput: nothing in the cache is merged.
        """
        if (record := self.record(cache)) is None:
            raise InvalidInput("The cache holds no merged prompt", remedy="Prefill a video with it first.")
        since: int = cache.get_seq_length() - record.length
        return record.next_position + since


def accelerate(
    model: nn.Module,
    *,
    method: str | MergeConfig = "sttm",
    layer: int = 2,
    positions: Positions | None = None,
    compat: Compat = "default",
    family: Family | None = None,
    **options: object,
) -> Accelerated:
    """Shorten every video prompt of a model by merging its tokens.

    Args:
        model: of a supported family, whole or its text model; in whatever type, on whatever device.
        method: a name from `trifocal.merging.METHODS`, or a configuration. Also "fastv", which keeps what the last
            token of the prompt attends to in the layer before; it needs a layer of at least 1, the prompt must hold
            the question, and its cache serves no other one.
        layer: merge in front of this decoder layer. 2 is the paper's for 7B models; 0 merges the embeddings, which is
            faster and loses more (paper, Table 9).
        positions: "reassign" numbers the merged prompt on, "survive" keeps representatives' positions, "average" means
            of the members' rotations (paper, Table 8). None for what was published for the family; for "fastv" that is
            "survive".
        compat: "reference" for the published code's decisions and positions, among them that generated tokens count on
            from the unmerged length.
        family: for a model of a type that is not in the table.
        options: of the method, such as `budget=0.3` or `spatial_threshold=0.8, temporal_threshold=0.6`.

    Raises:
        InvalidInput: an option cannot be used.
        ModelError: the model is not supported, has no such layer, or is accelerated already.

    Examples:
        >>> with accelerate(model, budget=0.3, layer=2) as handle:
        ...     model.generate(**inputs)
        >>> handle.usage.video_tokens_before, handle.usage.video_tokens_after
    """
    if positions not in {None, *POSITIONS}:
        raise InvalidInput(f"positions is {positions!r}", remedy=f"Use one of {', '.join(POSITIONS)}, or None.")
    if compat not in {"default", "reference"}:
        raise InvalidInput(f"compat is {compat!r}", remedy="Use default or reference.")
    if isinstance(layer, bool) or not isinstance(layer, int):
        raise InvalidInput(f"layer is {layer!r}", remedy="Give a whole number.")
    found = family or family_of(model)
    if isinstance(method, MergeConfig):
        if options:
            raise InvalidInput(
                f"{', '.join(sorted(options))} given beside a configuration", remedy="Put all in the configuration."
            )
        config = method
    else:
        takes_compat = method in METHODS and "compat" in METHODS[method].__dataclass_fields__
        config = configure(method, with_question=True, **options, **({"compat": compat} if takes_compat else {}))
    if config.query_aware and layer < 1:
        raise InvalidInput(
            f"layer is {layer}, and {config.method} ranks tokens by the attention of the layer before",
            remedy="Give at least 1; the paper has 2.",
        )
    if _is_accelerated(model):
        raise ModelError("The model is accelerated already", remedy="remove() the earlier handle first.")
    plan = Plan(
        config=config,
        layer=layer,
        positions=positions or ("survive" if config.query_aware else found.positions),
        mended=compat != "reference",
    )
    return Accelerated(model, family=found, plan=plan)


def _is_accelerated(model: nn.Module) -> bool:
    # Torch has no public way to ask a module for its hooks.
    hooks = text_model_of(model)._forward_pre_hooks.values()  # noqa: SLF001
    return any(isinstance(getattr(hook, "__self__", None), Hooks) for hook in hooks)
