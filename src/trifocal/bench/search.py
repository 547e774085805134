"""What an exact search costs, by number of videos of 32 prototypes, on one thread and on two; and with coarse codes.

    python -m trifocal.bench.search
    python -m trifocal.bench.search --videos 100000 --codes int8 binary

The whole of `ExactIndex.search` is timed (the product, the best prototype of each video, the choice of moments), on
clustered vectors (`vectors`); an exact scan does much the same work on any. With codes, recall is the part of the exact
best ten videos that is found. Beside it, the ways to multiply a half-precision matrix with one query that were
considered. CPU time is given too: on a machine that others use, only that compares.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trifocal import __version__
from trifocal.bench.vectors import DIM, K, clustered_queries, clustered_videos
from trifocal.retrieval import ExactIndex, VideoFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.index.codes import Codes

__all__ = ["main", "measure"]


def measure(videos: int, *, folder: Path, threads: int, queries: int, codes: Sequence[Codes] = ()) -> dict[str, Any]:
    """Build an index of `videos` videos in `folder` (or use the one there) and search it `queries` times."""
    torch.set_num_threads(threads)
    row: dict[str, Any] = {"videos": videos, "prototypes": videos * K, "dim": DIM, "threads": threads}
    if (folder / "manifest.json").exists():
        index = ExactIndex.open(folder)
    else:
        started = time.perf_counter()
        index = ExactIndex.build(folder, clustered_videos(videos), encoder="clustered", dim=DIM, codes=codes)
        row["build_s"] = round(time.perf_counter() - started, 2)
    before = _resident_mb()
    started = time.perf_counter()
    index = ExactIndex.open(folder)
    row["open_ms"] = round(1e3 * (time.perf_counter() - started), 1)
    row["bytes_per_video"] = round(sum(p.stat().st_size for p in folder.iterdir()) / videos)
    row["segments"] = len(index.manifest.segments)
    asked = clustered_queries(queries + 3, videos=videos)
    for query in asked[:3]:
        index.search(query)
    row.update(_timed(lambda i: index.search(asked[3 + i]), repeats=queries))
    # Of what is resident, the mapped files can be given back at any time; the rest cannot.
    row["resident_mb"], row["resident_before_mb"] = _resident_mb(), before
    row["anonymous_mb"] = _resident_mb("RssAnon")
    some = index.videos[:: max(1, videos // 100)]
    row["among_100_videos"] = _timed(lambda i: index.search(asked[3 + i], videos=some), repeats=queries)
    where = VideoFilter(folder="/videos/3")
    row["in_a_folder_of_a_tenth"] = _timed(lambda i: index.search(asked[3 + i], where=where), repeats=queries)
    batch = asked[3 : 3 + 16]
    many = _timed(lambda _: index.search_many(batch), repeats=max(2, queries // 16))
    row["in_batches_of_16_ms_per_query"] = round(many["p50_ms"] / len(batch), 2)
    for kind in codes:
        for shortlist in (10, 200):
            found = _timed(partial(_coded, index, asked[3:], kind, shortlist), repeats=queries)
            recall = index.recall(asked[3 : 3 + queries], codes=kind, shortlist=shortlist)
            row[f"{kind}, shortlist {shortlist}"] = {**found, "recall_at_10": round(recall, 4)}
    return row


def _coded(index: ExactIndex, asked: NDArray[np.float32], kind: Codes, shortlist: int, place: int) -> object:
    return index.search(asked[place], codes=kind, shortlist=shortlist)


def _resident_mb(what: str = "VmRSS") -> int | None:
    """This process's memory as Linux counts it, in MB; None elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) // 1000 for line in lines if line.startswith(f"{what}:")]
    return found[0] if found else None


def compare(rows: int, *, threads: int, repeats: int) -> list[dict[str, Any]]:
    """Ways to multiply a half-precision matrix (rows, 384) with one query, and their largest error."""
    torch.set_num_threads(threads)
    half = _unit_rows(rows, seed=2).astype(np.float16)
    query = _unit_rows(1, seed=3)[0]
    exact = half.astype(np.float64) @ query
    matrix, vector = torch.from_numpy(half), torch.from_numpy(query)
    scores = torch.empty(rows)

    def blocks(block: int) -> Callable[[int], NDArray[np.float32]]:
        wide = torch.empty(block, DIM)

        def run(_: int) -> NDArray[np.float32]:
            for start in range(0, rows, block):
                part = matrix[start : start + block]
                scores[start : start + block] = (vector[None] @ wide[: len(part)].copy_(part).T)[0]
            return scores.numpy()

        return run

    def numpy_blocks(_: int) -> NDArray[np.float32]:
        return np.concatenate([half[i : i + 4096].astype(np.float32) @ query for i in range(0, rows, 4096)])

    full, brain = matrix.float(), matrix.bfloat16()
    ways: dict[str, Callable[[int], NDArray[np.float32]]] = {
        "numpy, float16 widened in blocks of 4096": numpy_blocks,
        **{f"torch, float16 widened in blocks of {block}": blocks(block) for block in (512, 1024, 4096, 16384)},
        "torch, float16 as it is": lambda _: torch.mv(matrix, vector.half()).float().numpy(),
        "torch, bfloat16 (other vectors, same bytes)": lambda _: torch.mv(brain, vector.bfloat16()).float().numpy(),
        "torch, float32 (twice the bytes)": lambda _: torch.mv(full, vector).numpy(),
    }
    return [
        {
            "way": name,
            "rows": rows,
            "threads": threads,
            "largest_error": float(f"{np.abs(run(0) - exact).max():.1e}"),
            **_timed(run, repeats=repeats),
        }
        for name, run in ways.items()
    ]


def _timed(run: Callable[[int], object], *, repeats: int) -> dict[str, float]:
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


def _unit_rows(rows: int, *, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the JSON, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.search", description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--codes", choices=["int8", "binary"], nargs="*", default=["int8", "binary"])
    parser.add_argument("--no-ways", action="store_true", help="leave out the ways to multiply")
    parser.add_argument("--out", type=Path, default=Path("bench/search/results.json"))
    options = parser.parse_args(arguments)
    searches, ways = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for videos in options.videos:
            for threads in options.threads:
                folder = Path(scratch) / str(videos)
                row = measure(videos, folder=folder, threads=threads, queries=options.queries, codes=options.codes)
                searches.append(row)
                print(json.dumps(row), flush=True)
            shutil.rmtree(Path(scratch) / str(videos))  # 100,000 videos take gigabytes
    for threads in [] if options.no_ways else options.threads:
        for row in compare(min(max(options.videos), 10_000) * K, threads=threads, repeats=max(5, options.queries // 4)):
            ways.append(row)
            print(f"{row['threads']} {row['way']:48} {row['p50_ms']:8.2f} ms  error {row['largest_error']:.1e}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "what": "latency of the exact search, clustered vectors",
        "version": __version__,
        "machine": f"{platform.machine()}, {platform.python_version()}, torch {torch.__version__}",
        "searches": searches,
        "ways": ways,
    }
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
