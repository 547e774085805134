"""What the store for large collections costs and loses: LanceDB, one row per prototype, against comparing everything.

    python -m trifocal.bench.store --videos 10000 100000
    python -m trifocal.bench.store --videos 10000 --again "folder of a tenth" "named tenth"
    python -m trifocal.bench.store --table

On the same clustered vectors as `bench.search`. For each number of videos: the time to add them and to build the search
index, bytes on the disk, then the latency of the whole of `StoreIndex.search` (hits, refinement, exact scores of the
best videos) and the recall of the exact best ten videos, which `ExactIndex` gives: comparing every row, for several
numbers of probes, and narrowed to some videos. Last, what it takes to erase ten videos.

A row that the file has is not measured again (`kept_rows`), so a run that was cut goes on where it stopped; `--again`
names those that are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.bench.kept_rows import load, memory_mb
from trifocal.bench.search_runs import add_options, measure_all, recall, timed, videos_of
from trifocal.bench.vectors import DIM, Drawn, K, clustered_queries, clustered_videos, exact_index
from trifocal.retrieval import StoreIndex, VideoFilter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trifocal.bench.kept_rows import KeptRows

__all__ = ["main", "measure", "table"]

_KEYS = ("videos", "way")
_ERASED = 10


def measure(
    videos: int, *, scratch: Path, queries: int, shares: Sequence[float], refine: int, kept: KeptRows
) -> Iterator[dict[str, Any]]:
    """Search a store of `videos` videos in every way that `kept` has no row for; each row as it comes.

    Args:
        videos: how many.
        scratch: where the store and the exact index beside it are made, or lie from an earlier run.
        queries: how many are timed, after one that is not; a fifth of them where every row is compared.
        shares: parts of the partitions to probe; without a search index there is nothing to probe.
        refine: how many times as many hits are compared exactly.
        kept: what was measured before.
    """
    if not any(kept.due(name, videos=videos, way=name) for name in _ways(shares)):
        return
    exact, _ = exact_index(scratch / f"exact-{videos}", videos)
    store, made = _store(scratch / f"store-{videos}", videos)
    partitions = store.partitions()
    asked = clustered_queries(queries, videos=videos)
    right = [videos_of(exact.search(query)) for query in asked]

    def row(name: str, **values: Any) -> dict[str, Any]:
        known = {"videos": videos, "prototypes": videos * K, "dim": DIM, "partitions": partitions, **made}
        return {"way": name, **known, **values, **memory_mb(), "load_after": load()}

    few = max(3, queries // 5)
    plans: dict[str, Callable[[], dict[str, Any]]] = {
        "flat": lambda: _timed(store, asked[:few], right[:few], exact=True)
    }
    for share in shares:
        probes = max(1, round(share * (partitions or 1)))
        plans[f"probes {share:g}"] = lambda probes=probes: {  # type: ignore[misc]
            "probes": probes,
            "refine": refine,
            **_timed(store, asked, right, probes=probes, refine=refine),
        }
    for name in _NARROWED:
        options = _narrowed(name, videos)
        plans[name] = lambda options=options: _timed(  # type: ignore[misc]
            store, asked, [videos_of(exact.search(query, **options)) for query in asked], **options
        )
    plans[f"erase {_ERASED} videos"] = lambda: _erased(store, videos)
    for name, run in plans.items():  # erasing last: it changes the store
        if kept.due(name, videos=videos, way=name):
            before = load()
            yield row(name, load_before=before, **run())


def _ways(shares: Sequence[float]) -> list[str]:
    return ["flat", *(f"probes {share:g}" for share in shares), *_NARROWED, f"erase {_ERASED} videos"]


_NARROWED = ("folder of a tenth", "named tenth", "without 100 videos", "without a tenth")


def _narrowed(name: str, videos: int) -> dict[str, Any]:
    """The options of a search that looks in some videos alone."""
    if name == "folder of a tenth":
        return {"where": VideoFilter(folder="/videos/3")}
    tenth = [f"{number:08d}" for number in range(0, videos, 10)]
    if name == "named tenth":
        return {"videos": tenth}
    return {"without": tenth[:100] if name == "without 100 videos" else tenth}


def _store(folder: Path, videos: int) -> tuple[StoreIndex, dict[str, Any]]:
    """The store, made unless it lies there whole, and what making it took."""
    about = _about(folder)
    if not about.exists():
        shutil.rmtree(folder, ignore_errors=True)
        store = StoreIndex.create(folder, encoder="clustered", dim=DIM)
        items, started = Drawn(clustered_videos(videos)), time.perf_counter()
        store.add(items)
        add_s = time.perf_counter() - started - items.seconds
        started, worked = time.perf_counter(), time.process_time()
        store.optimize()
        made = {
            "add_s": round(add_s, 1),
            "optimize_s": round(time.perf_counter() - started, 1),
            "optimize_cpu_s": round(time.process_time() - worked, 1),
            "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "making_resident_mb": memory_mb().get("resident_mb", 0),
        }
        about.write_text(json.dumps(made) + "\n", encoding="utf-8")
    return StoreIndex.open(folder), json.loads(about.read_text(encoding="utf-8"))


def _about(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _erased(store: StoreIndex, videos: int) -> dict[str, Any]:
    """Seconds to take a few videos out of the store so that nothing of them is left."""
    _about(Path(store.uri)).unlink()  # it is no longer the store that the searches are measured on
    names = [f"{number:08d}" for number in range(1, videos, max(1, videos // _ERASED))][:_ERASED]
    started, worked = time.perf_counter(), time.process_time()
    gone = store.erase(names)
    cpu_s = time.process_time() - worked
    return {"erased": gone, "erase_s": round(time.perf_counter() - started, 2), "erase_cpu_s": round(cpu_s, 2)}


def _timed(store: StoreIndex, asked: NDArray[np.float32], right: list[set[str]], **options: Any) -> dict[str, Any]:
    found: dict[int, set[str]] = {}

    def search(place: int) -> None:
        found[place] = videos_of(store.search(asked[place], **options))

    return {
        "queries": len(asked),
        **timed(search, repeats=len(asked)),
        "recall_at_10": recall(found, right),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, searches first, then what was done once for each number of videos."""
    lines = [
        "| videos | way | p50 | p95 | CPU p50 | recall@10 |",
        "|---|---|---|---|---|---|",
    ]
    once = [
        "",
        "| videos | partitions | add | build the index | on disk | memory | erase 10 videos |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "p50_ms" in row:
            way = f"IVF_RQ, {row['probes']} probes, refine {row['refine']}" if "probes" in row else row["way"]
            lines.append(
                f"| {row['videos']:,} | {way} | {row['p50_ms']:.1f} ms | {row['p95_ms']:.1f} ms |"
                f" {row['cpu_p50_ms']:.1f} ms | {row['recall_at_10']:.3f} |"
            )
        else:
            once.append(
                f"| {row['videos']:,} | {row['partitions']} | {row['add_s']} s |"
                f" {row['optimize_s']} s ({row['optimize_cpu_s']} s CPU) | {row['bytes'] / 1e6:,.0f} MB |"
                f" {row.get('resident_mb', 0):,} MB | {row['erase_s']} s ({row['erase_cpu_s']} s CPU) |"
            )
    return "\n".join(lines + once)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not there yet, write the JSON, print the rows; or print the table."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.store", description=__doc__.splitlines()[0])
    add_options(parser, videos=[10_000], out="bench/store/results.json")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    parser.add_argument("--refine", type=int, default=2)
    options = parser.parse_args(arguments)
    if unknown := set(options.again) - set(_ways(options.shares)):
        parser.error(f"--again {', '.join(sorted(unknown))}: the ways are {', '.join(_ways(options.shares))}")
    measure_all(
        options,
        lambda videos, scratch, kept: measure(
            videos,
            scratch=scratch,
            queries=options.queries,
            shares=options.shares,
            refine=options.refine,
            kept=kept,
        ),
        what="the store for large collections, clustered vectors",
        keys=_KEYS,
        packages=["lancedb"],
        table=table,
    )


if __name__ == "__main__":
    main()
