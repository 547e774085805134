"""The table of `docs/methods/merging.md`, from the numbers that `trifocal.bench.merge` wrote.

`python -m trifocal.bench.merge --table` prints it. A row of a video that the reference was timed on carries what the
reference took; it was timed at one size only, and nothing is made up for the others.
"""

from __future__ import annotations

from typing import Any

__all__ = ["METHODS", "REFERENCE", "table"]

# Published code on 128 frames of 14×14, float32, one thread of an idle machine: CPU seconds, copies of the input, and
# tokens kept. There a copy took 0.125 s and the product of the calibration 0.0101 s.
REFERENCE: dict[tuple[float, float], dict[str, Any]] = {
    (0.80, 0.60): {"cpu_s": "2.05", "copies": 16.6, "tokens": 8599},
    (0.85, 0.65): {"cpu_s": "3.5 to 3.7", "copies": 29.0, "tokens": 16592},
}
METHODS = ("default (0.80, 0.60)", "default (0.85, 0.65)", "budget 30 %")
_TIMED = {f"default ({s:.2f}, {t:.2f})": row for (s, t), row in REFERENCE.items()}
_HEAD = (
    "video",
    "merge",
    "tokens",
    "CPU-s",
    "products",
    "copies",
    "reference: CPU-s, copies",
    "operators",
    "waits",
    "memory",
)


def table(report: dict[str, Any]) -> str:
    """Markdown lines of every video, type and method of the default mode.

    Args:
        report: what `merge.json` holds.

    Raises:
        KeyError: it was written by something else.
    """
    lines = [_line(_HEAD), _line("---" for _ in _HEAD)]
    product = float(report["product_1024_cpu_s"])
    for row in report["rows"]:
        if row["method"] not in METHODS:
            continue
        height, width = row["grid"]
        timed = _TIMED.get(row["method"]) if (row["frames"], height, width) == (128, 14, 14) else None
        same = timed is not None and row["dtype"] == "float32"
        lines.append(
            _line(
                (
                    f"{row['frames']}×{height}×{width} {row['dtype']}",
                    row["method"].removeprefix("default "),
                    f"{row['tokens']:,}",
                    f"{row['cpu_s']:.3f}",
                    f"{row['cpu_s'] / product:.1f}",
                    f"{row['copies']:.2f}",
                    f"{timed['cpu_s']}, {timed['copies']:g}" if timed is not None and same else "not timed",
                    str(row["operators"]),
                    str(row["synchronisations"]),
                    f"{row['memory_beyond_input_and_output']:.2f}",
                )
            )
        )
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
