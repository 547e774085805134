"""What the store for large collections costs and loses: LanceDB, one row per prototype, against comparing everything.

    python -m trifocal.bench.store --videos 10000 100000

On the same clustered vectors as `bench.search`. For each number of videos: the time to add them and to build the search
index, bytes on the disk, then for several numbers of probes the latency of the whole of `StoreIndex.search` (hits,
refinement, exact scores of the best videos) and the recall of the exact best ten videos, which `ExactIndex` gives.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal import __version__
from trifocal.bench.vectors import DIM, K, clustered_queries, clustered_videos
from trifocal.retrieval import ExactIndex, StoreIndex, VideoFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval import Moment

__all__ = ["main", "measure"]


def measure(videos: int, *, folder: Path, queries: int, shares: Sequence[float], refine: int) -> dict[str, Any]:
    """Make a store of `videos` videos and an exact index beside it, and compare.

    Args:
        videos: how many.
        folder: for both; left to the caller to delete.
        queries: how many are timed.
        shares: parts of the partitions to probe.
        refine: how many times as many hits are compared exactly.
    """
    exact = ExactIndex.build(folder / "exact", clustered_videos(videos), encoder="clustered", dim=DIM)
    asked = clustered_queries(queries, videos=videos)
    right = [_videos(exact.search(query)) for query in asked]
    store = StoreIndex.create(folder / "store", encoder="clustered", dim=DIM)
    row: dict[str, Any] = {"videos": videos, "prototypes": videos * K, "dim": DIM, "queries": queries}
    started = time.perf_counter()
    store.add(clustered_videos(videos))
    row["add_s"] = round(time.perf_counter() - started, 1)
    started, worked = time.perf_counter(), time.process_time()
    store.optimize()
    row["optimize_s"] = round(time.perf_counter() - started, 1)
    row["optimize_cpu_s"] = round(time.process_time() - worked, 1)
    files = [path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file()]
    row["bytes_per_video"] = round(sum(files) / videos)
    row["partitions"] = store.partitions()
    row["ways"] = []
    for share in shares:
        probes = max(1, round(share * (row["partitions"] or 1)))
        way = _timed(store, asked, right, probes=probes, refine=refine)
        row["ways"].append({"probes": probes, "share": share, "refine": refine, **way})
    row["all_rows"] = _timed(store, asked[: max(3, queries // 10)], right, exact=True)
    where = VideoFilter(folder="/videos/3")
    filtered = [_videos(exact.search(query, where=where)) for query in asked]
    row["in_a_folder_of_a_tenth"] = _timed(store, asked, filtered, where=where)
    row["resident_mb"] = _resident_mb()
    return row


def _timed(store: StoreIndex, asked: NDArray[np.float32], right: list[set[str]], **options: Any) -> dict[str, float]:
    search: Callable[[NDArray[np.float32]], list[Moment]] = partial(store.search, **options)
    search(asked[0])
    wall, cpu, recall = [], [], []
    for query, wanted in zip(asked, right, strict=False):
        started, worked = time.perf_counter(), time.process_time()
        found = search(query)
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - worked))
        recall.append(len(_videos(found) & wanted) / max(1, len(wanted)))
    return {
        "p50_ms": round(float(np.percentile(wall, 50)), 2),
        "p95_ms": round(float(np.percentile(wall, 95)), 2),
        "cpu_p50_ms": round(float(np.percentile(cpu, 50)), 2),
        "recall_at_10": round(float(np.mean(recall)), 4),
    }


def _videos(moments: list[Moment]) -> set[str]:
    return {moment.video for moment in moments}


def _resident_mb() -> int | None:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) // 1000 for line in lines if line.startswith("VmRSS:")]
    return found[0] if found else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the JSON, print the rows."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.store", description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[10_000])
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    parser.add_argument("--refine", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench/store/results.json"))
    options = parser.parse_args(arguments)
    rows = []
    for videos in options.videos:
        folder = Path(tempfile.mkdtemp(prefix="trifocal-store-"))
        try:
            row = measure(videos, folder=folder, queries=options.queries, shares=options.shares, refine=options.refine)
        finally:
            shutil.rmtree(folder)  # 100,000 videos take gigabytes
        rows.append(row)
        print(json.dumps(row), flush=True)
    result = {
        "what": "the store for large collections, clustered vectors",
        "version": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}",
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
