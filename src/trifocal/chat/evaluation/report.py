"""What a run's answers say: a JSON summary, and over several runs a table and a plot of accuracy against tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trifocal.chat.evaluation.run import SETTINGS, AskedAnswer, read_answers
from trifocal.chat.evaluation.scoring import accuracy, by_kind, strict_accuracy
from trifocal.errors import InvalidInput, MissingExtra

__all__ = ["check_plot", "compare", "plot", "summarise", "table"]

SUMMARY = "summary.json"
PICTURES = (".png", ".svg", ".pdf")


def summarise(folder: str | Path, *, seed: int = 0) -> dict[str, Any]:
    """The figures of a run, also written to `summary.json` beside its answers.

    Args:
        folder: of the run.
        seed: of the intervals.

    Returns:
        Among others `failed`, how many questions had no answer, by the error's code (they count as wrong), and
        `fewer_frames`, how many saw fewer frames than wanted. Then means over the questions that were answered, None
        where nothing is known: `frames`, `tokens` and `kept` of the video, `kept_share` of the shares (the paper's
        R.NV), `first_token_s` where the question paid for the whole prompt, `later_token_s` where an earlier one had
        paid for the video.

    Raises:
        InvalidInput: there are no answers.
    """
    folder = Path(folder)
    answers = read_answers(folder)
    if not answers or not (folder / SETTINGS).exists():
        raise InvalidInput(f"{folder} holds no answers", remedy="Run `trifocal eval ask` first.")
    right = [answer.right for answer in answers]
    videos = [answer.video for answer in answers]
    used = [answer for answer in answers if not answer.error]
    values: dict[str, Any] = {
        "settings": json.loads((folder / SETTINGS).read_text(encoding="utf-8")),
        "accuracy": accuracy(right, videos, seed=seed).to_dict(),
        "by_kind": {
            kind: one.to_dict()
            for kind, one in by_kind(right, videos, [answer.kind for answer in answers], seed=seed).items()
        },
        "unanswered": sum(answer.chosen is None for answer in answers),
        "failed": dict(sorted(Counter(answer.error for answer in answers if answer.error).items())),
        "fewer_frames": sum(answer.frames < answer.frames_wanted for answer in used),
        "frames": _mean(answer.frames for answer in used if answer.frames),
        "tokens": _mean(answer.tokens for answer in used if answer.tokens),
        "kept": _mean(answer.kept for answer in used if answer.tokens),
        "kept_share": _mean(answer.kept / answer.tokens for answer in used if answer.tokens),
        "first_token_s": _mean(answer.first_token_s for answer in used if not answer.cached),
        "later_token_s": _mean(answer.first_token_s for answer in used if answer.cached),
    }
    if any(answer.group for answer in answers):
        values["strict"] = strict_accuracy(right, [answer.group for answer in answers], videos, seed=seed).to_dict()
    (folder / SUMMARY).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return values


def _mean(values: Iterable[float | None]) -> float | None:
    """Of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def compare(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of all runs below a folder, by benchmark, then by model, method and tokens kept.

    Each has `relative` too: accuracy, first token and tokens kept as shares of the run that merges nothing and is set
    up alike, as the paper's tables give them. Accuracy over the questions of both runs; seconds and tokens over those
    that both could answer. None where there is no such run.
    """
    runs = sorted(path.parent for path in Path(folder).rglob(SETTINGS))
    answers = {run: {answer.id: answer for answer in read_answers(run)} for run in runs}
    rows = {run: summarise(run) for run in runs if answers[run]}
    whole = {_alike(row): run for run, row in rows.items() if _method(row) == "none"}
    for run, row in rows.items():
        base = whole.get(_alike(row))
        row["relative"] = None if base is None else _relative(answers[run], answers[base])

    def place(row: dict[str, Any]) -> tuple[str, str, str, float]:
        settings = row["settings"]
        return settings["benchmark"], str(settings.get("model")), str(settings.get("method")), -(row["kept"] or 0.0)

    return sorted(rows.values(), key=place)


def _method(row: Mapping[str, Any]) -> str:
    return str(row["settings"].get("method") or "none")


def _alike(row: Mapping[str, Any]) -> str:
    """What two runs must share to be compared: everything but how they merge."""
    settings = {name: value for name, value in row["settings"].items() if name not in ("method", "budget", "layer")}
    return json.dumps(settings, sort_keys=True)


def _relative(answers: Mapping[str, AskedAnswer], whole: Mapping[str, AskedAnswer]) -> dict[str, float | None]:
    pairs = [(answer, whole[name]) for name, answer in answers.items() if name in whole]
    both = [pair for pair in pairs if not pair[0].error and not pair[1].error]
    # Only where both pay for the whole prompt; elsewhere an earlier question has paid for the video.
    timed = [pair for pair in both if not pair[0].cached and not pair[1].cached]
    return {
        "accuracy": _ratio((one.right, other.right) for one, other in pairs),
        "first_token": _ratio((one.first_token_s, other.first_token_s) for one, other in timed),
        "tokens": _ratio((one.kept, other.kept) for one, other in both),
    }


def _ratio(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    below = sum(other for _, other in known)
    return sum(one for one, _ in known) / below if below else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Runs as a Markdown table; shares of the run that merges nothing stand behind each figure, as in the paper.

    Args:
        rows: of `compare`.
    """
    strict = any("strict" in row for row in rows)
    head = ["benchmark", "model", "method", "budget", "accuracy (95 %)", "relative", *(["strict"] if strict else [])]
    head += ["questions", "failed", "tokens kept", "relative", "first token", "relative"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        settings, score, relative = row["settings"], row["accuracy"], row.get("relative") or {}
        share = "" if row["kept_share"] is None else f" ({row['kept_share']:.0%})"
        cells = [settings["benchmark"], settings.get("model") or "", _method(row), settings.get("budget") or ""]
        cells += [f"{score['value']:.3f} ({score['low']:.3f}–{score['high']:.3f})", _percent(relative.get("accuracy"))]
        if strict:
            cells.append(f"{row['strict']['value']:.3f}" if "strict" in row else "–")
        cells += [score["count"], sum(row["failed"].values())]
        cells += ["–" if row["kept"] is None else f"{row['kept']:.0f}{share}", _percent(relative.get("tokens"))]
        first = row["first_token_s"]
        cells += ["–" if first is None else f"{first:.2f} s", _percent(relative.get("first_token"))]
        lines.append([str(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def check_plot(path: str | Path) -> None:
    """Tell before a long run what would be told after it.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidInput: the name's ending is none of a picture.
    """
    if Path(path).suffix not in PICTURES:
        raise InvalidInput(f"{path} ends in none of {', '.join(PICTURES)}", remedy="Give a name with such an end.")
    if find_spec("matplotlib") is None:
        raise MissingExtra("Plots need matplotlib", remedy="pip install 'trifocal[train]'")


def plot(rows: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Accuracy against tokens kept, a line per method, with intervals.

    Args:
        rows: of one benchmark and model.
        path: of the picture; its ending tells the format.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidInput: there are no rows, or none whose tokens are known, or the ending is none of a picture.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["kept"] is not None]
    if not rows:
        raise InvalidInput("there are no runs to draw", remedy="Run `trifocal eval ask` first, without --likelihood.")
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for method in dict.fromkeys(map(_method, rows)):
        of_method = sorted((row for row in rows if _method(row) == method), key=lambda row: float(row["kept"]))
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
