"""What every engine of the index offers, and the facts by which a search can be narrowed.

`PrototypeIndex` is the interface: add, replace, remove, search, filter, count, verify, export. An `IndexItem` is what
goes in and comes out: a video's id, its prototypes, its `VideoFacts` (folder, date, length) and a stamp that the owner
may use to see whether it is up to date. A `VideoFilter` admits videos by their facts. `check_*` are shared by the
engines, so that both refuse the same things with the same words.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.prototypes import Prototypes  # noqa: TC001 - `NamedTuple` keeps its types

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from trifocal.retrieval.moment import Moment

__all__ = [
    "IndexItem",
    "PrototypeIndex",
    "VideoFacts",
    "VideoFilter",
    "as_items",
    "check_count",
    "check_item",
    "check_queries",
    "check_query",
    "export_items",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """What a filter may ask of a video.

    Args:
        folder: where its file lies, with "/" between the parts; "" when it lies nowhere.
        dated_s: its date in seconds since 1970-01-01 UTC, None when unknown.
        duration_s: its length, None when unknown.

    Raises:
        InvalidInput: a number that is not finite, a negative length.
    """

    folder: str = ""
    dated_s: float | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("dated_s", "duration_s"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InvalidInput(f"{name} is {value}", remedy="Give a finite number or None.")
        if self.duration_s is not None and self.duration_s < 0:
            raise InvalidInput(f"duration_s is {self.duration_s}", remedy="Give a length of at least 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFilter:
    """Which videos a search looks in; everything given must hold, and what is unknown of a video does not hold.

    Args:
        folder: in this folder or one below it.
        after_s: dated at this time or later, seconds since 1970-01-01 UTC.
        before_s: dated before this time.
        shortest_s: at least this long.
        longest_s: at most this long.

    Raises:
        InvalidInput: a number that is not finite.
    """

    folder: str | None = None
    after_s: float | None = None
    before_s: float | None = None
    shortest_s: float | None = None
    longest_s: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for entry in fields(self)[1:]:
            value = getattr(self, entry.name)
            if value is not None and not math.isfinite(value):
                raise InvalidInput(f"{entry.name} is {value}", remedy="Give a finite number or None.")

    @property
    def empty(self) -> bool:
        """Whether it admits everything."""
        return all(getattr(self, entry.name) is None for entry in fields(self))

    def admits(self, facts: VideoFacts) -> bool:
        """Whether a video with these facts passes."""
        if self.folder is not None:
            folder = self.folder.rstrip("/")
            if facts.folder != folder and not facts.folder.startswith(f"{folder}/"):
                return False
        return (
            _holds(self.after_s, facts.dated_s, lambda least, value: value >= least)
            and _holds(self.before_s, facts.dated_s, lambda limit, value: value < limit)
            and _holds(self.shortest_s, facts.duration_s, lambda least, value: value >= least)
            and _holds(self.longest_s, facts.duration_s, lambda most, value: value <= most)
        )


def _holds(asked: float | None, value: float | None, test: Any) -> bool:
    return asked is None or (value is not None and bool(test(asked, value)))


class IndexItem(NamedTuple):
    """One video of an index.

    Args:
        video: its id, which stays what it is for as long as the video is in the index.
        prototypes: its vectors and their times.
        facts: what a filter may ask.
        stamp: the owner's mark for this state of the video, such as a hash; "" when it keeps none.
    """

    video: str
    prototypes: Prototypes
    facts: VideoFacts = VideoFacts()
    stamp: str = ""


@runtime_checkable
class PrototypeIndex(Protocol):
    """Prototypes of many videos in one space, on disk, that can be changed and searched; see the two engines.

    Each change is one commit: a process killed at any moment leaves the index before it or after it.
    """

    def __len__(self) -> int:
        """How many videos."""
        ...

    @property
    def encoder(self) -> str:
        """The id of the encoder whose space it is."""
        ...

    @property
    def dim(self) -> int:
        """D, the width of the vectors."""
        ...

    @property
    def videos(self) -> tuple[str, ...]:
        """The ids, sorted."""
        ...

    def stamps(self) -> dict[str, str]:
        """The owner's mark of each video."""
        ...

    def add(self, items: Iterable[tuple[Any, ...]]) -> int:
        """Add videos that are not in it; returns how many."""
        ...

    def replace(self, items: Iterable[tuple[Any, ...]]) -> int:
        """Put videos in, in place of those of the same id; returns how many."""
        ...

    def remove(self, videos: Iterable[str]) -> int:
        """Take videos out, with everything stored of them; returns how many there were."""
        ...

    def count(self, where: VideoFilter | None = None) -> int:
        """How many videos, or how many of them a filter admits."""
        ...

    def filter(self, where: VideoFilter) -> tuple[str, ...]:
        """The ids of the videos that a filter admits, sorted."""
        ...

    def search(
        self,
        query: ArrayLike,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        tolerance: float = 0.02,
        share: float = 0.5,
        videos: Iterable[str] | None = None,
        without: Collection[str] = (),
        where: VideoFilter | None = None,
    ) -> list[Moment]:
        """The best moments for a query, by falling score; ties by video id, then start.

        Looked at are `videos` (None for all) but not those `without`, and of these what `where` admits; a name that is
        not in the index is passed over.
        """
        ...

    def search_many(
        self,
        queries: ArrayLike,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        videos: Iterable[str] | None = None,
        without: Collection[str] = (),
        where: VideoFilter | None = None,
    ) -> list[list[Moment]]:
        """The same for several queries (Nq, D)."""
        ...

    def items(self, *, without: Collection[str] = ()) -> Iterator[IndexItem]:
        """All videos, sorted by id."""
        ...

    def verify(self) -> None:
        """Check everything that is stored."""
        ...

    def export(self, folder: str | PathLike[str]) -> Path:
        """Write everything as plain files that any program reads."""
        ...


