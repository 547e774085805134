"""The forward pre-hooks: on the model, on its text model, and on every decoder layer.

The hook on the model finds the videos in what the model is called with; the hook on the text model makes a `Run` where
there is something to do; the hooks on the layers hand each its hidden states, positions and mask. No forward is
replaced, and what one call found reaches only its own text model call, in its own thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.utils.generic import ModelOutput

from trifocal.chat.hooks.cache import another_question, assisted_decoding, check_cache, merged_layer
from trifocal.chat.hooks.looking import LastTokenProbe
from trifocal.chat.hooks.run import DeepStack, Plan, Run, Usage
from trifocal.chat.hooks.spans import Call, VideoSpan, check_spans
from trifocal.errors import ModelError

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from trifocal.chat.families import Family

__all__ = ["Hooks", "text_model_of"]

_RUN = "trifocal_run"
_SPANS = "video_spans"
_NOTED = "trifocal_grids"


def text_model_of(model: nn.Module) -> nn.Module:
    """The decoder inside a model: what holds layers, rotary positions and token embeddings.

    Raises:
        ModelError: there is none.
    """
    for module in model.modules():
        if all(hasattr(module, name) for name in ("layers", "rotary_emb", "embed_tokens")):
            return module
    raise ModelError(
        f"{type(model).__name__} has no decoder with rotary positions", remedy="Attach to a supported model."
    )


class Hooks:
    """The hooks on one model.

    Args:
        model: the whole of it, or its text model.
        family: says where videos are.
        plan: says what to do with them.
    """

    def __init__(self, model: nn.Module, *, family: Family, plan: Plan) -> None:
        """Register them."""
        self.family = family
        self.plan = plan
        self.text_model = text_model_of(model)
        self.usage: Usage | None = None
        self._here = threading.local()
        self._layers: Sequence[nn.Module] = [*cast("nn.ModuleList", self.text_model.layers)]
        self._check_layers()
        base = next((module for module in model.modules() if self.text_model in module.children()), None)
        self._names = {id(module): _names(module) for module in (model, base, self.text_model) if module is not None}
        self._probe: LastTokenProbe | None = None
        if plan.config.query_aware:
            self._probe = LastTokenProbe(cast("nn.Module", self._layers[plan.layer - 1].self_attn))
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._enter_model, with_kwargs=True),
            model.register_forward_hook(self._leave_model, always_call=True),
        ]
        if base is not None:
            self._handles.append(base.register_forward_pre_hook(self._enter_base, with_kwargs=True))
            if (tower := getattr(base, family.tower, None)) is not None:
                self._handles.append(tower.register_forward_hook(_note_grids, with_kwargs=True))
        self._handles.append(self.text_model.register_forward_pre_hook(self._enter_text_model, with_kwargs=True))
        for index, layer in enumerate(self._layers):
            self._handles.append(
                layer.register_forward_pre_hook(partial(self._enter_layer, index=index), with_kwargs=True)
            )

    def remove(self) -> None:
        """Take them off; twice does no harm."""
        for handle in self._handles:
            handle.remove()
        if self._probe is not None:
            self._probe.remove()
        self._handles = []

    @property
    def attached(self) -> bool:
        """Whether they are on."""
        return bool(self._handles)

    def name_spans(self, spans: tuple[VideoSpan, ...] | None) -> None:
        """Say where the videos of the next calls in this thread are; None to let the family find them."""
        self._here.named = spans

    def _check_layers(self) -> None:
        count, layer = len(self._layers), self.plan.layer
        if not 0 <= layer < count:
            raise ModelError(f"layer is {layer} and the model has {count}", remedy=f"Give 0 to {count - 1}.")
        kinds = set(getattr(self.text_model.config, "layer_types", None) or ()) - {"full_attention"}
        if kinds:
            raise ModelError(
                f"The model has layers of the type {', '.join(sorted(kinds))}, whose window counts unmerged tokens",
                remedy="Use a model with full attention in all layers (use_sliding_window=False).",
            )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _enter_model(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, given = self._by_name(module, args, kwargs)
        here = self._here
        here.explicit, here.found = given.pop(_SPANS, None), None
        here.labels = given.get("labels") is not None
        keep = given.get("logits_to_keep")
        here.several = isinstance(keep, int) and keep > 1
        return args, given

    def _leave_model(self, _module: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
        self._here.__dict__.update(explicit=None, found=None, several=False, labels=False)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _enter_base(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, given = self._by_name(module, args, kwargs)
        here = self._here
        spans = given.pop(_SPANS, None)
        if spans is not None:
            here.explicit = spans
        here.found = None
        input_ids = given.get("input_ids")
        arguments = {**_noted(given), **{name: value for name, value in given.items() if value is not None}}
        said = getattr(here, "explicit", None) is not None or getattr(here, "named", None) is not None
        if not said and input_ids is not None and _shows(arguments):
            here.found = self.family.locate(Call(input_ids.detach().cpu(), arguments, module.config))
        return args, given

    def _spans(self, given: dict[str, Any], *, batch: int, length: int) -> tuple[VideoSpan, ...]:
        """The videos of a call of the text model: given, named for the thread, or found by the family."""
        here, own = self._here.__dict__, given.pop(_SPANS, None)
        found, here["found"] = here.get("found"), None
        explicit, here["explicit"] = own if own is not None else here.get("explicit"), None
        if explicit is not None:
            return tuple(explicit)
        cache = given.get("past_key_values")
        if (named := here.get("named")) is not None:
            # Named for a whole generation, of which only the prefill holds them.
            if length == 1 or (cache is not None and cache.get_seq_length()):
                return ()
            # Beams and several answers repeat each row.
            repeats = max(1, batch // (1 + max((span.row for span in named), default=0)))
            return tuple(replace(span, row=span.row * repeats + copy) for span in named for copy in range(repeats))
        return found or ()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _enter_text_model(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, given = self._by_name(module, args, kwargs)
        cache = given.get("past_key_values")
        embeds = given.get("inputs_embeds")
        batch, length = (embeds if embeds is not None else given["input_ids"]).shape[:2]
        if self._probe is not None:
            self._probe.ask(None)  # whatever a call that failed left behind
        spans = self._spans(given, batch=batch, length=length)
        if not spans and merged_layer(cache, self.plan.layer) is None:
            return args, given
        check_cache(cache)
        check_spans(spans, batch=batch, length=length)
        self._check_call(given)
        if self.plan.config.query_aware:
            self._check_question(spans, cache, length=length)
        run = Run(
            plan=self.plan,
            config=self.text_model.config,
            rotary=self.text_model.rotary_emb,
            spans=spans,
            position_ids=self._position_ids(given, length=length),
            attention_mask=given.get("attention_mask"),
        )
        if self.plan.layer == 0:
            # No layer uses what the text model would make of it.
            given["attention_mask"] = None
        stacked = given.get("deepstack_visual_embeds")
        if spans and stacked is not None and self.plan.layer < len(stacked):
            self._check_deepstack(stacked)
            run.deepstack = DeepStack(given["visual_pos_masks"], list(stacked))
            given["deepstack_visual_embeds"] = given["visual_pos_masks"] = None
        given[_RUN] = run
        return args, given

    def _check_call(self, given: dict[str, Any]) -> None:
        if getattr(self._here, "several", False):
            raise assisted_decoding()
        if getattr(self._here, "labels", False) or given.get("labels") is not None:
            raise ModelError(
                "labels are given, and a merged prompt has fewer places than labels",
                remedy="remove() the hooks for training, or compute the loss on the logits of the answer.",
            )
        mask = given.get("attention_mask")
        if mask is not None and not (isinstance(mask, torch.Tensor) and mask.dim() == 2):
            shape = tuple(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
            raise ModelError(
                f"attention_mask is {shape}, made for unmerged places", remedy="Give a mask of (B, S), or none."
            )

    def _check_question(self, spans: tuple[VideoSpan, ...], cache: Any, *, length: int) -> None:
        """Refuse a prompt whose last token is of a video, and a second question behind the first."""
        if length > 1 and merged_layer(cache, self.plan.layer) is not None:
            raise another_question()
        if any(int(span.cells[-1]) == length - 1 for span in spans):
            raise ModelError(
                f"The prompt ends with its video, and {self.plan.config.method} keeps what the question attends to",
                remedy="Put the question behind the video, in the same call; or use a method that does not look at it, "
                "such as sttm.",
            )

    def _check_deepstack(self, stacked: Sequence[torch.Tensor]) -> None:
        if len(stacked) >= len(self._layers):
            raise ModelError(
                f"The model adds visual features behind all {len(stacked)} layers",
                remedy=f"Give a layer of at least {len(stacked)}.",
            )

    def _position_ids(self, given: dict[str, Any], *, length: int) -> torch.Tensor:
        """`(B or 1, S)`, or `(3, B or 1, S)` for a model with three positions per token; as the text model has them."""
        ids: torch.Tensor | None = given.get("position_ids")
        if ids is None:
            cache = given.get("past_key_values")
            start = 0 if cache is None else cache.get_seq_length()
            embeds = given.get("inputs_embeds")
            device = (embeds if embeds is not None else given["input_ids"]).device
            ids = torch.arange(start, start + length, device=device)[None]
        if not hasattr(self.text_model.rotary_emb, "mrope_section"):
            return ids
        if ids.dim() == 2:
            return ids.expand(3, *ids.shape)
        return ids[1:] if ids.shape[0] == 4 else ids

    def _enter_layer(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, index: int) -> Any:
        run: Run | None = kwargs.get(_RUN)
        if run is None:
            return None
        options = {name: value for name, value in kwargs.items() if name != _RUN}
        if self._probe is not None and run.spans:
            if index == self.plan.layer - 1:
                self._probe.ask(run.real_keys)
            elif index == self.plan.layer:
                run.attention = self._probe.take()
        hidden = run.enter(index, args[0] if args else options.pop("hidden_states"), options)
        if run.usage is not None:
            self.usage = run.usage
        return (hidden, *args[1:]), options

    def _by_name(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """All arguments by name; those of a wrapper that takes any stay as they are."""
        names = self._names[id(module)]
        if len(args) > len(names):
            return args, dict(kwargs)
        return (), {**dict(zip(names, args, strict=False)), **kwargs}


def _note_grids(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Write the grids that a vision tower was called with onto what it returns.

    `generate` runs the tower first and then passes on its output without them.
    """
    if isinstance(output, ModelOutput) and "grid_thw" in kwargs:
        noted = {"video_grid_thw": kwargs["grid_thw"], "video_merge_sizes": kwargs.get("merge_sizes")}
        setattr(output, _NOTED, {name: value for name, value in noted.items() if value is not None})


def _noted(given: dict[str, Any]) -> dict[str, Any]:
    outputs = given.get("mm_encoder_outputs")
    video = outputs.get("video") if isinstance(outputs, dict) else None
    return getattr(video, _NOTED, {})


def _shows(arguments: dict[str, Any]) -> bool:
    """Whether a call brings pictures or a video, and not only text."""
    return any(
        name in arguments
        for name in (
            "pixel_values",
            "pixel_values_videos",
            "mm_encoder_outputs",
            "image_hidden_states",
            "video_grid_thw",
        )
    )


def _names(module: nn.Module) -> tuple[str, ...]:
    """The names of a module's positional arguments."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, given in inspect.signature(module.forward).parameters.items() if given.kind in kinds)
