"""The dictionary between the published model's names of weights and this project's, and their shapes.

`published_entries` lists what a published state dict holds for a configuration: every entry, its shape, which are the
same tensor twice, and which nothing uses. `own_name` translates one name.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trifocal.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["PublishedEntry", "own_name", "published_entries"]

_ENCODER_LAYER = {
    "self_attn.sampling_offsets": "attention.offsets",
    "self_attn.attention_weights": "attention.weights",
    "self_attn.value_proj": "attention.value",
    "self_attn.output_proj": "attention.output",
    "norm1": "norm",
    "linear1": "feed_forward.widen",
    "linear2": "feed_forward.narrow",
    "norm2": "feed_forward.norm",
}
_LOCALIZE_LAYER = {
    "sa_qcontent_proj": "self_query_content",
    "sa_qpos_proj": "self_query_position",
    "sa_kcontent_proj": "self_key_content",
    "sa_kpos_proj": "self_key_position",
    "sa_v_proj": "self_value",
    "self_attn.out_proj": "self_output",
    "norm1": "self_norm",
    "lvl_w_embed": "level_weights",
    "norm_": "context_norm",
    "ca_qcontent_proj": "query_content",
    "ca_qpos_proj": "query_position",
    "ca_qpos_sine_proj": "query_box",
    "ca_kcontent_proj": "key_content",
    "ca_kpos_proj": "key_position",
    "ca_v_proj": "value",
    "cross_attn.out_proj": "output",
    "norm2": "norm",
    "linear1": "feed_forward.widen",
    "linear2": "feed_forward.narrow",
    "norm3": "feed_forward.norm",
}
_CLASSIFY_LAYER = {
    "cls_linear1": "actor_feed_forward.widen",
    "cls_linear2": "actor_feed_forward.narrow",
    "cls_norm": "actor_feed_forward.norm",
    "conv_norm": "map_norm",
    "conv_blocks.0.conv1": "blocks.0.conv",
    "conv_blocks.0.norm": "blocks.0.norm",
    "conv_blocks.0.conv2": "blocks.0.widen",
    "conv_blocks.0.conv3": "blocks.0.narrow",
    "self_attn.out_proj": "self_output",
    "norm1": "self_norm",
    "k_proj": "key",
    "v_proj": "value",
    "cls_qpos_sine_proj": "query_box",
    "cross_attn.out_proj": "output",
    "cls_linear1_": "feed_forward.widen",
    "cls_linear2_": "feed_forward.narrow",
    "cls_norm_": "feed_forward.norm",
}
_WHOLE = {
    "transformer.level_embed": "level_code",
    "transformer.decoder.norm": "decoder.target_norm",
    "transformer.decoder.query_scale": "decoder.box_scale",
    "transformer.decoder.ref_point_head": "decoder.box_position",
    "transformer.decoder.ref_anchor_head": "decoder.box_size",
    "transformer.decoder.class_queries.weight": "decoder.class_queries",
    "transformer.decoder.cls_norm2": "decoder.class_norm",
    "bbox_embed": "decoder.box_head",
    "refpoint_embed.weight": "decoder.anchors",
    "class_embed_b": "decoder.person_head",
    "input_proj.{}.0": "neck.projections.{}",
    "input_proj.{}.1": "neck.norms.{}",
    "backbone.0.lateral_convs.0.0": "neck.enlarge_four.0",
    "backbone.0.lateral_convs.0.1": "neck.enlarge_four.1",
    "backbone.0.lateral_convs.0.3": "neck.enlarge_four.2",
    "backbone.0.lateral_convs.1.0": "neck.enlarge_two",
    "backbone.0.body.patch_embed.proj": "body.patch",
    "backbone.0.body.blocks.{}.mlp.fc1": "body.blocks.{}.fc1",
    "backbone.0.body.blocks.{}.mlp.fc2": "body.blocks.{}.fc2",
}


def _templates() -> Iterator[tuple[str, str]]:
    yield from _WHOLE.items()
    for published, own, inner in (
        ("transformer.encoder.layers.{}.", "encoder.layers.{}.", _ENCODER_LAYER),
        ("transformer.decoder.layers.{}.", "decoder.localize.{}.", _LOCALIZE_LAYER),
        ("transformer.decoder.cls_layers.{}.", "decoder.classify.{}.", _CLASSIFY_LAYER),
    ):
        yield from ((published + theirs, own + ours) for theirs, ours in inner.items())
    for level, first in ((0, 4), (1, 1), (2, 0), (3, 1)):  # the position of the 1×1 convolution in each branch
        for place, part in enumerate(("project", "norm", "conv"), first):
            yield f"backbone.0.lateral_convs.{level}.{place}", f"neck.levels.{level}.{part}"
    for stage in range(4):
        theirs, ours = f"backbone.0.body.layer{stage + 1}.{{}}", f"body.stages.{stage}.{{}}"
        yield theirs + ".down_sample", ours + ".shortcut"
        yield theirs, ours
    yield "backbone.0.body", "body"  # last: names below it that are the same in both


_PAIRS = tuple(_templates())


def _translator(source: int) -> tuple[tuple[re.Pattern[str], str], ...]:
    rules = []
    for pair in _PAIRS:
        pattern = re.escape(pair[source]).replace(r"\{\}", r"(\d+)")
        rules.append((re.compile(pattern + r"(?=\.|$)"), pair[1 - source]))
    return tuple(rules)


_TO_OWN, _TO_PUBLISHED = _translator(0), _translator(1)


def _translate(name: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, template in rules:
        if match := pattern.match(name):
            return template.format(*match.groups()) + name[match.end() :]
    raise ModelError(f"no translation of the name {name!r}")


@lru_cache(maxsize=8192)
def own_name(published: str) -> str:
    """This project's name of a published entry that a model uses; twice-listed ones have one name.

    Raises:
        ModelError: not such a name.
    """
    name = re.sub(r"conv_blocks\.\d+\.", "conv_blocks.0.", published)
    name = re.sub(r"^transformer\.decoder\.bbox_embed\.", "bbox_embed.", name)
    return _translate(name, _TO_OWN)


@dataclass(frozen=True, slots=True)
class PublishedEntry:
    """One entry of a published state dict.

    Args:
        name: published.
        shape: published.
        own: this project's name; `None` for an entry that nothing uses.
        tied_to: the published name of the same tensor, when it is listed again.
    """

    name: str
    shape: tuple[int, ...]
    own: str | None
    tied_to: str | None = None


def _published_shape(own: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if own == "decoder.anchors":
        return (math.prod(shape[:-1]), shape[-1])
    if re.fullmatch(r"neck\.levels\.\d\.project\.weight", own):
        return (*shape, 1, 1, 1)
    if re.fullmatch(r"neck\.enlarge_(two|four\.[02])\.weight", own):
        return (*shape[:2], 1, *shape[2:])
    if re.fullmatch(r"decoder\.classify\.\d+\.(key|value)\.weight", own):
        return (*shape, 1, 1)
    return shape


def published_entries(model: nn.Module) -> dict[str, PublishedEntry]:
    """What a published state dict of this model holds, by published name.

    Args:
        model: a `Detector` with published parts only; it may lie on the "meta" device.

    Raises:
        ModelError: the model has weights that the published one does not have.
    """
    entries: dict[str, PublishedEntry] = {}

    def add(name: str, shape: tuple[int, ...], own: str | None, tied_to: str | None = None) -> None:
        entries[name] = PublishedEntry(name, shape, own, tied_to)

    for own, tensor in model.state_dict().items():
        name, shape = _translate(own, _TO_PUBLISHED), _published_shape(own, tuple(tensor.shape))
        add(name, shape, own)
        if ".conv_blocks.0." in name:
            for copy in (1, 2):
                add(name.replace(".conv_blocks.0.", f".conv_blocks.{copy}."), shape, own, name)
        elif name.startswith("bbox_embed."):
            add("transformer.decoder." + name, shape, own, name)
    width = entries["transformer.level_embed"].shape[-1]
    layers = sum(name.endswith(".cls_norm_.weight") for name in entries)
    for layer in range(layers):
        add(f"transformer.decoder.cls_layers.{layer}.q_proj.weight", (width, width), None)
        add(f"transformer.decoder.cls_layers.{layer}.q_proj.bias", (width,), None)
    add("transformer.decoder.cls_norm.weight", (width,), None)
    add("transformer.decoder.cls_norm.bias", (width,), None)
    return entries
