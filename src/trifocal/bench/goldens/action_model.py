"""Golden files of the action detector: forward passes with every intermediate, gradients, names of weights.

A case's weights come from the `.safetensors` file beside it, or are made from the names of the weights as the shared
`filler.py` makes them. Intermediates are caught with hooks, so the model itself knows nothing of them.
"""

# Torch leaves `Tensor.unflatten` without types.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import re
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trifocal.action import AttentionRequest, Detector, DetectorOutput, reference
from trifocal.action.detector import level_padding, pad_clips
from trifocal.action.layers import MultiLayer
from trifocal.action.localize import LocalizeLayer
from trifocal.action.positions import grid_code, inverse_sigmoid
from trifocal.action.reference_names import published_entries
from trifocal.bench.goldens.case import Case, Checker, distance, load_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["KINDS", "filled_state", "model_of"]

TOLERANCE = 1e-4
_STRONG = (
    "ca_kcontent_proj",
    "ca_qcontent_proj",
    "ca_qpos_sine_proj",
    "cls_qpos_sine_proj",
    "lvl_w_embed",
    "attention_weights",
    "ref_anchor_head",
)


def _filler(name: str, shape: tuple[int, ...]) -> Tensor:
    """The pseudo-random value of an entry: depends on its name and shape alone, exact in float16."""
    name = re.sub(r"conv_blocks\.\d+\.", "conv_blocks.0.", name)
    if name.startswith("transformer.decoder.bbox_embed."):
        name = name.removeprefix("transformer.decoder.")
    draw = np.random.RandomState(zlib.crc32(name.encode()))  # the files were made with this generator
    z = draw.standard_normal(int(np.prod(shape)) if shape else 1).reshape(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        value = 0 * z
    elif last == "running_var":
        value = 0.5 + np.abs(z) * 0.5
    elif last == "running_mean":
        value = 0.1 * z
    elif "sampling_offsets.bias" in name:
        value = 2.0 * z
    elif name.endswith("level_embed") or "refpoint_embed" in name or "class_queries" in name:
        value = z
    elif last in ("bias", "q_bias", "v_bias"):
        value = 0.1 * z
    elif name.endswith("cls_norm2.weight"):
        value = 1.0 + 2.0 * z
    elif len(shape) == 1:
        value = 1.0 + 0.2 * z
    else:
        sharp = "cls_layers" in name and ".k_proj." in name
        gain = 10.0 if sharp else 3.0 if any(part in name for part in _STRONG) else 1.0
        value = gain * z / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float16).reshape(shape)).float()


def filled_state(model: Detector) -> dict[str, Tensor]:
    """A published state dict for the model, made from names."""
    entries = published_entries(model).values()
    return {entry.name: _filler(entry.name, entry.shape) for entry in entries if entry.tied_to is None}


def model_of(config: Mapping[str, Any], weights: Path) -> Detector:
    """The model of a case with its weights; `weights` need not exist."""
    model = reference.build(config)
    state = load_file(weights) if weights.is_file() else filled_state(model)
    reference.load_state_dict(model, {name: tensor.float() for name, tensor in state.items()})
    return model


