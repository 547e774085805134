"""Does watching a long video need more memory than a short one, and do a file and a stream give the same tubes?

    python -m trifocal.bench.detect_long --minutes 30

A generated minute is written over and over into one video. It is watched once as a file, with the resident memory noted
at every moment, and its first minutes once more through a pipe.
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
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trifocal.action import ActionModel, DetectConfig, WatchConfig, detect, load_action_model
from trifocal.bench.machine import machine
from trifocal.playground import compose, render
from trifocal.video import PipedVideo, cut_clip, write_mp4

__all__ = ["main", "measure"]

FPS = 25.0
SIZE = (240, 320)
CHECKED_S = 120.0
CAT = "import sys, shutil; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1e6


def _frames(minutes: float, piece_s: float, size: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    piece = list(render(compose(7, duration_s=piece_s, size=size, fps=FPS)))
    return chain.from_iterable(repeat(piece, round(minutes * 60 / piece_s)))


def measure(
    folder: Path,
    *,
    minutes: float,
    model: ActionModel,
    every: int,
    piece_s: float = 60.0,
    size: tuple[int, int] = SIZE,
) -> dict[str, Any]:
    """Watch a video of so many minutes.

    Args:
        folder: for the video.
        minutes: how long it is.
        model: what to watch with.
        every: as `WatchConfig.every`.
        piece_s: seconds that are drawn, and written over and over.
        size: height and width.

    Returns:
        Resident megabytes after each tenth of it, seconds of CPU per minute of video, and whether a stream agreed.
    """
    path = folder / "long.mp4"
    write_mp4(path, _frames(minutes, piece_s, size), fps=FPS)
    config = DetectConfig(watch=WatchConfig(every=every))
    noted: list[tuple[float, float]] = []

    def note(at_s: float, end_s: float) -> None:
        if not noted or at_s - noted[-1][0] >= end_s / 100:
            noted.append((at_s, _resident_mb()))

    before = time.process_time()
    report = detect(path, model=model, config=config, progress=note)
    spent = time.process_time() - before
    tenths = np.array_split(np.array([mb for _, mb in noted]), 10)
    return {
        "minutes": minutes,
        "moments": report.moments,
        "tubes": len(report.tubes),
        "resident_mb_by_tenth": [round(float(part.max()), 1) for part in tenths],
        "cpu_s_per_minute": round(spent / minutes, 2),
        "file_equals_stream": _agree(path, folder, model, config),
    }


def _agree(path: Path, folder: Path, model: ActionModel, config: DetectConfig) -> bool:
    clip = folder / "begin.mp4"
    cut_clip(path, clip, start_s=0.0, end_s=CHECKED_S)
    from_file = detect(clip, model=model, config=config, name="x")
    with subprocess.Popen([sys.executable, "-c", CAT, str(clip)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with PipedVideo(process.stdout.fileno()) as stream:
            from_stream = detect(stream, model=model, config=config, name="x")
    return from_file.to_dict() == from_stream.to_dict()


def main(words: list[str] | None = None) -> None:
    """Measure, write the JSON and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, default=Path("bench/detect_long"))
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        row = measure(
            Path(folder), minutes=options.minutes, model=load_action_model(options.model), every=options.every
        )
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine("av"), **row}, indent=2)
    (options.out / "detect_long.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