def as_items(items: Iterable[tuple[Any, ...]]) -> Iterator[IndexItem]:
    """Pairs (video, prototypes), or longer tuples, as items."""
    return (item if isinstance(item, IndexItem) else IndexItem(*item) for item in items)


def check_item(item: IndexItem, *, dim: int, after: str | None = None) -> None:
    """Refuse an item that does not fit.

    Raises:
        InvalidInput: an id that is no string or empty, or not behind `after`; prototypes of another width.
    """
    if type(item.video) is not str or not item.video:
        raise InvalidInput(f"a video's id is {item.video!r}", remedy="Give ids that are strings and not empty.")
    if after is not None and item.video <= after:
        raise InvalidInput(
            f"the video {item.video!r} comes after {after!r}", remedy="Give each video once, sorted by id."
        )
    if item.prototypes.dim != dim:
        raise InvalidInput(
            f"the prototypes of {item.video!r} have {item.prototypes.dim} dimensions, the index {dim}",
            remedy="Encode the video with the encoder of the index.",
        )


def check_count(name: str, count: object) -> None:
    """Refuse what is no whole number of at least 1."""
    if type(count) is not int or count < 1:
        raise InvalidInput(f"{name} is {count!r}", remedy="Give a whole number of at least 1.")


def check_queries(queries: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """Queries as float32 (Nq, D).

    Raises:
        InvalidInput: a wrong width, values that are not finite, vectors that are not of unit length.
    """
    rows = np.asarray(queries, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidInput(
            f"queries have the shape {rows.shape}, the index has vectors of {dim}",
            remedy="Encode the query with the encoder of the index.",
        )
    lengths = np.linalg.norm(rows, axis=1)
    if not (np.abs(lengths - 1) < 1e-3).all():  # false for NaN as well
        raise InvalidInput(f"queries have lengths {np.round(lengths[:8], 4).tolist()}", remedy="Give unit vectors.")
    return rows


def check_query(query: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """One query as float32 (D,); see `check_queries`."""
    vector = np.asarray(query, dtype=np.float32)
    if vector.ndim != 1:
        raise InvalidInput(f"the query has the shape {vector.shape}", remedy=f"Give one vector, ({dim},).")
    row: NDArray[np.float32] = check_queries(vector[None], dim=dim)[0]
    return row


def export_items(folder: str | PathLike[str], items: Iterable[IndexItem], *, encoder: str, dim: int) -> Path:
    """Write items as `vectors.npy` (float16 (N, D)), `prototypes.csv` (a line per row of it) and `about.json`.

    Args:
        folder: new or empty.
        items: what to write.
        encoder: the id of their encoder.
        dim: D.

    Raises:
        InvalidInput: the folder holds something.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise InvalidInput(f"{place} is not empty", remedy="Give a new or empty folder.")
    rows, videos, blocks = 0, 0, []
    with (place / "prototypes.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("video", "k", "start_s", "end_s", *(entry.name for entry in fields(VideoFacts))))
        for item in items:
            blocks.append(item.prototypes.vectors)
            for k, (start, end) in enumerate(item.prototypes.spans_s.tolist()):
                lines.writerow((item.video, k, start, end, *asdict(item.facts).values()))
            rows, videos = rows + len(item.prototypes), videos + 1
    np.save(place / "vectors.npy", np.concatenate(blocks) if blocks else np.zeros((0, dim), np.float16))
    about = {"encoder": encoder, "dim": dim, "videos": videos, "prototypes": rows}
    (place / "about.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return place
