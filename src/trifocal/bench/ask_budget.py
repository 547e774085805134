"""Accuracy of the small chat model on playground questions against how many of its video tokens are kept.

Every merging method at every budget, on the same videos and the same questions with choices, merged before the language
model reads anything (layer 0; the tokens left stand one after the other). Without trained weights the untrained tokens
are merged. A budget that a method cannot reach is recorded with its reason. What has been judged is kept in
results.json, so a run that was stopped goes on where it was; the plot is drawn from that file.

    python -m trifocal.bench.ask_budget HELD --weights FOLDER --out FOLDER --methods sttm tome --budgets 0.5 0.3
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trifocal import __version__
from trifocal.bench.small_chat_data import Sample, load_split
from trifocal.bench.small_chat_eval import Verdict, half_linears, judge, picked, sample_parts, summary
from trifocal.chat.small.field import field_parts, joined
from trifocal.chat.small_chat import SmallChat, load_small_chat
from trifocal.errors import InvalidInput, MissingExtra
from trifocal.merging import METHODS, MergeConfig, configure

if TYPE_CHECKING:
    from trifocal.chat.prompt import Part

__all__ = ["budget_table", "judge_all", "main", "plot"]

BUDGETS = (0.5, 0.3, 0.15)
# From its usual level the octree merges nothing in a grid of 4×4.
OPTIONS: Mapping[str, Mapping[str, int]] = MappingProxyType({"octree": {"root_level": 0}})
FULL = "all tokens"
NONE = "no video"


def _conditions(methods: Sequence[str], budgets: Sequence[float]) -> dict[str, tuple[str, float, MergeConfig | None]]:
    """Name, method, budget and configuration of all that is compared, the references first."""
    out: dict[str, tuple[str, float, MergeConfig | None]] = {FULL: (FULL, 1.0, None), NONE: (NONE, 0.0, None)}
    for budget in budgets:
        for method in methods:
            options: dict[str, Any] = {"budget": budget, **OPTIONS.get(method, {})}
            out[f"{method} {budget:g}"] = (method, budget, configure(method, **options))
    return out


def _parts(chat: SmallChat, sample: Sample, merge: MergeConfig | None) -> tuple[list[Part], int, int]:
    """The video as parts of a prompt, tokens kept and tokens in all."""
    cells = int(np.prod(sample.cells.shape[:3]))
    if chat.trained is not None:
        parts, kept = sample_parts(chat, sample, merge=merge)
        return parts, kept, cells
    # The classifier is linear, so the stored means of cells can be classified.
    features = sample.cells[..., : sample.pooled.shape[1]].float().permute(0, 3, 1, 2)  # (T, F, H, W)
    frame_tokens, names = chat.tokens(chat.network.classify_cells(features))
    tokens = frame_tokens.view(*sample.cells.shape[:3], -1)  # (T, H, W, C)
    field = joined(tokens, torch.zeros_like(tokens), merge=merge)
    return field_parts(chat.config.style, field, names=names), len(field.tokens), cells


@torch.inference_mode()
def judge_all(
    chat: SmallChat,
    samples: Sequence[Sample],
    *,
    methods: Sequence[str],
    budgets: Sequence[float],
    questions: int,
    out: Path,
) -> dict[str, Any]:
    """Judge all conditions, or those that `out` lacks.

    Args:
        chat: the model.
        samples: held-out videos.
        methods: names in `METHODS`.
        budgets: shares of the tokens.
        questions: on each video.
        out: JSON file.

    Returns:
        What the file then holds.

    Raises:
        InvalidInput: the file is of other videos, questions or weights.
    """
    about = {
        "format": 1,
        "model": chat.name,
        "trained": dict(chat.trained.facts) if chat.trained else None,
        "videos": [sample.name for sample in samples],
        "seconds": [round(sample.times_s[-1], 2) for sample in samples],
        "questions": questions,
    }
    record: dict[str, Any] = {**about, "conditions": {}}
    if out.is_file():
        record = json.loads(out.read_text(encoding="utf-8"))
        if any(record.get(key) != json.loads(json.dumps(value)) for key, value in about.items()):
            raise InvalidInput(f"{out} holds another comparison", remedy="Give another folder.")
    record |= {"trifocal": __version__, "torch": torch.__version__, "machine": platform.machine()}
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, (method, budget, merge) in _conditions(methods, budgets).items():
        if name in record["conditions"]:
            continue
        began = time.perf_counter()
        row: dict[str, Any] = {"method": method, "budget": budget}
        row |= _judge_one(chat, samples, merge, questions=questions, blind=name == NONE)
        row["seconds"] = round(time.perf_counter() - began, 1)
        record["conditions"][name] = row
        out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        told = row.get("refused") or f"{row['accuracy']:.1%} with {row['share']:.1%} of the tokens"
        print(f"{name}: {told}, {row['seconds']} s", file=sys.stderr, flush=True)
    return record


def _judge_one(
    chat: SmallChat, samples: Sequence[Sample], merge: MergeConfig | None, *, questions: int, blind: bool
) -> dict[str, Any]:
    verdicts: list[Verdict] = []
    kept = cells = 0
    for sample in samples:
        parts: list[Part] = []
        if not blind:
            try:
                parts, left, whole = _parts(chat, sample, merge)
            except InvalidInput as error:
                # A budget below what a method can reach is a result of the comparison.
                return {"refused": str(error)}
            kept, cells = kept + left, cells + whole
        verdicts += judge(chat, parts, picked(sample, count=questions), video=sample.name)
    return {**summary(verdicts), "share": kept / cells if cells else 0.0, "tokens": kept / len(samples)}


def budget_table(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each method, a column for each budget; the share really kept where it is another."""
    rows = [row for name, row in conditions.items() if name not in (FULL, NONE)]
    budgets = sorted({row["budget"] for row in rows}, reverse=True)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = ["| method | 100 % | " + " | ".join(f"{budget:.0%}" for budget in budgets) + " |"]
    lines.append("|---|---:|" + "---:|" * len(budgets))
    full = f"{conditions[FULL]['accuracy']:.1%}"
    for method in methods:
        cells = [full]
        for budget in budgets:
            row = next((r for r in rows if r["method"] == method and r["budget"] == budget), None)
            if row is None or "refused" in row:
                cells.append("–" if row is None else "refused")
                continue
            off = abs(row["share"] - budget) > 0.02
            cells.append(f"{row['accuracy']:.1%}" + (f" ({row['share']:.0%})" if off else ""))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines.append(f"| no video | {conditions[NONE]['accuracy']:.1%} | " + " | ".join(" " for _ in budgets) + " |")
    return "\n".join(lines) + "\n"


