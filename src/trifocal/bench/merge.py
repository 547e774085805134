"""What token merging costs: CPU seconds, copies of the input, operators, synchronisations, memory.

`python -m trifocal.bench.merge --out bench/merge` merges the timing video at several lengths, grids and types on one
thread, and writes one JSON with the facts of the machine; `--table` prints an earlier run's as the table of the docs.
Seconds on a shared machine say little, so every row is also given as multiples of `x.clone()` of the same video in
float32, timed before and after in the same run, beside a 1024³ matrix product. `Accountant` counts what a call
dispatches and how much memory it holds; the tests use it too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import tracemalloc
import weakref
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trifocal.bench.merge_table import REFERENCE, table
from trifocal.merging import MergeConfig, SttmConfig, TomeConfig, configure, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Accountant", "main", "timing_video"]

_SYNCHRONISING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave.Tensor",
    "bincount",
    "equal",
    "is_nonzero",
)
_HOST_READS = {"cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__"}


def timing_video(frames: int, *, height: int = 14, width: int = 14, channels: int = 3584, seed: int = 1) -> Tensor:
    """A synthetic token field: scenes with cuts, drift, texture, noise in places, and a moving box.

    Returns:
        `(frames, height, width, channels)` bfloat16. With the defaults and 128 frames, the timing input on which the
        published code keeps 8,599 tokens at (.80, .60).
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    def smooth(field: Tensor) -> Tensor:
        return F.interpolate(field, size=(height, width), mode="bilinear", align_corners=True)[0]

    cuts = set(torch.randperm(max(frames - 1, 1), generator=draw)[: min(32, frames - 1)].add(1).tolist())
    common = normal(channels, 1, 1)

    def scene() -> Tensor:
        field = smooth(normal(1, channels, 8, 8))
        textured = (smooth(torch.rand(1, 1, 8, 8, generator=draw)) < 0.5).float()
        return field + textured * 0.9 * normal(channels, height, width)

    current, drift = scene(), torch.zeros(channels, height, width)
    box, box_height, box_width = 1.5 * normal(channels, 1, 1), max(1, height // 4), max(1, width // 4)
    noisy = smooth(torch.rand(1, 1, 8, 8, generator=draw))
    video = torch.empty(frames, channels, height, width, dtype=torch.bfloat16)
    for index in range(frames):
        if index in cuts:
            current, drift = scene(), torch.zeros_like(drift)
        drift = drift + 0.5 * smooth(normal(1, channels, 8, 8))
        frame = common + current + drift + 2.2 * noisy * normal(channels, height, width)
        top, left = index * 2 % max(1, height - box_height + 1), index * 3 % max(1, width - box_width + 1)
        moving = common + box + 0.3 * normal(channels, box_height, box_width)
        frame[:, top : top + box_height, left : left + box_width] = moving
        video[index] = frame
    return video.movedim(1, -1).contiguous()


class Accountant(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside it, and the memory that exists besides what it was told of.

    Attributes:
        operators: calls per operator, views included.
        peak_bytes: most bytes of tensors made inside and alive at once, plus NumPy's and Python's own peak.
    """

    def __init__(self, *known: Tensor) -> None:
        """Start counting at `with`; `known` tensors are not counted as memory."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()
        self._reads = _HostReads()
        self._known = {_identity(tensor.untyped_storage()) for tensor in known}
        self._alive: dict[int, int] = {}
        self._tensor_peak = 0
        self._host_peak = 0

    def __enter__(self) -> Self:
        """Begin."""
        tracemalloc.start()
        self._reads.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._reads.__exit__(*error)  # type: ignore[no-untyped-call]
        self._host_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    @property
    def calls(self) -> int:
        """Operators dispatched."""
        return self.operators.total()

    @property
    def synchronisations(self) -> int:
        """Calls that make the host wait for a device: reads of values, copies back, shapes that depend on values."""
        within = sum(count for name, count in self.operators.items() if any(part in name for part in _SYNCHRONISING))
        return within + self._reads.count

    @property
    def peak_bytes(self) -> int:
        """Bytes at the worst moment; tensors and host arrays that share memory count twice."""
        return self._tensor_peak + self._host_peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run, count, and keep track of what is alive."""
        result = func(*args, **(kwargs or {}))
        self.operators[str(func)] += 1
        # A boolean mask is an index whose result's size only the device knows.
        if "index.Tensor" in str(func) and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        ):
            self.operators["nonzero (boolean mask)"] += 1
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._hold(leaf.untyped_storage())
        self._tensor_peak = max(self._tensor_peak, sum(self._alive.values()))
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = _identity(storage)
        if key not in self._known and key not in self._alive:
            self._alive[key] = storage.nbytes()
            weakref.finalize(storage, self._alive.pop, key, None)


def _identity(storage: torch.UntypedStorage) -> int:
    return int(storage._cdata)  # noqa: SLF001  (the address itself is reused while a view of freed memory is still alive)


class _HostReads(TorchFunctionMode):
    """Counts methods that bring values to the host, which a tensor that is there already does not dispatch."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run and count."""
        self.count += getattr(func, "__name__", "") in _HOST_READS
        return func(*args, **(kwargs or {}))


def cpu_seconds(act: Callable[[], object], *, repeats: int) -> float:
    """Least CPU time of this process over some repeats, after one that is not counted."""
    act()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        act()
        best = min(best, time.process_time() - start)
    return best


def _facts() -> dict[str, object]:
    model = (
        next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _row(video: Tensor, config: MergeConfig, *, copy: float, repeats: int) -> dict[str, object]:
    seconds = cpu_seconds(lambda: merge(video, config), repeats=repeats)
    with Accountant(video) as account:
        tokens = merge(video, config)
    produced = tokens.features.numel() * tokens.features.element_size()
    return {
        "cpu_s": round(seconds, 4),
        "copies": round(seconds / copy, 3),
        "tokens": len(tokens),
        "share": round(tokens.share, 4),
        "operators": account.calls,
        "synchronisations": account.synchronisations,
        "memory_beyond_input_and_output": round(
            max(0, account.peak_bytes - produced) / (video.numel() * video.element_size()), 3
        ),
    }


def _line(name: str, row: dict[str, object]) -> str:
    return (
        f"{name:24s} {row['cpu_s']:.3f} s  {row['copies']:5.2f} copies  {row['tokens']} tokens  "
        f"{row['operators']} operators  {row['synchronisations']} syncs  "
        f"memory {row['memory_beyond_input_and_output']}"
    )


def _configs() -> dict[str, MergeConfig]:
    configs: dict[str, MergeConfig] = {}
    for s, t in REFERENCE:
        configs[f"default ({s:.2f}, {t:.2f})"] = SttmConfig(spatial_threshold=s, temporal_threshold=t)
        decisions = SttmConfig(spatial_threshold=s, temporal_threshold=t, compat="reference")
        configs[f"reference ({s:.2f}, {t:.2f})"] = decisions
    return {**configs, "budget 30 %": SttmConfig(budget=0.3), "budget 30 % exact": SttmConfig(budget=0.3, exact=True)}


def _changes(video: Tensor) -> dict[str, dict[str, int]]:
    """Tokens kept as the reference becomes the default, one change at a time."""
    kept = {}
    for spatial, temporal in REFERENCE:
        steps: dict[str, dict[str, Any]] = {
            "reference": {"compat": "reference"},
            "absent children masked": {"grouping": "reference"},
            "components instead of the published loop": {"grouping": "components"},
            "directed groups (the default)": {},
            "patch weighting": {"patch_weighting": True},
        }
        kept[f"({spatial:.2f}, {temporal:.2f})"] = {
            name: len(merge(video, SttmConfig(spatial_threshold=spatial, temporal_threshold=temporal, **options)))
            for name, options in steps.items()
        }
    return kept


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/merge"), help="folder for merge.json")
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 64, 128, 180])
    parser.add_argument("--channels", type=int, default=3584)
    parser.add_argument("--wide-grid-frames", type=int, default=64, help="frames of the 22×26 video; 0 for none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--rivals", action="store_true", help="also time the other methods, at 30 %% of the shortest video"
    )
    parser.add_argument("--table", action="store_true", help="measure nothing; print the table from merge.json")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(json.loads((chosen.out / "merge.json").read_text())))
        return

    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "machine": _facts(),
        "reference": {str(pair): row for pair, row in REFERENCE.items()},
        "rows": [],
    }
    square = torch.randn(1024, 1024)
    report["product_1024_cpu_s"] = round(cpu_seconds(lambda: square @ square, repeats=20), 5)
    grids = [(frames, 14, 14) for frames in chosen.frames]
    grids += [(chosen.wide_grid_frames, 22, 26)] if chosen.wide_grid_frames else []
    for frames, height, width in grids:
        narrow = timing_video(frames, height=height, width=width, channels=chosen.channels)
        video = narrow.float()
        if (frames, height, width) == (128, 14, 14):
            report["tokens_kept"] = _changes(video)
        for dtype, input_ in (("float32", video), ("bfloat16", narrow)):
            copy = cpu_seconds(video.clone, repeats=chosen.repeats)
            rows = {name: _row(input_, one, copy=copy, repeats=chosen.repeats) for name, one in _configs().items()}
            after = cpu_seconds(video.clone, repeats=chosen.repeats)
            for name, row in rows.items():
                report["rows"].append(
                    {
                        "frames": frames,
                        "grid": [height, width],
                        "dtype": dtype,
                        "method": name,
                        **row,
                        "copy_cpu_s": [round(copy, 4), round(after, 4)],
                    }
                )
                print(f"{frames:4d} × {height}×{width} {dtype:9s} {_line(name, row)}", flush=True)
        del narrow, video
    if chosen.rivals:
        report["rivals"] = _rivals(min(chosen.frames), chosen.channels)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "merge.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")


def _rivals(frames: int, channels: int) -> dict[str, dict[str, object]]:
    """Every method at 30 % on one video; ToMe's time grows with the square of the tokens."""
    video = timing_video(frames, channels=channels).float()
    copy = cpu_seconds(video.clone, repeats=3)
    configs: dict[str, MergeConfig] = {"tome": TomeConfig(budget=0.3)}
    configs |= {
        name: configure(name, budget=0.3)
        for name in ("sttm", "dycoke", "octree", "pyramid", "uniform", "random", "evs")
    }
    rows = {name: _row(video, config, copy=copy, repeats=2) for name, config in configs.items()}
    for name, row in rows.items():
        print(f"{frames:4d} {_line(name, row)}", flush=True)
    return rows


if __name__ == "__main__":
    main()
