"""What an exact search costs, by number of videos of 32 prototypes, on one thread and on two; and with coarse codes.

    python -m trifocal.bench.search --videos 1000 10000 100000
    python -m trifocal.bench.search --videos 10000 --again exact
    python -m trifocal.bench.search --table

The whole of `ExactIndex.search` is timed (the product, the best prototype of each video, the choice of moments), on
clustered vectors (`vectors`); an exact scan does much the same work on any. With codes, recall is the part of the exact
best ten videos that is found, by length of the shortlist. Beside it, the ways to multiply a half-precision matrix with
one query that were considered. CPU time is given too: on a machine that others use, only that compares.

A row that the file has is not measured again (`kept_rows`), so a run that was cut goes on where it stopped; `--again`
names those (`exact`, `int8`, `binary`) that are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import linear

from trifocal.bench.kept_rows import KeptRows, load, memory_mb
from trifocal.bench.machine import machine
from trifocal.bench.search_runs import add_options, measure_all, recall, timed, videos_of
from trifocal.bench.vectors import DIM, K, clustered_queries, exact_index
from trifocal.retrieval import ExactIndex, VideoFilter
from trifocal.retrieval.index.codes import default_shortlist

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.index.codes import Codes

__all__ = ["main", "measure", "table"]

_KEYS = ("videos", "threads", "codes", "shortlist")
_WAYS_KEYS = ("rows", "threads", "way")


def measure(
    videos: int, *, scratch: Path, threads: Sequence[int], queries: int, shortlists: Sequence[int], kept: KeptRows
) -> Iterator[dict[str, Any]]:
    """Search an index of `videos` videos `queries` times in every way that `kept` has no row for; each row as it comes.

    Args:
        videos: how many.
        scratch: where the index is built, or lies from an earlier run.
        threads: how many cores torch may use, each in turn.
        queries: how many are timed, after one that is not.
        shortlists: lengths of the shortlist of each kind of codes; the default one is added.
        kept: what was measured before.
    """
    ways: list[tuple[Codes | None, int | None]] = [(None, None)]
    kinds: tuple[Codes, ...] = ("int8", "binary")
    for code in kinds:
        ways += [(code, length) for length in sorted({*shortlists, default_shortlist(code, videos)})]
    left = [
        (count, kind, shortlist)
        for count in threads
        for kind, shortlist in ways
        if kept.due(kind or "exact", videos=videos, threads=count, codes=kind, shortlist=shortlist)
    ]
    if not left:
        return
    _, build_s = exact_index(scratch / f"exact-{videos}", videos)
    started = time.perf_counter()
    index = ExactIndex.open(scratch / f"exact-{videos}")
    open_ms = round(1e3 * (time.perf_counter() - started), 1)
    asked = clustered_queries(queries, videos=videos)
    right = [videos_of(index.search(query, codes="none")) for query in asked]
    for count, kind, shortlist in left:
        torch.set_num_threads(count)
        before = load()
        found: dict[int, set[str]] = {}
        times = timed(partial(_search, index, asked, kind, shortlist, found), repeats=queries)
        row = {
            "videos": videos,
            "prototypes": videos * K,
            "dim": DIM,
            "threads": count,
            "codes": kind,
            "shortlist": shortlist,
            "is_default": kind is None or shortlist == default_shortlist(kind, videos),
            "queries": queries,
            **times,
            "recall_at_10": recall(found, right),
            "bytes": _bytes(index, kind),
            "build_with_all_codes_s": build_s,
            "open_ms": open_ms,
            "segments": len(index.manifest.segments),
            "load_before": before,
            **memory_mb(),
        }
        if kind is None:
            row |= _narrowed(index, asked, videos=videos, queries=queries)
        yield {**row, "load_after": load()}


def _search(
    index: ExactIndex,
    asked: NDArray[np.float32],
    kind: Codes | None,
    shortlist: int | None,
    found: dict[int, set[str]],
    place: int,
) -> None:
    found[place] = videos_of(index.search(asked[place], codes=kind or "none", shortlist=shortlist))


def _bytes(index: ExactIndex, kind: Codes | None) -> int:
    """What the index takes on the disk when these are its only codes."""
    others = {"int8", "binary"} - {kind}
    files = [segment.files.items() for segment in index.manifest.segments]
    return sum(stored.bytes for segment in files for name, stored in segment if name not in others)


def _narrowed(index: ExactIndex, asked: NDArray[np.float32], *, videos: int, queries: int) -> dict[str, Any]:
    """The exact search among some videos, and of several queries at once."""
    some = index.videos[:: max(1, videos // 100)]
    where = VideoFilter(folder="/videos/3")
    batch = asked[:16]
    many = timed(lambda _: index.search_many(batch), repeats=max(2, queries // 16))
    return {
        "among_100_videos": timed(lambda i: index.search(asked[i], videos=some), repeats=queries),
        "without_100_videos": timed(lambda i: index.search(asked[i], without=some), repeats=queries),
        "in_a_folder_of_a_tenth": timed(lambda i: index.search(asked[i], where=where), repeats=queries),
        "in_batches_of_16_ms_per_query": round(many["p50_ms"] / len(batch), 2),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| videos | threads | codes, shortlist | p50 | p95 | CPU p50 | recall@10 | on disk | memory* | build |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        codes = "exact" if row["codes"] is None else f"{row['codes']}, {row['shortlist']:,}"
        codes += " (default)" if row["codes"] is not None and row["is_default"] else ""
        lines.append(
            f"| {row['videos']:,} | {row['threads']} | {codes} | {row['p50_ms']:.1f} ms | {row['p95_ms']:.1f} ms |"
            f" {row['cpu_p50_ms']:.1f} ms | {row['recall_at_10']:.3f} | {row['bytes'] / 1e6:,.0f} MB |"
            f" {row.get('anonymous_mb', 0):,} MB | {row['build_with_all_codes_s']:.1f} s |"
        )
    return "\n".join(lines)


def compare(rows: int, *, threads: int, repeats: int, kept: KeptRows) -> Iterator[dict[str, Any]]:
    """Ways to multiply a half-precision matrix (rows, 384) with one query, and their largest error; those not kept."""
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
        "torch, float16 as it is, by oneDNN": lambda _: linear(vector.half()[None], matrix)[0].float().numpy(),
        "torch, bfloat16 (other vectors, same bytes)": lambda _: torch.mv(brain, vector.bfloat16()).float().numpy(),
        "torch, float32 (twice the bytes)": lambda _: torch.mv(full, vector).numpy(),
    }
    for name, run in ways.items():
        if kept.due(name, rows=rows, threads=threads, way=name):
            error = float(f"{np.abs(run(0) - exact).max():.1e}")
            yield {
                "way": name,
                "rows": rows,
                "threads": threads,
                "largest_error": error,
                **timed(run, repeats=repeats),
            }


def _unit_rows(rows: int, *, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not there yet, write the JSON, print the rows; or print the table."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.search", description=__doc__.splitlines()[0])
    add_options(parser, videos=[1000, 10_000], out="bench/search/results.json")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shortlists", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--no-ways", action="store_true", help="leave out the ways to multiply")
    options = parser.parse_args(arguments)
    if unknown := set(options.again) - {"exact", "int8", "binary"}:
        parser.error(f"--again {' '.join(sorted(unknown))}: the ways are exact, int8, binary")
    measure_all(
        options,
        lambda videos, scratch, kept: measure(
            videos,
            scratch=scratch,
            threads=options.threads,
            queries=options.queries,
            shortlists=options.shortlists,
            kept=kept,
        ),
        what="latency of the exact search, clustered vectors",
        keys=_KEYS,
        table=table,
    )
    if options.table:
        return
    ways = KeptRows(
        options.out.with_name("ways.json"), what="ways to multiply in half precision", keys=_WAYS_KEYS, about=machine()
    )
    count = min(max(options.videos), 10_000) * K
    for threads in [] if options.no_ways else options.threads:
        for row in compare(count, threads=threads, repeats=max(5, options.queries // 4), kept=ways):
            ways.add(row)
            print(f"{row['threads']} {row['way']:48} {row['p50_ms']:8.2f} ms  error {row['largest_error']:.1e}")


if __name__ == "__main__":
    main()
