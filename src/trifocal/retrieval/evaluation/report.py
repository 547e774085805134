"""What an evaluation says, as data: JSON for programs, a table and a figure for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trifocal.errors import MissingExtra

if TYPE_CHECKING:
    from trifocal.retrieval.evaluation.metrics import MomentScores, RankScores

__all__ = ["FindReport", "SearchTime", "plot"]


@dataclass(frozen=True, slots=True)
class SearchTime:
    """Milliseconds to score one encoded query against `videos` videos and find the ten best."""

    videos: int
    ms: float


@dataclass(frozen=True, slots=True)
class FindReport:
    """An evaluation.

    Args:
        data: the set's name.
        split: its part.
        videos: how many compete.
        ranks: over all queries.
        chance_sum_r: SumR of a random order.
        groups: over queries by how much of their video the moment fills.
        moments: where the best span is in the right video, by prototypes alone.
        peak: what `peak_inside` looks at: the `attention`'s peak of the winner, or the `middle` of its span where a
            prototype is its span.
        sharpened: the same by scoring all clip tokens of that video; the peak is the best token inside the stretch.
            None where it was not measured.
        bytes_per_video: of the vectors in an index.
        prototypes_per_video: mean.
        query_ms: to encode one query; None where nothing was timed.
        video_ms: to make one video's prototypes from its features.
        search: by corpus size.
    """

    data: str
    split: str
    videos: int
    ranks: RankScores
    chance_sum_r: float
    groups: dict[str, RankScores]
    moments: MomentScores
    bytes_per_video: float
    prototypes_per_video: float
    query_ms: float | None = None
    video_ms: float | None = None
    search: tuple[SearchTime, ...] = field(default=())
    sharpened: MomentScores | None = None
    peak: Literal["attention", "middle"] = "middle"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "data": self.data,
            "split": self.split,
            "videos": self.videos,
            **self.ranks.to_dict(),
            "chance_sum_r": self.chance_sum_r,
            "tie_rule": "rank = 1 + number of videos that score strictly more",
            "groups": {name: one.to_dict() for name, one in self.groups.items()},
            "moments": {**self.moments.to_dict(), "peak": self.peak},
            "moments_sharpened": None if self.sharpened is None else self.sharpened.to_dict(),
            "bytes_per_video": self.bytes_per_video,
            "prototypes_per_video": self.prototypes_per_video,
            "query_ms": self.query_ms,
            "video_ms": self.video_ms,
            "search_ms": [{"videos": one.videos, "ms": one.ms} for one in self.search],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """A table: a heading, then all queries and each group with their recalls and SumR."""
        named = {"all": self.ranks, **{f"M/V {name}": one for name, one in self.groups.items()}}
        heading = ("queries of", "number", *(f"R@{k}" for k in self.ranks.recall), "SumR")
        return [
            heading,
            *(
                (name, str(one.queries), *(f"{value:.1f}" for value in one.recall.values()), f"{one.sum_r:.1f}")
                for name, one in named.items()
            ),
        ]


def plot(reports: dict[str, FindReport], path: Path) -> None:
    """Draw recall over rank, SumR by group and search time by corpus size, a line a report.

    Args:
        reports: by label.
        path: the picture; its ending chooses the format (.png, .svg, .pdf).

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # an optional extra

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise MissingExtra(
            "a plot needs matplotlib, which is not installed", remedy='Run: pip install "trifocal[train]".'
        ) from error
    figure, (recall, groups, times) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    width = 0.8 / len(reports)
    for index, (label, report) in enumerate(reports.items()):
        colour = f"C{index}"
        ranks = list(report.ranks.recall)
        recall.plot(ranks, list(report.ranks.recall.values()), marker="o", color=colour, label=label)
        names = list(report.groups)
        places = [place + index * width for place in range(len(names))]
        groups.bar(places, [report.groups[name].sum_r for name in names], width=width, color=colour)
        groups.set_xticks([place + 0.4 - width / 2 for place in range(len(names))], names)
        if report.search:
            times.plot([one.videos for one in report.search], [one.ms for one in report.search], "o-", color=colour)
    recall.set(xscale="log", xlabel="K", ylabel="R@K (%)", ylim=(0, 103), title="recall")
    recall.legend(frameon=False)
    groups.set(xlabel="moment length / video length", ylabel="SumR", title="by how much of the video it fills")
    times.set(xlabel="videos", ylabel="ms per query", title="search, without encoding the query")
    times.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    plt.close(figure)
