"""Golden files of merging inside a language model: prefill and decoding of tiny text models, by the hooks of `chat`.

The weights are in the file without merging (`…_none.npz`), beside the others or in the shared folder by the checkout.
Everything that a file holds is compared: hidden states, scores, lengths, positions, keys and values, generated tokens.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trifocal.bench.goldens.case import Arrays, Case, Checker, distance, load_arrays, video_of
from trifocal.chat.accelerate import accelerate
from trifocal.chat.hooks import Positions, VideoSpan
from trifocal.errors import InvalidInput

TOLERANCE = 2e-4
BACKENDS = ("sdpa", "eager")
_POSITIONS: Mapping[str, Positions] = {
    "reassign": "reassign",
    "surviv": "survive",
    "merg": "average",
    "averag": "average",
}
_SHARED = Path(__file__).parents[5] / "shared" / "goldens" / "sttm"


def llm_cases(path: Path) -> Iterator[Case]:
    """One case per attention backend."""
    arrays = load_arrays(path)
    meta = json.loads(bytes(arrays["meta_json"]))
    weights = _weights(path)
    for backend in BACKENDS:
        found = _run(arrays, meta, weights, backend)
        wrong, worst = [], 0.0
        for key, value in found.items():
            if key not in arrays:
                continue
            expected = arrays[key]
            if expected.dtype.kind == "f":
                apart = distance(value, expected)
                worst = max(worst, apart)
                wrong += [] if apart <= TOLERANCE else [f"{key} by {apart:.2g}"]
            elif not np.array_equal(value.numpy(), expected):
                wrong.append(key)
        checked = sum(key in arrays for key in found)
        note = f"{checked} arrays, {int(found['prefill.seq_per_layer'][-1])} tokens, within {worst:.1e}"
        yield Case(f"{path.stem} {backend}", tuple(wrong), note)


def _weights(path: Path) -> Arrays:
    name = "_".join([*path.stem.split("_")[:2], "none"]) + ".npz"
    for folder in (path.parent, _SHARED):
        if (folder / name).is_file():
            return load_arrays(folder / name)
    raise InvalidInput(f"{name}, which holds the weights, is not beside {path.name}", remedy="Put it there.")


def _model(meta: Mapping[str, Any], weights: Arrays, backend: str) -> tuple[Any, torch.Tensor]:
    """The text model and the matrix that gives scores."""
    from transformers import Qwen2Config, Qwen2Model
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLTextModel

    options = {key: value for key, value in meta["cfg"].items() if key != "rope_theta"}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": meta["cfg"]["rope_theta"]}
    if "mrope_section" in meta:
        config: Any = Qwen2VLTextConfig(
            **options, rope_parameters={**rope, "mrope_section": meta["mrope_section"]}, attn_implementation=backend
        )
        model: Any = Qwen2VLTextModel(config)
    else:
        config = Qwen2Config(**options, rope_parameters=rope, attn_implementation=backend)
        model = Qwen2Model(config)
    given = {key[2:].removeprefix("model."): torch.from_numpy(weights[key]) for key in weights if key.startswith("w.")}
    scores = given.pop("lm_head.weight")
    model.load_state_dict(given)
    return model.eval(), scores


def _positions(meta: Mapping[str, Any], grid: tuple[int, int, int], before: int, after: int) -> torch.Tensor:
    """Position ids of the unmerged prompt: counted, or with a video's own three numbers."""
    cells = grid[0] * grid[1] * grid[2]
    if "mrope_section" not in meta:
        return torch.arange(before + cells + after)[None]
    video = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij")).flatten(1) + before  # (3, cells)
    last = int(video.max()) + 1
    text = [torch.arange(before).expand(3, -1), video, torch.arange(last, last + after).expand(3, -1)]
    return torch.cat(text, dim=1)[:, None]  # (3, 1, S)


