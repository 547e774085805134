"""What decoding costs: sparse sampling against decoding everything, and the price of isolation.

`python -m trifocal.bench.decode --out bench/decode` makes synthetic 1280×720 H.264 videos with short and long groups of
pictures, measures each way of reading them (best of `--repeats`), writes one JSON with the facts of the machine, and
prints a Markdown table. CPU seconds include the decoding process; memory is its peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trifocal import video
from trifocal.bench.machine import machine
from trifocal.video import Sampling

__all__ = ["main", "measure"]

_SIZE = (720, 1280)
_FPS = 30
_WAYS = {
    "every frame": Sampling.every(),
    "every frame, 224 px": Sampling.every(size=(224, 224)),
    "1 frame a second, 224 px": Sampling.at_fps(1, size=(224, 224)),
    "32 uniform, 224 px": Sampling.uniform(32, size=(224, 224)),
    "8 uniform, 224 px": Sampling.uniform(8, size=(224, 224)),
    "1 frame in the middle, 224 px": Sampling.uniform(1, size=(224, 224)),
}


def pictures(count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """A textured scene that pans, with a bright square that moves: neither trivial nor noise to a codec."""
    rng = np.random.default_rng(0)
    height, width = _SIZE
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 4, 3), dtype=np.uint8)
    scene = np.repeat(np.repeat(coarse, 16, 0), 16, 1)  # (736, 5120, 3)
    for index in range(count):
        left = index * 4 % (scene.shape[1] - width)
        picture = scene[:height, left : left + width].copy()
        top, side = (index * 5) % (height - 120), (index * 9) % (width - 120)
        picture[top : top + 120, side : side + 120] = 240
        yield picture


def _walk(path: Path, sampling: Sampling, *, isolated: bool) -> int:
    with video.open(path, isolated=isolated) as opened:
        return sum(len(frames) for frames in opened.stream(sampling))


def measure(path: Path, sampling: Sampling, *, isolated: bool, repeats: int) -> dict[str, Any]:
    """Best wall and CPU seconds of opening, reading and closing, each run in a fresh interpreter.

    Args:
        path: the video.
        sampling: what to read.
        isolated: decode in a separate process.
        repeats: runs.

    Returns:
        `frames`, `wall_s`, `cpu_s` (of this and the decoding process) and `peak_mb` (of the larger of the two).
    """
    runs = []
    for _ in range(repeats):
        arguments = [str(path), json.dumps(sampling.to_json()), str(int(isolated))]
        done = subprocess.run(
            [sys.executable, "-m", "trifocal.bench.decode", "--one", *arguments], check=True, capture_output=True
        )
        runs.append(json.loads(done.stdout))
    best: dict[str, Any] = {name: min(run[name] for run in runs) for name in ("wall_s", "cpu_s", "peak_mb")}
    return {"frames": runs[0]["frames"], **best}


def _one(path: str, sampling: str, isolated: str) -> None:
    wanted = Sampling.from_json(json.loads(sampling))
    before, begin = _cpu_s(), time.perf_counter()
    frames = _walk(Path(path), wanted, isolated=isolated == "1")
    wall = time.perf_counter() - begin
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"frames": frames, "wall_s": wall, "cpu_s": _cpu_s() - before, "peak_mb": peak / 1024}))


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _start_cost(path: Path, repeats: int) -> dict[str, float]:
    spans: dict[str, float] = {}
    for name, isolated in (("probe_isolated_s", True), ("probe_in_process_s", False)):
        runs = []
        for _ in range(max(5, repeats)):
            begin = time.perf_counter()
            video.probe(path, isolated=isolated)
            runs.append(time.perf_counter() - begin)
        spans[name] = min(runs)
    return spans


def _table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| group of pictures | read | isolated | frames | wall s | CPU s | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['gop']} | {r['way']} | {'yes' if r['isolated'] else 'no'} | {r['frames']} | {r['wall_s']:.2f} "
        f"| {r['cpu_s']:.2f} | {r['peak_mb']:.0f} |"
        for r in results
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("bench/decode"), help="folder for the JSON")
    parser.add_argument("--seconds", type=int, default=60, help="length of each video")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each measurement; the best counts")
    parser.add_argument("--one", nargs=3, metavar=("VIDEO", "SAMPLING", "ISOLATED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        _one(*options.one)
        return
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for gop in (15, 60, 250, options.seconds * _FPS):
            path = Path(folder) / f"gop{gop}.mp4"
            video.write_mp4(path, pictures(options.seconds * _FPS), fps=_FPS, gop=gop, preset="superfast", crf=28)
            for way, sampling in _WAYS.items():
                modes = (True, False) if way.startswith(("every", "32")) else (True,)
                for isolated in modes:
                    found = measure(path, sampling, isolated=isolated, repeats=options.repeats)
                    results.append({"gop": gop, "way": way, "isolated": isolated, **found})
        start = _start_cost(path, options.repeats)
    record = {
        "video": {"height": _SIZE[0], "width": _SIZE[1], "fps": _FPS, "seconds": options.seconds, "codec": "h264"},
        "machine": machine("av"),
        "start": start,
        "results": results,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "decode.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(_table(results))
    print(f"\nprobe: {start['probe_isolated_s']:.3f} s isolated, {start['probe_in_process_s']:.3f} s in process")


if __name__ == "__main__":
    main()
