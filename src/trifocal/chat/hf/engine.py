"""A video language model as an engine: tokens in front of a cache, scores out, and nothing kept in the model.

`Engine` runs the three passes that asking consists of: the prefix with its video, a question, a token. Positions are
always given, so what some models remember between calls (`rope_deltas`) is never used and threads do not meet. Where
merging is attached, the cache carries what was merged; `fork` puts it back behind a prefix from memory or disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from trifocal.chat.accelerate import Accelerated, accelerate
from trifocal.chat.hf.evidence import AttentionProbe, Columns
from trifocal.chat.hooks.attach import text_model_of
from trifocal.chat.hooks.cache import merged_state, restore_merged
from trifocal.chat.hooks.spans import VideoSpan
from trifocal.chat.scores import last_scores
from trifocal.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from trifocal.chat.hf.processor import FrameProcessor, Grid
    from trifocal.chat.hooks.cache import Record
    from trifocal.chat.prefix import PrefixEntry
    from trifocal.merging import MergeConfig

__all__ = ["Engine"]

_MERGED = "merged."


class Engine:
    """A model with merging attached, or without.

    Args:
        model: a video language model of transformers, in evaluation mode.
        method: how video tokens are merged: a name or a configuration; None for not at all.
        layer: in front of which layer.
        evidence_depth: which layer's attention is watched, as a share of the depth.
        options: of the method and of `trifocal.accelerate`.

    Raises:
        InvalidInput: there are options and no method, one cannot be used, or the method looks at the question, which is
            not there yet when the video is read.

    Attributes:
        handle: of the merging; None for none.
        evidence_layer: the layer whose attention is watched.
    """

    def __init__(
        self,
        model: Any,
        *,
        method: str | MergeConfig | None,
        layer: int,
        evidence_depth: float,
        options: dict[str, Any],
    ) -> None:
        if method is None and options:
            raise InvalidInput(
                f"{', '.join(sorted(options))} given and no method", remedy="Give method='sttm', or leave them out."
            )
        self.model = model
        self.handle: Accelerated | None = (
            None if method is None else accelerate(model, method=method, layer=layer, **options)
        )
        if self.handle is not None and self.handle.config.query_aware:
            self.handle.remove()
            raise InvalidInput(
                f"{self.handle.config.method} keeps what one question attends to, and a video is read once for all",
                remedy="Use a method that does not look at the question, such as sttm; or trifocal.accelerate, with "
                "the question in each prompt.",
            )
        self._layer = layer
        self._compat = str(options.get("compat", "default"))
        layers: Any = text_model_of(model).layers
        self._layers = tuple(layers)
        deepest = len(self._layers) - 1
        first = 0 if self.handle is None else layer
        self.evidence_layer = max(min(first, deepest), min(deepest, round(evidence_depth * deepest)))
        self.probe = AttentionProbe(self._layers[self.evidence_layer].self_attn)

    def close(self) -> None:
        """Take everything off the model again."""
        self.probe.remove()
        if self.handle is not None:
            self.handle.remove()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def layer_devices(self) -> tuple[torch.device, ...]:
        """Where each layer computes, and its keys and values are; not all the same where a model is spread."""
        return tuple(_device_of(layer, default=self.device) for layer in self._layers)

    @property
    def dtype(self) -> torch.dtype:
        """Of the keys and values."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def context(self) -> int:
        """How many positions the model was made for."""
        return int(self.model.config.get_text_config(decoder=True).max_position_embeddings)

    @property
    def merges_before_layers(self) -> bool:
        """Whether every layer holds the merged video only, with positions that go on behind what is left of it."""
        if self.handle is None or self._layer:
            return False
        return self.handle.positions == "reassign" and self._compat == "default"

    @property
    def budget_before_layers(self) -> float | None:
        """What merging leaves of the video in every layer, as a share (float) or a number of tokens (int).

        None where it is not known beforehand, or where some layer holds the whole video.
        """
        if self.handle is None or not self.merges_before_layers:
            return None
        budget: float | None = getattr(self.handle.config, "budget", None)
        return budget

    def wait(self) -> None:
        """Let an accelerator finish what it was given, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def describe(self) -> dict[str, Any]:
        """How tokens are merged, as JSON values; empty for not at all."""
        if self.handle is None:
            return {}
        return {
            "config": json.loads(self.handle.config.to_json()),
            "layer": self._layer,
            "positions": self.handle.positions,
            "compat": self._compat,
        }

    def tensor(self, ids: Sequence[int]) -> torch.Tensor:
        """Token ids `(1, N)` where the model is."""
        return torch.tensor([list(ids)], dtype=torch.long, device=self.device)

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[int], *, video: Any, grid: Grid, times_s: Sequence[float], processor: FrameProcessor
    ) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
        """Run a prefix with a video through the model.

        Returns:
            The cache; the positions of the prefix, `(…, 1, N)`; the places of the video's cells in it.

        Raises:
            ModelError: the prompt has not as many video tokens as the video.
        """
        tokens = self.tensor(ids)
        places = (tokens[0] == processor.placeholder).nonzero().flatten().cpu()
        count = grid[0] * grid[1] * grid[2]
        if len(places) != count + processor.trailing:
            raise ModelError(
                f"The prompt has {len(places)} video tokens for a video of {count + processor.trailing}",
                remedy="The chat template or the tokenizer does not fit the model; give them explicitly.",
            )
        cells = places[:count]
        positions = processor.positions(tokens, grid, times_s=times_s)
        cache = DynamicCache()
        more: dict[str, Any] = {} if self.handle is None else {"video_spans": [VideoSpan(cells, grid)]}
        self.model.model(
            input_ids=tokens,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            mm_encoder_outputs={processor.slot: processor.output(video)},
            **more,
        )
        return cache, positions, cells

    @torch.inference_mode()
    def step(self, ids: Sequence[int], *, cache: DynamicCache, start: int) -> torch.Tensor:
        """Run tokens behind a cache; the scores of the next, `(V,)` float32."""
        positions = torch.arange(start, start + len(ids), device=self.device)[None]
        out = self.model.model(
            input_ids=self.tensor(ids), position_ids=positions, past_key_values=cache, use_cache=True
        )
        return last_scores(self.model, out.last_hidden_state)

    def record(self, cache: DynamicCache) -> Record | None:
        """What was merged in a cache."""
        return None if self.handle is None else self.handle.record(cache)

    def columns(self, cache: DynamicCache, *, cells: torch.Tensor, grid: Grid) -> Columns:
        """Which keys of the watched layer stand for which frames."""
        merged = self.handle is not None and self.evidence_layer >= self._layer
        return Columns.of(cells, grid, record=self.record(cache) if merged else None)

    def merged_state(self, cache: DynamicCache) -> dict[str, torch.Tensor]:
        """What an entry keeps of the merging."""
        return {f"{_MERGED}{name}": value for name, value in merged_state(cache).items()}

    def fork(self, entry: PrefixEntry) -> DynamicCache:
        """A cache that begins with a prefix, with what was merged in it."""
        cache = entry.fork()
        tensors = {name.removeprefix(_MERGED): value for name, value in entry.extra.items() if name.startswith(_MERGED)}
        restore_merged(cache, layer=self._layer, tensors=tensors)
        return cache


def _device_of(layer: torch.nn.Module, *, default: torch.device) -> torch.device:
    """Where a layer computes: what `accelerate` has noted of it, else where its weights are."""
    place = getattr(getattr(layer, "_hf_hook", None), "execution_device", None)
    if place is not None:
        return torch.empty(0, device=place).device
    return next((parameter.device for parameter in layer.parameters()), default)
