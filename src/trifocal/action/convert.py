"""Weights made elsewhere, brought here: published checkpoints, VideoMAE from Hugging Face, ir-CSN from Caffe2.

`convert_checkpoint` makes a folder (`config.json`, `model.safetensors`) of a published checkpoint, once; nothing but
tensors is read from it. The two others put pretrained weights into the body of a detector that is to be trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trifocal.action.backbones.csn import Bottleneck, CsnBody
from trifocal.action.class_names import CLASS_NAMES
from trifocal.action.labels import LabelMap
from trifocal.action.model import ActionModel
from trifocal.action.reference import LoadReport, build, load_state_dict
from trifocal.errors import ModelError
from trifocal.weights.convert import load_checkpoint_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trifocal.action.backbones.vit import VitBody

__all__ = [
    "caffe2_to_body",
    "convert_checkpoint",
    "fill_body",
    "load_videomae",
    "own_classes",
    "videomae_authors_to_body",
    "videomae_to_body",
]


def convert_checkpoint(
    checkpoint: Path,
    *,
    target: Path,
    config: Mapping[str, Any],
    classes: LabelMap | None = None,
    fps: float | None = None,
    strict: bool = True,
    told: Callable[[LoadReport], None] | None = None,
) -> LoadReport:
    """A published checkpoint as a folder that `load_action_model` reads.

    Args:
        checkpoint: a file saved by `torch.save`, with the weights under `model`.
        target: the folder to make.
        config: in published words, as for `reference.build`.
        classes: names and numbers of the actions; `None` takes the data set's own, where there are as many.
        fps: of the videos that it was trained on; `None` takes the data set's (AVA 30, UCF101-24 and JHMDB 25).
        strict: refuse weights that do not fit.
        told: gets the report before anything is refused or written.

    Returns:
        What did not fit.

    Raises:
        WeightsCorrupt: the file holds no plain tensors, or more than plain data around them.
        ModelError: the weights do not fit, and `strict` is set.
        InvalidInput: an unknown configuration, or another number of classes.
    """
    state = load_checkpoint_tensors(checkpoint, within="model")
    model = build(config)
    report = load_state_dict(model, state, strict=False)
    if told is not None:
        told(report)
    if strict and not report.complete:
        load_state_dict(model, state)  # says what does not fit
    known = classes or own_classes(str(config.get("yaml", "")), model.config.classes)
    rate = fps or (30.0 if model.config.mode == "keyframe" else 25.0)
    ActionModel(model, known.names, rate, name=checkpoint.stem, ids=known.ids).save(target)
    return report


def own_classes(yaml: str, count: int) -> LabelMap:
    """The classes of the data set that a published configuration is for; numbered ones where there are not as many."""
    names = CLASS_NAMES.get(yaml.partition("_")[0], ())
    return LabelMap.of(names if len(names) == count else [f"class {number}" for number in range(1, count + 1)])


_VIDEOMAE = {
    "attention.output.dense": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
}


def videomae_to_body(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Hugging Face's VideoMAE by the names of `VitBody`.

    Args:
        state: of a `VideoMAEModel`, or of a model around one; heads and decoders are left out.

    Returns:
        A state dict; without `norm.*` when the file has none (fine-tuned ones pool before it).

    Raises:
        ModelError: there is no VideoMAE encoder in it.
    """
    found: dict[str, Tensor] = {}
    queries: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        name = name.removeprefix("videomae.")
        if name.startswith("embeddings.patch_embeddings.projection."):
            found["patch." + name.rpartition(".")[2]] = tensor
        elif name.startswith("layernorm."):
            found["norm." + name.rpartition(".")[2]] = tensor
        elif name.startswith("encoder.layer."):
            _, _, number, rest = name.split(".", 3)
            if rest.startswith("attention.attention."):
                queries.setdefault(number, {})[rest.removeprefix("attention.attention.")] = tensor
                continue
            part, _, kind = rest.rpartition(".")
            if part not in _VIDEOMAE:
                raise ModelError(f"VideoMAE has no {name}", remedy="Give the weights of a VideoMAEModel.")
            found[f"blocks.{number}.{_VIDEOMAE[part]}.{kind}"] = tensor
    if not queries:
        raise ModelError("no VideoMAE encoder among the weights", remedy="Give the weights of a VideoMAEModel.")
    for number, parts in queries.items():
        weights = [parts[f"{role}.weight"] for role in ("query", "key", "value")]
        found[f"blocks.{number}.attn.qkv.weight"] = torch.cat(weights)
        for role, letter in (("query", "q"), ("value", "v")):
            bias = parts.get(f"{role}.bias", parts.get(f"{letter}_bias"))
            found[f"blocks.{number}.attn.{letter}_bias"] = torch.zeros(len(weights[0])) if bias is None else bias
    return found


