"""Golden files of token merging: quadtrees, position averages, label sweeps, and the rivals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trifocal.bench.goldens.case import Arrays, Case, Checker, distance, load_arrays, video_of
from trifocal.merging import DycokeConfig, MergedTokens, OctreeConfig, PyramidConfig, SttmConfig, TomeConfig, merge
from trifocal.merging.grouping import group
from trifocal.merging.plan import candidates, select

TOLERANCE = 2e-4


def quadtree_cases(path: Path) -> Iterator[Case]:
    """Spatial nodes, pairs, edges, labels, tokens and features of every configuration in the file."""
    name, arrays = path.stem, load_arrays(path)
    x = video_of(arrays)
    for index, wanted in enumerate(json.loads(bytes(arrays["cfgs_json"]))):
        key = f"c{index:02d}."
        label = f"{name} {key[:-1]} {_describe(wanted)}"
        if wanted.get("slow"):
            yield Case(label, None, "the published slow variant is left out")
            continue
        temporal = wanted["tau_t"] if wanted["tau_t"] > 0 else None
        config = SttmConfig(
            spatial_threshold=wanted["tau_s"],
            temporal_threshold=temporal,
            root_level=wanted["root"],
            compat="reference",
            patch_weighting=bool(wanted.get("wavg")),
            head_dim=wanted.get("head_dim"),
        )
        wrong = _wrong_structure(config, x, arrays, key)
        tokens = merge(x, config)
        wrong += _wrong_tokens(tokens, arrays, key)
        note = f"{len(tokens)} tokens"
        if x.dtype == torch.float32:
            worst = distance(tokens.features, arrays[key + "feat"])
            wrong += [] if worst <= TOLERANCE else [f"features by {worst:.2g}"]
            note += f", features within {worst:.1e}"
        for part in ("cos", "sin"):
            if key + "pos_" + part in arrays:
                pooled = tokens.pool(
                    video_of(arrays, "rope_" + part), weighting="patches" if wanted.get("pos_w") else "features"
                )
                worst = distance(pooled, arrays[key + "pos_" + part])
                wrong += [] if worst <= TOLERANCE else [f"position {part} by {worst:.2g}"]
        yield Case(label, tuple(wrong), note)


def _describe(wanted: Mapping[str, Any]) -> str:
    known = ("tau_s", "tau_t", "root", "wavg", "head_dim", "pos_w", "slow", "dtype")
    return " ".join(f"{name}={wanted[name]}" for name in known if name in wanted)


def _wrong_structure(config: SttmConfig, x: torch.Tensor, arrays: Arrays, key: str) -> list[str]:
    similar, support = config.measure(x)
    selection = select(similar.tree, support, threshold=config.spatial_threshold or 0.0)
    level = similar.tree.level[selection.node]
    found: dict[str, Any] = {
        "sp_boxes": selection.boxes,
        "sp_level": level,
        "sp_level_counts": np.bincount(level, minlength=similar.tree.level_count),
    }
    if config.temporal_threshold is not None:
        pairs = candidates(similar, selection)
        edges = pairs.edges(config.temporal_threshold)
        found |= {"n_pairs": [len(pairs.pairs)], "edges": edges}
        found["rep"] = group(len(selection.node), edges=edges, rule=config.rule)
        if key + "level" in arrays:
            found["level"] = level[found["rep"] == np.arange(len(level))]
    wrong = []
    for part, value in found.items():
        if key + part not in arrays:
            continue
        expected = arrays[key + part]
        if part == "edges":
            expected = expected[np.lexsort((expected[:, 1], expected[:, 0]))]
        if not np.array_equal(np.asarray(value), expected):
            wrong.append(part)
    return wrong


def _wrong_tokens(tokens: MergedTokens, arrays: Arrays, key: str) -> list[str]:
    found = {"boxes": tokens.boxes, "num_patch": tokens.patch_counts, "flat_idx": tokens.flat_index}
    return [part for part, value in found.items() if not np.array_equal(value.numpy(), arrays[key + part])]


def unionfind_cases(path: Path) -> Iterator[Case]:
    """The published label loop on bare edges."""
    name, arrays = path.stem, load_arrays(path)
    for index in range(sum(key.endswith(".rep") for key in arrays)):
        count, edges = int(arrays[f"u{index}.n"][0]), arrays[f"u{index}.edges"].astype(np.int64)
        found = group(count, edges=edges, rule="reference")
        right = np.array_equal(found, arrays[f"u{index}.rep"])
        yield Case(f"{name} u{index}", () if right else ("rep",), f"{count} nodes, {len(edges)} edges")


def rival_cases(path: Path) -> Iterator[Case]:
    """Rivals by the names of their outputs, in their published order."""
    name, arrays = path.stem, load_arrays(path)
    x = video_of(arrays)
    cells = x[..., 0].numel()
    for key in sorted(key[: -len(".feat")] for key in arrays if key.endswith(".feat")):
        method, *numbers = key.split("_")
        expected, wrong = arrays[key + ".feat"], []
        if method == "tome":
            # How the published code rounds is not under test, so the count is taken from the file, within one.
            if abs(len(expected) - cells * (1 - int(numbers[-1]) / 100)) >= 1:
                wrong.append("count")
            tokens = merge(x, TomeConfig(budget=len(expected), compat="reference"))
        elif method == "dycoke":
            tokens = merge(x, DycokeConfig(prune_ratio=int(numbers[0]) / 1000, compat="reference"))
        elif method == "octree":
            root, threshold = int(numbers[0][1:]), int(numbers[1][1:]) / 100
            tokens = merge(x, OctreeConfig(spatial_threshold=threshold, root_level=root, compat="reference"))
        elif method == "pyramid":
            tokens = merge(x, PyramidConfig(size=int(numbers[0]), compat="reference"))
        else:
            yield Case(f"{name} {key}", None, "no checker for this output")
            continue
        worst = distance(tokens.features, expected)
        wrong += [] if worst <= TOLERANCE else [f"features by {worst:.2g}"]
        if key + ".idx" in arrays and not np.array_equal(tokens.flat_index.numpy(), arrays[key + ".idx"]):
            wrong.append("idx")
        yield Case(f"{name} {key}", tuple(wrong), f"{len(tokens)} tokens, features within {worst:.1e}")


KINDS: Mapping[str, Checker] = {
    "quadtree_*.npz": quadtree_cases,
    "posavg_*.npz": quadtree_cases,
    "bf16_*.npz": quadtree_cases,
    "unionfind*.npz": unionfind_cases,
    "baselines_*.npz": rival_cases,
    "octree_*.npz": rival_cases,
}
"""Checker by the name of a file."""
