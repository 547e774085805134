"""The rows of `bench.prvr` as one Markdown table: means over runs, with the least and the most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["PEERS", "table"]

PEERS = {"MS-SL": (180.5, 975_788), "GMMFormer": (186.8, 50_688), "MSC": (127.5, 245_760)}
"""SumR and bytes a video of public code on the default synthetic set: 12 epochs, 25 videos a batch, hidden 384."""

BEFORE = "before training"
ITSELF = "itself"
COLUMNS = (
    "run",
    "row",
    "runs",
    "SumR (least–most)",
    "bytes a video",
    "encode + search, ms",
    "cos",
    "distinct winners a video",
    "winners in all",
    "entropy",
    "peak inside (chance)",
)


def table(folder: Path, name: str, *, says: Mapping[str, str]) -> str:
    """What has been measured on a set.

    Args:
        folder: of the JSON files.
        name: of the set: the beginning of their names.
        says: what each run is, by its name and in the table's order.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob(f"{name}-*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = dict(document["rows"])
        if document.get("before_training"):
            rows[BEFORE] = document["before_training"]
        for row, figures in rows.items():
            found.setdefault((document["run"], row), []).append(figures)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    if name == "synthetic":
        empty = "| " * (len(COLUMNS) - 5) + "|"
        lines += [f"| peer | {peer} | 1 | {sum_r} | {size:,} {empty}" for peer, (sum_r, size) in PEERS.items()]
    order = {run: place for place, run in enumerate(says)}

    def key(item: tuple[tuple[str, str], list[dict[str, Any]]]) -> tuple[Any, ...]:
        (run, row), many = item
        return (
            order.get(run, len(order)),
            row != BEFORE,
            row != ITSELF,
            row.split(",")[0],
            -many[0].get("prototypes", 0),
        )

    return "\n".join(
        lines + [_line(says.get(run, run), row, many) for (run, row), many in sorted(found.items(), key=key)]
    )


def _line(run: str, row: str, many: Sequence[Mapping[str, Any]]) -> str:
    sums = [one["sum_r"] for one in many]
    first = many[0]
    spread = f" ({min(sums):.1f}–{max(sums):.1f})" if len(sums) > 1 else ""
    cells = [run, row, str(len(many)), f"{np.mean(sums):.1f}{spread}"]
    if "collapse" not in first:
        return f"| {' | '.join([*cells, *[''] * (len(COLUMNS) - len(cells))])} |"
    figures = {
        name: float(np.mean([np.nan if one["collapse"][name] is None else one["collapse"][name] for one in many]))
        for name in first["collapse"]
    }
    cells += [
        f"{first['bytes_per_video']:,}",
        " + ".join(f"{np.mean([one[name] for one in many]):.2f}" for name in ("encode_ms", "search_ms")),
        f"{figures['mean_cosine']:.2f}",
        f"{figures['winners_per_video']:.2f} of {figures['queries_per_video']:.1f}",
        f"{figures['winners_corpus']:.0f} of {first['prototypes']}",
        f"{abs(figures['attention_entropy']):.2f}",
        f"{figures['peak_inside']:.2f} ({figures['peak_chance']:.2f})",
    ]
    return f"| {' | '.join(cells)} |"
