"""A folder of playground videos, as a data set for all three lenses.

Beside the videos and their JSON lie `index.json` (what is there), `captions.csv` (video, start_s, end_s, caption;
one row per sentence) and `questions.jsonl`. The same arguments give the same folder; one that was begun is
finished, and what is already there and identical is left alone. Videos of different collection seeds share nothing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from trifocal.errors import InvalidInput
from trifocal.playground.chance import Chance
from trifocal.playground.compose import compose
from trifocal.playground.spec import SPEC_VERSION, VideoSpec
from trifocal.playground.store import FORMAT, is_written, load, write, write_text

__all__ = ["collection_specs", "make_collection"]

_KEY = 21


def collection_specs(
    *,
    count: int,
    seed: int,
    duration_s: tuple[float, float] = (10.0, 30.0),
    size: tuple[int, int] = (240, 320),
    fps: float = 25.0,
    themes: Sequence[str | None] = (None,),
) -> list[tuple[str, VideoSpec]]:
    """Name and spec of each video of a collection; arguments as in `make_collection`."""
    if not _is_whole(count) or count < 1:
        raise InvalidInput(f"count is {count!r}", remedy="Give a whole number of at least 1.")
    if not _is_whole(seed) or seed < 0:
        raise InvalidInput(f"seed is {seed!r}", remedy="Give a whole number of at least 0.")
    low, high = duration_s
    if not 1.0 <= low <= high:
        raise InvalidInput(f"duration_s is {duration_s}", remedy="Give (shortest, longest), at least 1 second.")
    if not themes:
        raise InvalidInput("themes is empty", remedy="Give theme names; None stands for anything.")
    out = []
    for number in range(count):
        chance = Chance(seed, _KEY, number)
        own, lasts = chance.below(1 << 31), round(chance.between(low, high), 1)
        theme = themes[number % len(themes)]
        slug = "mixed" if theme is None else theme.replace(" ", "-")
        name = f"{number:0{max(3, len(str(count - 1)))}d}-{slug}"
        out.append((name, compose(own, duration_s=lasts, size=size, fps=fps, theme=theme)))
    return out


def make_collection(
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    duration_s: tuple[float, float] = (10.0, 30.0),
    size: tuple[int, int] = (240, 320),
    fps: float = 25.0,
    themes: Sequence[str | None] = (None,),
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Make a folder of videos, or finish one.

    Args:
        folder: made if need be.
        count: of videos.
        seed: of the collection.
        duration_s: shortest and longest.
        size: (height, width) in pixels.
        fps: frames per second.
        themes: taken in turn; None stands for anything.
        progress: called after each video with how many are done, how many there will be, and its name.

    Returns:
        The paths of the mp4 files.

    Raises:
        InvalidInput: an argument is out of range.
    """
    folder = Path(folder)
    specs = collection_specs(count=count, seed=seed, duration_s=duration_s, size=size, fps=fps, themes=themes)
    paths = []
    for number, (name, spec) in enumerate(specs):
        path = folder / f"{name}.json"
        if not is_written(spec, path):
            write(spec, folder, name=name)
        paths.append(path)
        if progress is not None:
            progress(number + 1, count, name)
    _write_lists(folder, paths)
    return [path.with_suffix(".mp4") for path in paths]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _write_lists(folder: Path, paths: Sequence[Path]) -> None:
    index, questions = [], []
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("video", "start_s", "end_s", "caption"))
    for path in paths:
        record = load(path)
        video, spec = record.video.name, record.spec
        index.append(
            {
                "video": video,
                "truth": path.name,
                "seed": spec.seed,
                "theme": spec.theme,
                "duration_s": spec.duration_s,
                "frames": spec.frame_count,
                "captions": len(record.truth.captions),
                "questions": len(record.truth.questions),
            }
        )
        for caption in record.truth.captions:
            rows.writerows((video, caption.start_s, caption.end_s, text) for text in caption.sentences)
        for q in record.truth.questions:
            row = {"video": video, "type": q.type, "question": q.text, "answer": q.answer, "choices": list(q.choices)}
            questions.append(json.dumps(row | {"start_s": q.start_s, "end_s": q.end_s}) + "\n")
    write_text(folder / "captions.csv", (table.getvalue(),))
    write_text(folder / "questions.jsonl", questions)
    document = {"format": f"{FORMAT}-collection", "version": SPEC_VERSION, "videos": index}
    write_text(folder / "index.json", (json.dumps(document, indent=1) + "\n",))
