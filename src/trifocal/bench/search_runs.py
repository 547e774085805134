"""What the benchmarks of search (`search`, `store`) share: options, a scratch folder, times, recall."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.bench.kept_rows import KeptRows
from trifocal.bench.machine import machine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from trifocal.retrieval import Moment

__all__ = ["add_options", "measure_all", "recall", "timed", "videos_of"]


def add_options(parser: argparse.ArgumentParser, *, videos: list[int], out: str) -> None:
    """The options that both have; `videos` and `out` are what they are by default."""
    parser.add_argument("--videos", type=int, nargs="+", default=videos)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--again", nargs="+", default=[], metavar="WAY", help="measure these ways alone, and anew")
    parser.add_argument("--scratch", type=Path, help="keep the indexes there, for other runs and the other benchmark")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--table", action="store_true", help="print what is there as Markdown, and measure nothing")


def measure_all(
    options: argparse.Namespace,
    measure: Callable[[int, Path, KeptRows], Iterator[dict[str, Any]]],
    *,
    what: str,
    keys: Sequence[str],
    packages: Sequence[str] = (),
    table: Callable[[Sequence[dict[str, Any]]], str],
) -> None:
    """Do what the options say: print the table, or keep and print each row of each number of videos.

    Args:
        options: those of `add_options`, parsed.
        measure: called with a number of videos, the scratch folder and the rows there are; gives those that are due.
        what: see `KeptRows`.
        keys: see `KeptRows`.
        packages: whose versions to write beside the rows.
        table: the rows as Markdown.
    """
    about = None if options.table else machine(*packages)
    kept = KeptRows(options.out, what=what, keys=keys, about=about, again=options.again)
    if options.table:
        print(table(kept.rows))
        return
    scratch = options.scratch or Path(tempfile.mkdtemp(prefix="trifocal-search-"))
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        for videos in options.videos:
            for row in measure(videos, scratch, kept):
                kept.add(row)
                print(json.dumps(row), flush=True)
    finally:
        if options.scratch is None:
            shutil.rmtree(scratch)  # 100,000 videos take gigabytes


def timed(run: Callable[[int], object], *, repeats: int) -> dict[str, float]:
    """Milliseconds of `run(0)` to `run(repeats - 1)`, of the clock and the processor, after one that is not timed."""
    run(0)
    wall, cpu = [], []
    for i in range(repeats):
        started, worked = time.perf_counter(), time.process_time()
        run(i)
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - worked))
    return {
        "p50_ms": round(float(np.percentile(wall, 50)), 2),
        "p95_ms": round(float(np.percentile(wall, 95)), 2),
        "least_ms": round(min(wall), 2),
        "cpu_p50_ms": round(float(np.percentile(cpu, 50)), 2),
    }


def videos_of(moments: Sequence[Moment]) -> set[str]:
    """The videos that were found."""
    return {moment.video for moment in moments}


def recall(found: dict[int, set[str]], right: Sequence[set[str]]) -> float:
    """The part of the right videos that was found, mean over the queries."""
    return round(float(np.mean([len(found[i] & right[i]) / max(1, len(right[i])) for i in found])), 4)