class _Recorder:
    """Calls of submodules: arguments and results, in order, copied before anything overwrites them."""

    def __init__(self, model: nn.Module) -> None:
        self.results: dict[str, list[Any]] = defaultdict(list)
        self.arguments: dict[str, list[Any]] = defaultdict(list)
        self.keywords: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for name, module in model.named_modules():
            module.register_forward_pre_hook(self._before(name), with_kwargs=True)
            module.register_forward_hook(self._after(name))

    def _before(self, name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self.arguments[name].append(tuple(_copied(value) for value in arguments))
            self.keywords[name].append(keywords)

        return hook

    def _after(self, name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], result: Any) -> None:
            self.results[name].append(_copied(result))

        return hook


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def forward_cases(path: Path) -> Iterator[Case]:
    """Outputs of all layers, and every intermediate that the file has."""
    name, arrays = path.stem, load_arrays(path)
    config = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    weights = path.with_suffix(".safetensors")
    # A smaller variant of a case shares its weights.
    beside = [weights, *(weights.with_stem(name.removesuffix(end)) for end in ("_nopad", "_odd") if name.endswith(end))]
    model = model_of(config, next((file for file in beside if file.is_file()), weights))
    clips = [torch.from_numpy(arrays[f"in.clip{number}"]) for number in range(len(config["clips"]))]
    model.encoder.skip_unread = "encoder.memory" not in arrays
    rich = any(key.startswith("ldl0") for key in arrays)
    recorder = _Recorder(model) if rich else None
    layers = tuple(range(model.config.decoder_layers)) if rich else (-1,)
    with torch.inference_mode():
        out = model(clips, aux=True, attention=AttentionRequest(layers=layers, heads="all"))
        found = _outputs(out, clips) | ({} if recorder is None else _intermediates(model, recorder, out, clips))
    wrong, worst = [], 0.0
    for key, expected in arrays.items():
        if key.startswith("in."):
            continue
        if key not in found:
            wrong.append(f"{key} is not given")
            continue
        apart = distance(found[key], expected.astype(np.float32))
        # Scores after a softmax or a logarithm are as close as what they are made of.
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
        wrong += [] if apart <= allowed else [f"{key} by {apart:.2g}"]
        worst = max(worst, apart)
    yield Case(name, tuple(wrong), f"{len(arrays)} arrays, within {worst:.1e}")


def _outputs(out: DetectorOutput, clips: list[Tensor]) -> dict[str, Tensor]:
    found = {}
    for prefix, layer in (("out", out), *((f"aux{number}", layer) for number, layer in enumerate(out.aux_outputs))):
        found[f"{prefix}.pred_logits"] = layer.class_logits
        found[f"{prefix}.pred_boxes"] = layer.boxes_cxcywh
        found[f"{prefix}.pred_logits_b"] = layer.person_logits
    person = out.person_scores[..., None]
    tube = out.class_logits.ndim == 4
    found["post.scores"] = out.class_scores * person if tube else out.class_scores
    found["post.person"] = person
    size = torch.tensor([[clip.shape[3], clip.shape[2]] * 2 for clip in clips])
    centre, side = out.boxes_cxcywh[..., :2], out.boxes_cxcywh[..., 2:]
    corners = torch.cat((centre - side / 2, centre + side / 2), -1)
    found["post.boxes"] = corners * size.view(len(clips), *[1] * (corners.ndim - 2), 4)
    return found


def _intermediates(model: Detector, recorder: _Recorder, out: DetectorOutput, clips: list[Tensor]) -> dict[str, Tensor]:
    batch, padding = pad_clips(clips)
    found: dict[str, Tensor] = {}
    published_bodies = [f"body.stages.{stage}" for stage in range(4)]
    channels_first = [recorder.results[name][0] for name in published_bodies if name in recorder.results]
    if not channels_first:
        channels_first = [recorder.results[f"neck.levels.{level}"][0].movedim(-1, 1) for level in range(4)]
    for level, maps in enumerate(channels_first):
        shape = tuple(maps.shape[2:])
        mask = level_padding(padding, shape, batch=len(batch), device=maps.device)
        code = grid_code(mask, frames=shape[0], width=model.config.width)
        found[f"backbone.feat{level}"] = maps
        found[f"backbone.mask{level}"] = mask[:, None].expand(-1, shape[0], -1, -1)
        found[f"backbone.pos{level}"] = code.movedim(-1, 1)
        if f"neck.norms.{level}" in recorder.results:
            found[f"input_proj{level}"] = recorder.results[f"neck.norms.{level}"][0]
    found |= _encoder(recorder, len(batch))
    found |= _decoder(model, recorder, out)
    return found


def _encoder(recorder: _Recorder, batch: int) -> dict[str, Tensor]:
    tokens, code, grid = recorder.arguments["encoder"][0]
    count = tokens.shape[1]
    valid = torch.ones(batch, len(grid.shapes), 3) if grid.valid is None else grid.valid
    padding = torch.zeros(batch, count, dtype=torch.bool) if grid.padding is None else grid.padding

    def whole(name: str) -> Tensor:
        return torch.cat(recorder.results[name]).view(batch, count, -1)

    return {
        "encoder.in.src": tokens,
        "encoder.in.shapes": torch.tensor(grid.shapes),
        "encoder.in.valid_ratios": valid,
        "encoder.in.pos": code.expand(batch, -1, -1),
        "encoder.in.mask": padding,
        "encoder.layer0.self_attn": whole("encoder.layers.0.attention"),
        "encoder.layer0.out": whole("encoder.layers.0"),
        "encoder.memory": recorder.results["encoder"][0],
    }


