"""The BigFile layout of the MS-SL line: all rows of all videos in one file without a header, memory-mapped.

feature.bin          float32, row-major
id.txt               the rows' ids in order, separated by blanks
shape.txt            "N D"
video2frames.txt     a Python dict literal, video -> its rows' ids in order (parsed by `literal.py`, never run)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.features import absent, checked_rows
from trifocal.retrieval.data.literal import parse_video_frames
from trifocal.retrieval.data.reading import existing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BigFileRows", "write_bigfile"]

_LARGEST_TEXT = 4 << 30


class BigFileRows:
    """Features of videos in a BigFile folder; a `RowSource`.

    Args:
        folder: with the four files of the module's map.

    Raises:
        InvalidInput: a file is missing, or they contradict each other; the error names the file, and the line where
            there is one.
    """

    def __init__(self, folder: Path | str) -> None:
        """Map the rows and read who owns which."""
        self.folder = Path(folder)
        path = existing(self.folder / "feature.bin", what="the rows of a BigFile")
        count, self.dim = _shape(self.folder / "shape.txt")
        size, wanted = path.stat().st_size, count * self.dim * 4
        if size != wanted:
            raise InvalidInput(
                f"{path} has {size} bytes, and shape.txt says {count} rows of {self.dim} floats, {wanted} bytes",
                remedy="Copy both files again.",
            )
        names = _text(self.folder / "id.txt").split()
        if len(names) != count:
            raise InvalidInput(
                f"{self.folder / 'id.txt'} has {len(names)} ids, and shape.txt says {count} rows",
                remedy="Copy both files again.",
            )
        places = {name: place for place, name in enumerate(names)}
        listing = self.folder / "video2frames.txt"
        self._places: dict[str, NDArray[np.int64]] = {}
        for video, frames in parse_video_frames(_text(listing), path=listing).items():
            lost = [frame for frame in frames if frame not in places]
            if lost:
                raise InvalidInput(
                    f"{listing}: {video!r} has the frame {lost[0]!r}, which id.txt does not list",
                    remedy="Copy both files again.",
                )
            self._places[video] = np.array([places[frame] for frame in frames], dtype=np.int64)
        self._rows = np.memmap(path, dtype="<f4", mode="r", shape=(count, self.dim))

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"BigFileRows({self.folder.name!r}, {len(self._places)} videos, dim={self.dim})"

    def ids(self) -> Iterable[str]:
        """See `RowSource`."""
        return self._places.keys()

    def __contains__(self, name: str, /) -> bool:
        """See `RowSource`."""
        return name in self._places

    def read(self, name: str) -> NDArray[np.float32]:
        """See `RowSource`."""
        if name not in self._places:
            raise absent(str(self.folder), name)
        return checked_rows(np.asarray(self._rows[self._places[name]]), where=f"{name!r} in {self.folder}")

    def count(self, name: str) -> int:
        """See `RowSource`."""
        if name not in self._places:
            raise absent(str(self.folder), name)
        return len(self._places[name])


def write_bigfile(folder: Path | str, rows: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the layout that `BigFileRows` reads.

    Args:
        folder: made where missing.
        rows: (n, D) by video, of one width; ids without blanks.

    Raises:
        InvalidInput: nothing to write, widths that differ, an id with a blank in it.
    """
    target = Path(folder)
    widths = {one.shape[1] for one in rows.values()}
    if len(widths) != 1:
        raise InvalidInput(f"rows have the widths {sorted(widths)}", remedy="Give at least one video, all of a width.")
    odd = [video for video in rows if len(video.split()) != 1 or video.split() != [video]]
    if odd:
        raise InvalidInput(f"the video id {odd[0]!r} has a blank in it", remedy="This format needs ids without.")
    frames = {video: [f"{video}_{place}" for place in range(len(one))] for video, one in rows.items()}
    names = [name for ids in frames.values() for name in ids]
    target.mkdir(parents=True, exist_ok=True)
    with (target / "feature.bin").open("wb") as file:
        for one in rows.values():
            file.write(np.ascontiguousarray(one, dtype="<f4").tobytes())
    (target / "id.txt").write_text(" ".join(names), encoding="utf-8")
    (target / "shape.txt").write_text(f"{len(names)} {widths.pop()}", encoding="utf-8")
    (target / "video2frames.txt").write_text(repr(frames), encoding="utf-8")


def _shape(path: Path) -> tuple[int, int]:
    parts = _text(path).split()
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InvalidInput(f"{path}, line 1: is {' '.join(parts)!r:.60}", remedy="Give 'N D', two whole numbers.")
    return int(parts[0]), int(parts[1])


def _text(path: Path) -> str:
    found = existing(path, what="part of a BigFile")
    size = found.stat().st_size
    if size > _LARGEST_TEXT:
        raise InvalidInput(f"{found} has {size} bytes", remedy=f"Give a file of at most {_LARGEST_TEXT}.")
    try:
        return found.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return found.read_text(encoding="latin-1")  # old feature sets were written so; every byte is a character
