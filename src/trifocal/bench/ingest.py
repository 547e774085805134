"""What it costs to add video to a library and to search it, from a file to a moment.

    python -m trifocal.bench.ingest VIDEOS --repeats 3

Each repeat adds the folder to a fresh library in a temporary place; the fastest is kept, since other programs on the
machine only ever add time. Decoding overlaps with encoding, so the stages may sum to more than the whole.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from trifocal import __version__
from trifocal.library import AddReport, Library

__all__ = ["main", "measure"]

QUERY = "a street with cars"
STAGES = ("hash", "decode", "encode", "write")


def measure(videos: Path, *, folder: Path, searches: int = 20) -> dict[str, Any]:
    """Add `videos` to a new library in `folder`, then search it.

    Returns:
        Seconds per minute of video by stage and in all, bytes stored per video, and milliseconds of `find`.
    """
    with Library.create(folder) as library:
        library.encoder().encode_query([QUERY])  # models are loaded once per process, not once per video
        report = library.add(videos)
        took_ms = []
        for _ in range(searches):
            started = time.perf_counter()
            library.find(QUERY)
            took_ms.append(1e3 * (time.perf_counter() - started))
        return _row(report, took_ms, videos=len(library.videos()))


def _row(report: AddReport, took_ms: list[float], *, videos: int) -> dict[str, Any]:
    times = report.times
    minutes = times.video_s / 60
    return {
        "videos": videos,
        "video_s": round(times.video_s, 1),
        "seconds_per_minute": {name: round(value, 2) for name, value in times.per_minute().items()},
        "total_seconds_per_minute": round(times.total_s / minutes, 2),
        "times_real_time": round(times.video_s / times.total_s, 1),
        "stored_bytes_per_video": round(times.stored_bytes / videos),
        "find_ms_median": round(statistics.median(took_ms), 1),
    }


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a folder of videos")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/ingest"))
    arguments = parser.parse_args()
    rows = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(arguments.videos, folder=Path(folder) / "library"))
    best = min(rows, key=lambda row: row["total_seconds_per_minute"])
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        "threads": torch.get_num_threads(),
        "version": __version__,
        "repeats": arguments.repeats,
        "best": best,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("| per minute of video | seconds |\n|---|---|")
    for name in STAGES:
        print(f"| {name} | {best['seconds_per_minute'][name]:.2f} |")
    print(f"| in all | {best['total_seconds_per_minute']:.2f} ({best['times_real_time']}× real time) |")
    print(f"\nstored per video: {best['stored_bytes_per_video']} bytes; find: {best['find_ms_median']} ms")


if __name__ == "__main__":
    main()