def _decoder(model: Detector, recorder: _Recorder, out: DetectorOutput) -> dict[str, Tensor]:
    scene = recorder.arguments["decoder"][0][0]
    frames, _, cells, _ = scene.memory.shape
    anchors = model.decoder.anchors.detach()
    anchors = anchors[:, None] if anchors.ndim == 2 else anchors
    anchors = anchors.repeat(1, frames // anchors.shape[1], 1)  # (Q, N, 4)
    padding = torch.zeros(frames, cells, dtype=torch.bool) if scene.padding is None else scene.padding
    found = {
        "decoder.in.memory": scene.memory.permute(1, 2, 0, 3),
        "decoder.in.pos": scene.position.transpose(0, 1).expand(scene.memory.shape[1], -1, -1, -1),
        "decoder.in.mask": padding,
        "decoder.in.ref": anchors,
        "decoder.in.hw": torch.tensor(scene.grid),
    }
    box = anchors.transpose(0, 1).sigmoid()
    boxes = []
    box_head = model.decoder.box_head
    assert isinstance(box_head, MultiLayer)
    for number, module in enumerate(model.decoder.localize):
        assert isinstance(module, LocalizeLayer)
        prefix, name = f"ldl{number}.", f"decoder.localize.{number}"
        results = recorder.results
        given = recorder.keywords[name][0]
        localized = results[name][0]
        target = results[f"{name}.self_norm"][0]
        queries = results[f"{name}.self_query_content"][0] + results[f"{name}.self_query_position"][0]
        keys = results[f"{name}.self_key_content"][0] + results[f"{name}.self_key_position"][0]
        split = [x.unflatten(-1, (module.heads, -1)).transpose(1, 2) for x in (queries, keys)]
        logits = split[0] @ split[1].transpose(-1, -2) * split[0].shape[-1] ** -0.5
        context = localized.context
        looked = module.attention(
            target, given["query_position"], given["query_box"], context, scene.position, scene.padding
        )
        found[prefix + "self_attn_w"] = logits.softmax(-1).mean(1)
        found[prefix + "lvl_logits"] = results[f"{name}.level_weights"][0].transpose(0, 1)
        found[prefix + "cross_attn_w"] = looked.mean(2)
        found[prefix + "out"] = localized.target.transpose(0, 1)
        found[prefix + "actor"] = localized.actor.transpose(0, 1)
        found[prefix + "q_memory"] = context.permute(1, 2, 0, 3)
        prefix, name = f"cdl{number}.", f"decoder.classify.{number}"
        actors = localized.actor.shape[1]

        def actor_first(x: Tensor, actors: int = actors) -> Tensor:
            split: Tensor = x.unflatten(0, (-1, actors))
            return split.transpose(0, 1)  # (Q, N, ...)

        classes = actor_first(results[name][0][0])
        found[prefix + "z"] = actor_first(results[f"{name}.blocks.0"][2]).flatten(0, 1).permute(0, 3, 1, 2)
        maps = out.attention[number].flatten(-2)
        maps = maps.flatten(0, 1) if maps.ndim == 5 else maps
        found[prefix + "class_attn"] = maps.transpose(0, 1).flatten(0, 1)
        found[prefix + "out"] = classes
        found[prefix + "next_query"] = classes.flatten(0, 1).transpose(0, 1)
        boxes.append(box)
        box = (box_head(localized.target) + inverse_sigmoid(box)).sigmoid()
    found["transformer.hs"] = torch.stack(recorder.results["decoder.target_norm"])
    read = torch.stack(recorder.results["decoder.class_norm"])  # (layers, N * Q, A, D)
    found["transformer.cls_hs"] = read.unflatten(1, (frames, -1))
    found["transformer.ref"] = torch.stack(boxes)
    return found


def config_cases(path: Path) -> Iterator[Case]:
    """The configuration builds a model of as many parameters."""
    config = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        count = reference.parameters(reference.build(config))
    right = count == config["params"]
    yield Case(path.stem + ".json", () if right else (f"{count} parameters instead of {config['params']}",))


def weight_cases(path: Path) -> Iterator[Case]:
    """Every entry of the weights has its place, and is what its name makes it."""
    config = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    model = reference.build(config)
    state = load_file(path)
    report = reference.load_state_dict(model, state, strict=False)
    wrong = [] if report.complete else str(report).splitlines()
    yield Case(path.name, tuple(wrong), f"{len(state)} entries")


def gradient_cases(path: Path) -> Iterator[Case]:
    """Which parameters each output depends on, that is where gradients are stopped.

    The random read-outs of the files are not part of them; whether a gradient is zero does not depend on which one.
    """
    beside = path.with_name(path.name.replace("_grads.json", ".json"))
    config = json.loads(beside.read_text(encoding="utf-8"))
    stored = json.loads(path.read_text(encoding="utf-8"))
    model = model_of(config, beside.with_suffix(".safetensors")).requires_grad_(True)
    arrays = load_arrays(beside.with_suffix(".npz"))
    out = model([torch.from_numpy(arrays[f"in.clip{number}"]) for number in range(len(config["clips"]))], aux=True)
    first = out.aux_outputs[0]
    outputs = {
        "last_logits": out.class_logits,
        "last_boxes": out.boxes_cxcywh,
        "last_person": out.person_logits,
        "aux0_logits": first.class_logits,
        "aux0_boxes": first.boxes_cxcywh,
    }
    entries = published_entries(model)
    parameters = dict(model.named_parameters())
    draw = torch.Generator().manual_seed(0)
    for key, expected in stored.items():
        read = torch.randn(outputs[key].shape, generator=draw)
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            (outputs[key] * read).sum(), list(parameters.values()), retain_graph=True, allow_unused=True
        )
        norms = {
            name: 0.0 if gradient is None else float(gradient.norm())
            for name, gradient in zip(parameters, gradients, strict=True)
        }
        wrong = []
        for name, norm in expected["grad_norm"].items():
            own = entries[name].own if name in entries else None
            found = 0.0 if own is None else norms.get(own, 0.0)
            # Attention of the first layer over equal values leaves gradients of rounding errors only.
            if (found > 1e-5) != ((norm or 0.0) > 1e-5):
                wrong.append(f"{name}: {found:.2g} where {norm} was")
        yield Case(f"{path.stem} {key}", tuple(wrong), f"{len(expected['grad_norm'])} parameters")


