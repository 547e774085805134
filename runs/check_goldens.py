"""Run every golden file below a folder against this package: `python runs/check_goldens.py FOLDER`.

One line per case, and an exit code of 1 if any failed. What a file holds is told by its name (see the README beside the
files); `KINDS` is the table of checkers, one entry per kind. Files that need a part of Trifocal that is not there are
named and counted apart: end-to-end language models need `chat`, and everything of the detector needs `action`.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trifocal.errors import TrifocalError
from trifocal.merging import DycokeConfig, MergedTokens, OctreeConfig, PyramidConfig, SttmConfig, TomeConfig, merge
from trifocal.merging.grouping import group
from trifocal.merging.plan import candidates, select

TOLERANCE = 2e-4
Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the report. `wrong` names what differs; None for a case that was not checked, and why in `note`."""

    name: str
    wrong: tuple[str, ...] | None
    note: str = ""


def video_of(arrays: Arrays, key: str = "x") -> torch.Tensor:
    """`(T, C, H, W)` as stored to `(T, H, W, C)` in the type it is meant to be used in."""
    if key + "_bf16" in arrays:
        bits = torch.from_numpy(arrays[key + "_bf16"].astype(np.int32) << 16)
        return bits.view(torch.float32).to(torch.bfloat16).movedim(1, -1).contiguous()
    return torch.from_numpy(arrays[key].astype(np.float32)).movedim(1, -1).contiguous()


def distance(found: torch.Tensor, expected: np.ndarray[Any, Any]) -> float:
    """Largest difference; infinite for another shape."""
    if tuple(found.shape) != expected.shape:
        return math.inf
    return float(np.abs(found.float().numpy() - expected).max(initial=0.0))


def quadtree_cases(name: str, arrays: Arrays) -> Iterator[Case]:
    """Spatial nodes, pairs, edges, labels, tokens and features of every configuration in the file."""
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


def unionfind_cases(name: str, arrays: Arrays) -> Iterator[Case]:
    """The published label loop on bare edges."""
    for index in range(sum(key.endswith(".rep") for key in arrays)):
        count, edges = int(arrays[f"u{index}.n"][0]), arrays[f"u{index}.edges"].astype(np.int64)
        found = group(count, edges=edges, rule="reference")
        right = np.array_equal(found, arrays[f"u{index}.rep"])
        yield Case(f"{name} u{index}", () if right else ("rep",), f"{count} nodes, {len(edges)} edges")


def rival_cases(name: str, arrays: Arrays) -> Iterator[Case]:
    """Rivals by the names of their outputs, in their published order."""
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


def absent(part: str) -> Callable[[str, Arrays], Iterator[Case]]:
    """A kind whose part of Trifocal is not there yet."""

    return lambda name, _: iter((Case(name, None, f"needs {part}"),))


KINDS: Mapping[str, Callable[[str, Arrays], Iterator[Case]]] = {
    "quadtree_": quadtree_cases,
    "posavg_": quadtree_cases,
    "bf16_": quadtree_cases,
    "unionfind": unionfind_cases,
    "baselines_": rival_cases,
    "octree_": rival_cases,
    "llm_": absent("chat"),
}
"""Checker by the beginning of a file's name."""

FOLDERS = ("forward", "losses", "eval", "keys", "data")
"""The detector's goldens, told by the folder they are in."""


def check(path: Path) -> Iterator[Case]:
    """All cases of one file."""
    checker = next((kind for start, kind in KINDS.items() if path.stem.startswith(start)), None)
    if checker is None or path.suffix != ".npz":
        detector = path.parent.name in FOLDERS or path.parent.parent.name in FOLDERS
        yield Case(path.name, None, "needs action" if detector else "no checker for this kind of file")
        return
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        yield from checker(path.stem, arrays)
    except (TrifocalError, ValueError, KeyError, OSError) as error:
        yield Case(path.name, (f"{type(error).__name__}: {error}",))


def main(arguments: list[str]) -> int:
    """Check the folder that is named and print a line per case."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python runs/check_goldens.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    detector = (path for name in FOLDERS for path in folder.rglob(f"{name}/*") if path.is_file())
    results: Counter[str] = Counter()
    for path in sorted({*folder.rglob("*.npz"), *detector}):
        for case in check(path):
            if case.wrong is None:
                verdict, text = "not checked", f"not checked: {case.note}"
            elif case.wrong:
                verdict, text = "failed", f"FAILED: {', '.join(case.wrong)}"
            else:
                verdict, text = "ok", f"ok ({case.note})"
            results[verdict] += 1
            print(f"{path.parent.name}/{case.name}: {text}", flush=True)
    print(f"{results['ok']} ok, {results['failed']} failed, {results['not checked']} not checked")
    if not results["ok"] and not results["failed"]:
        print("nothing was checked", file=sys.stderr)
        return 1
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
