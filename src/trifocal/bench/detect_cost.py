"""What the detector costs on a CPU: seconds by part and peak memory, at the sizes that were published.

`python -m trifocal.bench.detect_cost --out bench/detect_cost` runs each case in a process of its own, on one thread,
with random weights, and writes one JSON per precision and `--keep-above`, case by case. Cases that the same machine has
measured before are left out; `--again` measures them anew and keeps the rows of cases that are not asked for. Seconds
are the process's CPU time; the time of a 1024³ matrix product before and after says how fast the machine was at that
moment, so figures of a busy machine can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trifocal.action import Detector, preset

__all__ = ["CASES", "file_name", "main", "measure"]

CASES: dict[str, tuple[str, int, int, float, float]] = {
    "vit-b 16x256x320": ("ava22-vit-b", 256, 320, 65.0, 1.6),
    "vit-b 16x256x455": ("ava22-vit-b", 256, 455, 92.0, 2.0),
    "csn-152 32x256x320": ("ava22-csn152", 256, 320, 30.0, 1.2),
    "ucf tube 32x224x298": ("ucf101-24-vit-b", 224, 298, 101.0, 2.0),
    "jhmdb tube 40x256x341": ("jhmdb-vit-b", 256, 341, 157.0, 2.9),
}
"""Preset, height, width, CPU seconds of the published code, and the most gigabytes that may be held."""


def _product_seconds() -> float:
    a = torch.randn(1024, 1024)
    times = []
    for _ in range(4):
        start = time.process_time()
        a @ a
        times.append(time.process_time() - start)
    return min(times)


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(case: str, *, bf16: bool = False, keep_above: float | None = None) -> dict[str, Any]:
    """One forward pass of one clip, in this process.

    Args:
        case: of `CASES`.
        bf16: run matrix products in bfloat16.
        keep_above: leave actors out whose person score is lower.
    """
    torch.set_num_threads(1)
    name, height, width, reference_s, limit_gb = CASES[case]
    torch.manual_seed(0)
    model = Detector(preset(name)).eval().requires_grad_(False)
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, module: nn.Module) -> None:
        started = [0.0]

        def before(*_: object) -> None:
            started[0] = time.process_time()

        def after(*_: object) -> None:
            seconds[part] += time.process_time() - started[0]

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    for part in ("body", "neck", "encoder", "decoder"):
        timed(part, getattr(model, part))
    for layer in model.decoder.classify:
        timed("decoder: classifying", layer)
    clips = torch.randn(1, 3, model.config.frames, height, width)
    product_before = _product_seconds()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        start = time.process_time()
        model(clips, keep_above=keep_above)
        total = time.process_time() - start
    return {
        "case": case,
        "bf16": bf16,
        "keep_above": keep_above,
        "cpu_s": round(total, 2),
        "by_part_s": {part: round(spent, 2) for part, spent in seconds.items()},
        "reference_cpu_s": reference_s,
        "times_faster": round(reference_s / total, 2),
        "product_1024_s": [round(product_before, 4), round(_product_seconds(), 4)],
        "peak_gb": round(_peak_gb(), 2),
        "limit_gb": limit_gb,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure the cases asked for, each in its own process, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("bench/detect_cost"))
    parser.add_argument("--case", choices=CASES, action="append", help="only these")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--keep-above", type=float)
    parser.add_argument("--again", action="store_true", help="also cases that were measured before")
    parser.add_argument("--here", action="store_true", help="measure one case in this process and print it")
    given = parser.parse_args(arguments)
    cases = given.case or list(CASES)
    if given.here:
        print(json.dumps(measure(cases[0], bf16=given.bf16, keep_above=given.keep_above)))
        return 0
    path = given.out / file_name(bf16=given.bf16, keep_above=given.keep_above)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
    machine["torch"] = str(torch.__version__)
    rows = _measured(path, machine)
    given.out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        if case in rows and not given.again:
            sys.stderr.write(f"{case}: measured before\n")
            continue
        rows[case] = _in_own_process(case, bf16=given.bf16, keep_above=given.keep_above)
        ordered = [rows[name] for name in CASES if name in rows]
        path.write_text(json.dumps({"machine": machine, "rows": ordered}, indent=2) + "\n", encoding="utf-8")
        sys.stderr.write(f"{case}: {rows[case]['cpu_s']} s, {rows[case]['peak_gb']} GB\n")
    return 0


def file_name(*, bf16: bool, keep_above: float | None) -> str:
    """What the results of these settings are called."""
    return ("bf16" if bf16 else "float32") + ("" if keep_above is None else f"-keep-{keep_above:g}") + ".json"


def _measured(path: Path, machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By case, what this machine measured before."""
    if not path.is_file():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {row["case"]: row for row in stored["rows"]} if stored["machine"] == machine else {}


def _in_own_process(case: str, *, bf16: bool, keep_above: float | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "trifocal.bench.detect_cost", "--here", "--case", case]
    command += ["--bf16"] * bf16
    command += [] if keep_above is None else ["--keep-above", str(keep_above)]
    # Threads are fixed before torch starts, so that CPU seconds are those of one thread.
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=threads)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


if __name__ == "__main__":
    sys.exit(main())