def load_videomae(body: VitBody, state: Mapping[str, Tensor]) -> None:
    """Put weights of Hugging Face's VideoMAE into a body.

    Raises:
        ModelError: they do not fit.
    """
    ours = videomae_to_body(state)
    # Published fine-tuned weights have no final norm; it starts as the identity.
    ours.setdefault("norm.weight", torch.ones_like(body.norm.weight))
    ours.setdefault("norm.bias", torch.zeros_like(body.norm.bias))
    fill_body(body, ours)


def videomae_authors_to_body(state: Mapping[str, Tensor], *, like: VitBody) -> dict[str, Tensor]:
    """Weights of VideoMAE and VideoMAE v2 by their authors' names, by the names of `VitBody`.

    Args:
        state: of a checkpoint, with or without `model.`, `module.` or `encoder.` before its names; heads, the decoder
            of pretraining and the norm after pooling are left out.
        like: whose final norm starts as the identity where the file has none.

    Raises:
        ModelError: there is no such encoder in it.
    """
    stem = "patch_embed.proj.weight"
    prefix = next((name.removesuffix(stem) for name in state if name.endswith(stem)), None)
    if prefix is None:
        raise ModelError("no VideoMAE encoder among the weights", remedy="Give the weights of a VideoMAE.")
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.partition(".")[0] not in ("patch_embed", "blocks", "norm"):
            continue
        found[inner.replace("patch_embed.proj.", "patch.").replace(".mlp.", ".")] = tensor
    for number in range(len(like.blocks)):
        for letter in ("q", "v"):
            found.setdefault(f"blocks.{number}.attn.{letter}_bias", torch.zeros_like(like.norm.bias))
    found.setdefault("norm.weight", torch.ones_like(like.norm.weight))
    found.setdefault("norm.bias", torch.zeros_like(like.norm.bias))
    return found


def caffe2_to_body(body: CsnBody, arrays: Mapping[str, Any]) -> None:
    """Put Caffe2's weights of ir-CSN into a body.

    Args:
        body: of as many blocks.
        arrays: from the `.mat` file, as `scipy.io.loadmat` reads it; classifiers in it are left out.

    Raises:
        ModelError: arrays are missing or have other shapes.
    """
    theirs: dict[str, str] = {"conv1.weight": "conv1_w", **_norm_names("bn1", "conv1_spatbn_relu")}
    number = 0
    for stage, blocks in enumerate(body.stages):
        for place, block in enumerate(blocks.children()):
            assert isinstance(block, Bottleneck)
            ours = f"stages.{stage}.{place}"
            for conv in (1, 3, 4):
                theirs[f"{ours}.conv{conv}.weight"] = f"comp_{number}_conv_{conv}_w"
                theirs |= _norm_names(f"{ours}.bn{conv}", f"comp_{number}_spatbn_{conv}")
            if block.shortcut is not None:
                theirs[f"{ours}.shortcut.0.weight"] = f"shortcut_projection_{number}_w"
                theirs |= _norm_names(f"{ours}.shortcut.1", f"shortcut_projection_{number}_spatbn")
            number += 1
    if absent := sorted(name for name in theirs.values() if name not in arrays):
        raise ModelError(
            f"{len(absent)} arrays are missing, first {absent[0]}",
            remedy=f"Give an ir-CSN file with {number} blocks (50: 16, 152: 50).",
        )
    state = {ours: torch.as_tensor(arrays[name]).float() for ours, name in theirs.items()}
    current = body.state_dict()
    for name, tensor in state.items():
        if tensor.numel() == current[name].numel():  # vectors may come as (1, C)
            state[name] = tensor.reshape(current[name].shape)
    counters = {name: tensor for name, tensor in current.items() if name.endswith("num_batches_tracked")}
    fill_body(body, state | counters)


def _norm_names(ours: str, theirs: str) -> dict[str, str]:
    ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    return {f"{ours}.{kind}": f"{theirs}_{end}" for kind, end in ends.items()}


def fill_body(body: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights by a body's own names into it.

    Raises:
        ModelError: they do not fit; the message names the first that do not.
    """
    expected = body.state_dict()
    wrong = [f"missing: {name}" for name in expected if name not in state]
    wrong += [f"unexpected: {name}" for name in state if name not in expected]
    wrong += [
        f"shape of {name}: {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        raise ModelError(
            f"the weights do not fit this body: {'; '.join(wrong[:8])}",
            remedy="Build the body with the sizes that the weights have.",
        )
    body.load_state_dict(dict(state))
