"""What an exact search costs: 1,000 and 10,000 videos of 32 prototypes, on one thread and on two.

    python -m trifocal.bench.search

The whole of `ExactIndex.search` is timed (the product, the best prototype of each video, the choice of moments), on
random unit vectors: an exact scan does the same work on any. Beside it, the ways to multiply a half-precision matrix
with one query that were considered. CPU time is given too: on a machine that others use, only that compares.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trifocal import __version__
from trifocal.retrieval import ExactIndex, Prototypes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["main", "measure"]

DIM, K = 384, 32


def measure(videos: int, *, folder: Path, threads: int, queries: int) -> dict[str, Any]:
    """Build an index of `videos` videos in `folder` (or use the one there) and search it `queries` times."""
    torch.set_num_threads(threads)
    row: dict[str, Any] = {"videos": videos, "prototypes": videos * K, "dim": DIM, "threads": threads}
    if (folder / "manifest.json").exists():
        index = ExactIndex.open(folder)
    else:
        started = time.perf_counter()
        index = ExactIndex.build(folder, _random_videos(videos), encoder="random", dim=DIM)
        row["build_s"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    ExactIndex.open(folder)
    row["open_ms"] = round(1e3 * (time.perf_counter() - started), 1)
    row["bytes_per_video"] = round(sum(p.stat().st_size for p in folder.iterdir()) / videos)
    asked = _unit_rows(queries + 3, seed=1)
    for query in asked[:3]:
        index.search(query)
    row.update(_timed(lambda i: index.search(asked[3 + i]), repeats=queries))
    some = index.videos[:: max(1, videos // 100)]
    row["among_100_videos"] = _timed(lambda i: index.search(asked[3 + i], videos=some), repeats=queries)
    return row


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


def _random_videos(count: int) -> Iterator[tuple[str, Prototypes]]:
    edges = np.arange(K + 1, dtype=np.float32) * 2
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    for number in range(count):
        vectors = _unit_rows(K, seed=1000 + number).astype(np.float16)
        yield f"{number:08d}", Prototypes(vectors=vectors, spans_s=spans)


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
    parser.add_argument("--out", type=Path, default=Path("bench/search/results.json"))
    options = parser.parse_args(arguments)
    searches, ways = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for videos in options.videos:
            for threads in options.threads:
                row = measure(videos, folder=Path(scratch) / str(videos), threads=threads, queries=options.queries)
                searches.append(row)
                print(json.dumps(row))
    for threads in options.threads:
        for row in compare(max(options.videos) * K, threads=threads, repeats=max(5, options.queries // 4)):
            ways.append(row)
            print(f"{row['threads']} {row['way']:48} {row['p50_ms']:8.2f} ms  error {row['largest_error']:.1e}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "what": "latency of the exact search",
        "version": __version__,
        "machine": f"{platform.machine()}, {platform.python_version()}, torch {torch.__version__}",
        "searches": searches,
        "ways": ways,
    }
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