@torch.no_grad()
def _run(arrays: Arrays, meta: Mapping[str, Any], weights: Arrays, backend: str) -> dict[str, torch.Tensor]:
    model, scores = _model(meta, weights, backend)
    grid = (int(arrays["T"][0]), int(arrays["H"][0]), int(arrays["W"][0]))
    before, text = int(arrays["n_sys"][0]), torch.from_numpy(arrays["text"])
    prompt = torch.cat([text[:, :before], video_of(arrays).flatten(0, 2)[None], text[:, before:]], dim=1)
    ids = _positions(meta, grid, before, text.shape[1] - before)
    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    with contextlib.ExitStack() as stack:
        if meta["layer"] is not None:
            stack.enter_context(_accelerated(model, meta))
        for layer in model.layers:
            stack.callback(layer.register_forward_pre_hook(partial(_note, seen), with_kwargs=True).remove)
        spans = {"video_spans": [VideoSpan.contiguous(before, grid)]} if meta["layer"] is not None else {}
        output = model(inputs_embeds=prompt, position_ids=ids, use_cache=True, **spans)
        cache = output.past_key_values
        logits = output.last_hidden_state[:, -1] @ scores.T
        found = {
            "prefill.last_hidden": output.last_hidden_state,
            "prefill.logits_last": logits,
            "prefill.seq_per_layer": torch.tensor([length for length, _, _ in seen]),
            "prefill.k_last_layer": cache.layers[-1].keys,
            "prefill.v_last_layer": cache.layers[-1].values,
            "prefill.cos_last": seen[-1][1],
            "prefill.sin_last": seen[-1][2],
            "rope_delta": ids.amax()[None] + 1 - prompt.shape[1],
        }
        for key, layer in (("prefill.pos_layer0", 0), ("prefill.pos_layer_last", -1)):
            found |= _same_positions(model, arrays, key, seen[layer], averaged=_mode(meta) == "average")
        tokens, steps, lengths, turned = [logits.argmax()], [], [], []
        for step in range(len(arrays["decode.logits"])):
            seen.clear()
            following = (ids.amax() + 1 + step).expand(*ids.shape[:-1], 1)
            output = model(
                inputs_embeds=model.embed_tokens(tokens[-1].view(1, 1)),
                position_ids=following,
                past_key_values=cache,
                use_cache=True,
            )
            steps.append(output.last_hidden_state[0, -1] @ scores.T)
            tokens.append(steps[-1].argmax())
            lengths.append([held.keys.shape[-2] for held in cache.layers])
            turned.append(list(seen))
    found |= {
        "decode.tokens": torch.stack(tokens),
        "decode.logits": torch.stack(steps),
        "decode.kv_len_per_layer": torch.tensor(lengths),
    }
    if "decode.pos_per_layer" in arrays:
        found["decode.pos_per_layer"] = _decoded_positions(model, arrays["decode.pos_per_layer"], turned)
    return found


def _mode(meta: Mapping[str, Any]) -> Positions:
    for key, positions in _POSITIONS.items():
        if str(meta["pos"]).startswith(key):
            return positions
    raise InvalidInput(f"pos is {meta['pos']!r}", remedy=f"It begins with one of {', '.join(_POSITIONS)}.")


def _accelerated(model: Any, meta: Mapping[str, Any]) -> Any:
    return accelerate(
        model,
        layer=int(meta["layer"]),
        compat="reference",
        positions=_mode(meta),
        spatial_threshold=meta["tau_s"],
        temporal_threshold=meta["tau_t"] if meta["tau_t"] > 0 else None,
        root_level=meta.get("root", 1),
    )


def _note(seen: list[Any], _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    cos, sin = kwargs["position_embeddings"]
    seen.append((args[0].shape[1], cos, sin))


def _same_positions(model: Any, arrays: Arrays, key: str, seen: Any, *, averaged: bool) -> dict[str, torch.Tensor]:
    """Positions reach a layer as rotations: the file's positions if they turn as the layer turned, else wrong ones.

    Averaged rotations are those of no position; the file then holds the rotations themselves.
    """
    if key not in arrays or averaged:
        return {}
    expected = torch.from_numpy(arrays[key])
    return {key: expected if _turns(model, expected, seen) else expected - 1}


def _decoded_positions(model: Any, expected: np.ndarray[Any, Any], turned: list[list[Any]]) -> torch.Tensor:
    found = torch.from_numpy(expected).clone()
    for step, layers in enumerate(turned):
        for layer, seen in enumerate(layers):
            if not _turns(model, torch.tensor([[int(expected[step, layer])]]), seen):
                found[step, layer] = -1
    return found


def _turns(model: Any, ids: torch.Tensor, seen: Any) -> bool:
    _, cos, sin = seen
    wanted = model.rotary_emb(cos, ids)
    return all(
        one.shape == other.shape and bool((one - other).abs().max() <= TOLERANCE)
        for one, other in zip(wanted, (cos, sin), strict=True)
    )


KINDS: Mapping[str, Checker] = {"llm_*.npz": llm_cases}
"""Checker by the name of a file."""
