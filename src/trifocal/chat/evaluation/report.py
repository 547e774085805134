"""What a run's answers say: a JSON summary, and over several runs a table and a plot of accuracy against tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trifocal.chat.evaluation.run import SETTINGS, AskedAnswer, read_answers
from trifocal.chat.evaluation.scoring import accuracy, by_kind, strict_accuracy
from trifocal.errors import InvalidInput, MissingExtra

__all__ = ["compare", "plot", "summarise", "table"]

SUMMARY = "summary.json"


def summarise(folder: str | Path, *, seed: int = 0) -> dict[str, Any]:
    """The figures of a run, also written to `summary.json` beside its answers.

    Args:
        folder: of the run.
        seed: of the intervals.

    Raises:
        InvalidInput: there are no answers.
    """
    folder = Path(folder)
    answers = read_answers(folder)
    if not answers or not (folder / SETTINGS).exists():
        raise InvalidInput(f"{folder} holds no answers", remedy="Run `trifocal eval ask` first.")
    right = [answer.right for answer in answers]
    videos = [answer.video for answer in answers]
    values: dict[str, Any] = {
        "settings": json.loads((folder / SETTINGS).read_text(encoding="utf-8")),
        "accuracy": accuracy(right, videos, seed=seed).to_dict(),
        "by_kind": {
            kind: one.to_dict()
            for kind, one in by_kind(right, videos, [answer.kind for answer in answers], seed=seed).items()
        },
        "unanswered": sum(answer.chosen is None for answer in answers),
        "tokens": _mean(answers, "tokens"),
        "kept": _mean(answers, "kept"),
        "first_token_s": _mean([answer for answer in answers if not answer.cached], "first_token_s"),
        "later_token_s": _mean([answer for answer in answers if answer.cached], "first_token_s"),
    }
    if any(answer.group for answer in answers):
        values["strict"] = strict_accuracy(right, [answer.group for answer in answers], videos, seed=seed).to_dict()
    (folder / SUMMARY).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return values


def _mean(answers: Sequence[AskedAnswer], name: str) -> float:
    values = [float(getattr(answer, name)) for answer in answers]
    return sum(values) / len(values) if values else 0.0


def compare(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of all runs below a folder, by benchmark, then by model, method and tokens kept."""
    runs = sorted(path.parent for path in Path(folder).rglob(SETTINGS))
    found = [summarise(run) for run in runs if read_answers(run)]

    def place(row: dict[str, Any]) -> tuple[str, str, str, float]:
        settings = row["settings"]
        return settings["benchmark"], str(settings.get("model")), str(settings.get("method")), -row["kept"]

    return sorted(found, key=place)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Runs as a Markdown table."""
    lines = [
        "| benchmark | model | method | budget | accuracy (95 %) | questions | tokens kept | first token |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        settings, score = row["settings"], row["accuracy"]
        share = f" ({row['kept'] / row['tokens']:.0%})" if row["tokens"] else ""
        lines.append(
            f"| {settings['benchmark']} | {settings.get('model', '')} | {settings.get('method') or 'none'} | "
            f"{settings.get('budget') or ''} | {score['value']:.3f} ({score['low']:.3f}–{score['high']:.3f}) | "
            f"{score['count']} | {row['kept']:.0f}{share} | {row['first_token_s']:.2f} s |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Accuracy against tokens kept, a line per method, with intervals.

    Args:
        rows: of one benchmark and model.
        path: of the picture; its ending tells the format.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidInput: there are no rows.
    """
    if not rows:
        raise InvalidInput("there are no runs to draw", remedy="Run `trifocal eval ask` first.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Plots need matplotlib", remedy="pip install 'trifocal[train]'") from error
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for method in dict.fromkeys(str(row["settings"].get("method") or "none") for row in rows):
        of_method = sorted(
            (row for row in rows if str(row["settings"].get("method") or "none") == method), key=lambda row: row["kept"]
        )
        scores = [row["accuracy"] for row in of_method]
        values = [score["value"] for score in scores]
        below = [score["value"] - score["low"] for score in scores]
        above = [score["high"] - score["value"] for score in scores]
        kept = [row["kept"] for row in of_method]
        axes.errorbar(kept, values, yerr=[below, above], marker="o", capsize=3, label=method)
    axes.set_xlabel("video tokens kept per question")
    axes.set_ylabel("accuracy")
    axes.set_title(str(rows[0]["settings"]["benchmark"]))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    return Path(path)