def plot(conditions: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy against the share of tokens kept.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        # Needed to draw only.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Drawing needs matplotlib", remedy='pip install "trifocal[train]"') from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    full, none = conditions[FULL], conditions[NONE]
    shown = {name: row for name, row in conditions.items() if name not in (FULL, NONE) and "refused" not in row}
    for method in dict.fromkeys(row["method"] for row in shown.values()):
        points = sorted((row["share"], row["accuracy"]) for row in shown.values() if row["method"] == method)
        shares, accuracies = zip(*points, (1.0, full["accuracy"]), strict=True)
        axes.plot(
            [100 * share for share in shares],
            [100 * accuracy for accuracy in accuracies],
            marker="o",
            linewidth=2.5 if method == "sttm" else 1.2,
            label=method,
        )
    axes.axhline(100 * none["accuracy"], color="grey", linestyle=":", label="without the video")
    axes.set_xlabel("video tokens kept, %")
    axes.set_ylabel("right answers, %")
    axes.set_title(f"{full['questions']} questions on {full['videos']} held-out videos")
    axes.invert_xaxis()
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Judge, print the table, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of trifocal.bench.small_chat_data")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, table.md and budget.png")
    parser.add_argument("--weights", help='folder of trained weights, "shipped", or "none"', default="shipped")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS))
    parser.add_argument("--videos", type=int, help="judge on so many; all by default")
    parser.add_argument("--questions", type=int, default=24, help="on each video")
    given = parser.parse_args(arguments)
    weights = {"shipped": True, "none": False}.get(given.weights, Path(given.weights))
    chat = load_small_chat(trained=weights)
    half_linears(chat)
    samples = list(load_split(given.data, first=given.videos))
    if chat.trained is None:
        chat.config = replace(chat.config, grid=samples[0].cells.shape[1])
    record = judge_all(
        chat,
        samples,
        methods=given.methods,
        budgets=given.budgets,
        questions=given.questions,
        out=given.out / "results.json",
    )
    table = budget_table(record["conditions"])
    (given.out / "table.md").write_text(table, encoding="utf-8")
    plot(record["conditions"], given.out / "budget.png")
    print(table)


if __name__ == "__main__":
    main()