def key_cases(path: Path) -> Iterator[Case]:
    """Names, shapes and ties of a full-size state dict."""
    lines = path.read_text(encoding="utf-8").splitlines()
    with torch.device("meta"):
        model = reference.build({"yaml": path.stem.removeprefix("keys_")})
    entries = dict(published_entries(model))
    buffers = {name for name, _ in model.named_buffers()}
    wrong, count = [], 0
    twins: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            count_wanted = int(line.split(" unique parameters")[0].split()[-1])
            if reference.parameters(model) != count_wanted:
                wrong.append(f"{reference.parameters(model)} parameters instead of {count_wanted}")
            continue
        name, shape, _, kind, *_ = re.split(r"[\t ]{2,}|\t", line)
        entry = entries.pop(name, None)
        count += 1
        if entry is None:
            wrong.append(f"{name} is unknown")
            continue
        if str(entry.shape) != shape:
            wrong.append(f"{name} is {entry.shape} instead of {shape}")
        if (entry.own in buffers) != (kind == "buffer"):
            wrong.append(f"{name} is no {kind}")
        if entry.own is not None:
            twin = line.rpartition("TIED-TO ")[2] if "TIED-TO" in line else name
            if twins.setdefault(entry.own, twin) != twin:
                wrong.append(f"{name} is not tied to {twins[entry.own]}")
    wrong += [f"{name} is not listed" for name in entries]
    yield Case(path.stem, tuple(wrong), f"{count} entries")


KINDS: Mapping[str, Checker] = {
    "forward/*_grads.json": gradient_cases,
    "forward/*.json": config_cases,
    "forward/*.npz": forward_cases,
    "forward/*.safetensors": weight_cases,
    "keys/*.txt": key_cases,
}
"""Checker by the name of a file."""
