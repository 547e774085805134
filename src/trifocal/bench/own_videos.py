"""Own videos end to end: does the clip that `trifocal find` writes for a caption show the caption's moment?

    runs/own_videos.sh FOLDER                                             # makes, trains, adds, then calls this
    python -m trifocal.bench.own_videos VIDEOS --library LIBRARY --work FOLDER

Every moment of `VIDEOS/captions.csv` that fills at most half of its video asks once, in its first wording, through the
command line: in all videos of the library, and in its own video alone. Each clip that is written is held against the
truth (does it overlap the moment, and by how much) and against the video (is its middle frame the one that the video
shows at that time). A clip of the same length at a place drawn evenly over the video is the chance.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trifocal import __version__, video
from trifocal.retrieval.data import Caption, read_own

__all__ = ["Asked", "by_chance", "check_clip", "main", "overlap", "summary", "to_ask"]

LARGEST_SHARE = 0.5
# Mean difference of 8-bit values that another round of compression leaves.
SAME_FRAME = 6.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One caption, and what came of it.

    Args:
        caption: the query, with its video and moment.
        found: the first moment as `trifocal find --format json` tells it; None where there was none.
        duration_s: of the caption's video.
    """

    caption: Caption
    found: Mapping[str, Any] | None
    duration_s: float

    @property
    def right_video(self) -> bool:
        """Whether the moment is in the caption's video."""
        return self.found is not None and Path(self.found["path"]).name == Path(self.caption.video).name


def to_ask(captions: Sequence[Caption], durations_s: Mapping[str, float]) -> list[Caption]:
    """One caption a moment, the first; none of a moment that fills over half its video, nor of a text that came before.

    Args:
        captions: with moments.
        durations_s: by video.
    """
    chosen: dict[tuple[str, float, float], Caption] = {}
    texts: set[str] = set()
    for one in captions:
        start, end = one.moments_s[0]
        key = (one.video, start, end)
        short = end - start <= LARGEST_SHARE * durations_s[one.video]
        if short and key not in chosen and one.text not in texts:
            chosen[key] = one
            texts.add(one.text)
    return list(chosen.values())


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Intersection over union of two stretches of time, 0 to 1."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, shared) / (max(one[1], other[1]) - min(one[0], other[0]))


def by_chance(length_s: float, moment: tuple[float, float], *, duration_s: float) -> float:
    """The chance that a stretch of that length, placed evenly within the video, overlaps the moment."""
    room = duration_s - length_s
    if room <= 0:
        return 1.0
    return max(0.0, min(room, moment[1]) - max(0.0, moment[0] - length_s)) / room


def check_clip(clip: Path, source: Path, *, start_s: float) -> tuple[float, float]:
    """How far the clip's middle frame is from the video's at that time, and how long the clip lasts.

    Args:
        clip: what was written.
        source: the video that it was cut out of.
        start_s: where in the video it should begin.

    Returns:
        The mean difference of 8-bit values, and seconds.
    """
    with video.open(clip) as opened:
        length_s = float(opened.info.duration_s)
        shown = opened.read(video.Sampling.at_times([length_s / 2]))
    with video.open(source) as opened:
        expected = opened.read(video.Sampling.at_times([start_s + length_s / 2], size=shown.images.shape[1:3]))
    return float(np.abs(shown.images[0].astype(np.int16) - expected.images[0]).mean()), length_s


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """The figures over all captions: videos found, clips that overlap and by chance would, and clips that are right.

    Args:
        asked: at least one.
    """
    ious, chances, differences = [], [], []
    for one in asked:
        if one.found is None or not one.right_video:
            continue
        clip, source = Path(one.found["clip"]), Path(one.found["path"])
        start_s = float(one.found["start_s"])
        difference, length_s = check_clip(clip, source, start_s=start_s)
        (moment,) = one.caption.moments_s
        ious.append(overlap((start_s, start_s + length_s), moment))
        chances.append(by_chance(length_s, moment, duration_s=one.duration_s))
        differences.append(difference)
    return {
        "captions": len(asked),
        "in_the_right_video": len(ious),
        "overlap": sum(value > 0 for value in ious),
        "overlap_by_chance": round(float(np.sum(chances)), 1),
        "mean_iou": round(float(np.mean(ious)), 4) if ious else 0.0,
        "frame_as_in_the_video": sum(value <= SAME_FRAME for value in differences),
        "largest_difference": round(max(differences, default=0.0), 2),
    }


def _find(queries: Sequence[str], *, library: Path, work: Path, within: Path | None) -> list[dict[str, Any] | None]:
    """The first moment of every query, with its clip, by the command line."""
    work.mkdir(parents=True, exist_ok=True)
    listed = work / "queries.txt"
    listed.write_text("\n".join(queries) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "trifocal", "find", "--queries", str(listed), "--library", str(library)]
    command += ["--top", "1", "--clips", str(work / "clips"), "--format", "json"]
    command += [] if within is None else ["--in", str(within)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {one["query"]: one["moments"] for one in json.loads(printed)}
    return [found[query][0] if found[query] else None for query in queries]


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, check, write the JSON, and print it."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.own_videos", description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, help="a folder of `trifocal playground make`")
    parser.add_argument("--library", type=Path, required=True, help="the library that the videos were added to")
    parser.add_argument("--work", type=Path, required=True, help="where queries and clips go")
    parser.add_argument("--out", type=Path, default=Path("bench/own_videos/results.json"))
    options = parser.parse_args(arguments)
    captions = [one for part in read_own(options.videos / "captions.csv").values() for one in part]
    durations_s = {}
    for name in {one.video for one in captions}:
        with video.open(options.videos / name) as opened:
            durations_s[name] = float(opened.info.duration_s)
    chosen = to_ask(captions, durations_s)
    everywhere = _find([one.text for one in chosen], library=options.library, work=options.work / "all", within=None)
    within: dict[str, dict[str, Any] | None] = {}
    for name in dict.fromkeys(one.video for one in chosen):
        mine = [one for one in chosen if one.video == name]
        work = options.work / Path(name).stem
        texts = [one.text for one in mine]
        found = _find(texts, library=options.library, work=work, within=options.videos / name)
        within |= dict(zip([one.id for one in mine], found, strict=True))
    document = {
        "version": __version__,
        "videos": len(durations_s),
        "in_all_videos": summary(
            [Asked(one, found, durations_s[one.video]) for one, found in zip(chosen, everywhere, strict=True)]
        ),
        "in_its_own_video": summary([Asked(one, within[one.id], durations_s[one.video]) for one in chosen]),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
