"""Golden files of the action criterion: assignments, every loss term, and the gradients of their weighted sum.

The file's name says the regime (`ava_`, `ucf_`, `jhmdb_`), and whether the class loss is plain (`eval`) and the tube
targets are smoothed (`smooth`); `summary.json` beside it has the weights.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch

from trifocal.action.data.targets import ClipTargets, Targets
from trifocal.action.losses import ActionCriterion, CriterionConfig
from trifocal.action.losses.config import Regime
from trifocal.bench.goldens.case import Arrays, Case, Checker, load_arrays
from trifocal.bench.goldens.outputs import GoldenOutputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trifocal.action.losses import Assignment, Losses

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-5
_TERMS = {"loss_ce": "class", "loss_ce_b": "person", "loss_bbox": "box", "loss_giou": "giou"}


def loss_cases(path: Path) -> Iterator[Case]:
    """One case a file."""
    name, arrays = path.stem, load_arrays(path)
    regime = cast("Regime", name.split("_")[0])
    if regime not in get_args(Regime):
        yield Case(name, None, "the file's name does not begin with a regime")
        return
    config = CriterionConfig.preset(
        regime, compat="reference", plain_class_loss="eval" in name, **_smoothing(name), **_weights(path)
    )
    layers = [GoldenOutputs(arrays, prefix) for prefix in _prefixes(arrays)]
    targets = targets_of(arrays, regime)
    losses = ActionCriterion(config)(layers, targets)
    torch.autograd.backward(losses.total)
    wrong, worst = _wrong_terms(arrays, losses)
    wrong += _wrong_matches(arrays, losses, targets)
    expected_error = float(arrays.get("loss.class_error", np.nan))
    found_error = class_error(layers[-1], losses.assignments[-1], targets, regime)
    if not np.isnan(expected_error) and abs(found_error - expected_error) > 1e-3:
        wrong.append(f"class_error is {found_error:.4g}, expected {expected_error:.4g}")
    steepest = 0.0
    for layer in layers:
        for part, gradient in layer.gradients().items():
            expected = arrays[f"grad.{part}"]
            apart = float(np.abs(gradient - expected).max(initial=0.0))
            steepest = max(steepest, apart)
            if apart > GRADIENT_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
                wrong.append(f"gradient of {part} by {apart:.2g}")
    yield Case(name, tuple(wrong), f"{len(layers)} layers, terms within {worst:.1e}, gradients within {steepest:.1e}")


def _smoothing(name: str) -> dict[str, float]:
    return {"smoothing": 0.1} if "smooth" in name else {}


def _weights(path: Path) -> dict[str, float]:
    summary = path.with_name("summary.json")
    stored = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
    return {f"{_TERMS[key]}_weight": value for key, value in stored.get(path.stem, {}).get("weights", {}).items()}


def _prefixes(arrays: Arrays) -> list[str]:
    """Of the layers, the last one last."""
    count = sum(key.startswith("in.aux") and key.endswith(".pred_boxes") for key in arrays)
    return [*(f"aux{number}." for number in range(count)), ""]


def targets_of(arrays: Arrays, regime: Regime) -> Targets:
    """The stored targets of a batch; rows of four coordinates in the order of tubes, then frames."""
    logits = arrays["in.pred_logits"]
    frames = 1 if regime == "ava" else logits.shape[1]
    clips = []
    for number in range(len(logits)):
        boxes = torch.from_numpy(arrays[f"tgt{number}.boxes"][:, 1:]).float()
        labels = torch.from_numpy(arrays[f"tgt{number}.labels"])
        padded = torch.zeros(frames, dtype=torch.bool)
        if regime == "ava":
            valid = torch.ones(1, len(boxes), dtype=torch.bool)
            clips.append(ClipTargets(boxes[None], valid, labels[None].float(), padded))
            continue
        padded[: int(arrays[f"tgt{number}.front_pad"])] = True
        padded[frames - int(arrays[f"tgt{number}.end_pad"]) :] = True
        boxes = boxes.view(-1, frames, 4).transpose(0, 1)  # (T, N, 4)
        labels = labels.view(-1, frames).T  # (T, N)
        valid = (boxes[..., 1:] != 0).any(dim=-1) & ~padded[:, None]
        actions = torch.nn.functional.one_hot(labels, logits.shape[-1] + 1)[..., :-1].float()
        clips.append(ClipTargets(boxes, valid, actions, padded))
    return Targets.collate(clips)


def class_error(outputs: GoldenOutputs, pairs: Assignment, targets: Targets, regime: Regime) -> float:
    """Percent of matched queries whose best class is not the target's, as released.

    Always 0 for AVA (smoothed labels are all non-zero); tubes look the class up in the frame counted without padding.
    """
    if regime == "ava":
        return 0.0
    if not len(pairs):
        return 100.0
    front = targets.padded.int().cumprod(dim=1).sum(dim=1)
    best = outputs.class_logits[pairs.clip, pairs.frame - front[pairs.clip], pairs.query].argmax(dim=-1)
    real = targets.actions[pairs.clip, pairs.frame, pairs.target].argmax(dim=-1)
    return 100.0 * float((best != real).float().mean())


def _wrong_terms(arrays: Arrays, losses: Losses) -> tuple[list[str], float]:
    wrong, worst = [], 0.0
    found = losses.values()
    expected = {
        _TERMS[base] + (f"_{number}" if number else ""): float(value)
        for key, value in arrays.items()
        if key.startswith("loss.loss_")
        for base, number in [_split(key.removeprefix("loss."))]
    }
    if "loss_total_with_aux" in arrays:
        expected["total"] = float(arrays["loss_total_with_aux"])
    for name, value in expected.items():
        apart = abs(found.get(name, np.inf) - value)
        worst = max(worst, apart / max(1.0, abs(value)))
        if apart > TOLERANCE * max(1.0, abs(value)):
            wrong.append(f"{name} is {found.get(name)}, expected {value}")
    return wrong + [f"{name} is not in the file" for name in found.keys() - expected.keys() - {"total"}], worst


def _split(key: str) -> tuple[str, str]:
    """`loss_ce_b_3` to its term and the number of its layer, empty for the last."""
    head, _, tail = key.rpartition("_")
    return (head, tail) if tail.isdigit() else (key, "")


def _wrong_matches(arrays: Arrays, losses: Losses, targets: Targets) -> list[str]:
    """Stored per layer and clip (AVA) or real frame (tubes).

    A target may be counted among its frame's valid ones or among all of the clip, but in one file in one way.
    """
    ways = [
        [
            f"assignments of layer {number}"
            for number, pairs in enumerate(losses.assignments)
            if _pairs(pairs, targets, among_valid) != _stored_pairs(arrays, number, len(losses.assignments))
        ]
        for among_valid in (True, False)
    ]
    return min(ways, key=len)


_Pairs = dict[str, list[tuple[int, int]]]


def _pairs(pairs: Assignment, targets: Targets, among_valid: bool) -> _Pairs:
    """Sorted (query, target) by clip or real frame."""
    fronts = targets.padded.int().cumprod(dim=1).sum(dim=1)
    found: _Pairs = {}
    for clip, frame, query, slot in torch.stack([pairs.clip, pairs.frame, pairs.query, pairs.target]).T.tolist():
        target = int(targets.valid[clip, frame, :slot].sum()) if among_valid else slot
        place = clip if targets.padded.shape[1] == 1 else frame - int(fronts[clip])
        found.setdefault(str(place), []).append((query, target))
    return {place: sorted(rows) for place, rows in found.items()}


def _stored_pairs(arrays: Arrays, number: int, layers: int) -> _Pairs:
    layer = "main" if number == layers - 1 else f"aux{number}"
    stored: _Pairs = {}
    for key, query in arrays.items():
        parts = key.split(".")
        if parts[0] == "match" and parts[1] == layer and parts[-1] == "src" and query.size:
            target = arrays[key.removesuffix("src") + "tgt"]
            stored[parts[2]] = sorted(zip(query.tolist(), target.tolist(), strict=True))
    return stored


def _summary_cases(path: Path) -> Iterator[Case]:
    """The weights that the cases beside it are read with."""
    stored: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    absent = [name for name, row in stored.items() if set(row.get("weights", {})) != set(_TERMS)]
    yield Case(path.name, tuple(absent), "side file: the weights of the cases beside it")


KINDS: Mapping[str, Checker] = {"losses/*.npz": loss_cases, "losses/summary.json": _summary_cases}
"""Checker by the name of a file."""
