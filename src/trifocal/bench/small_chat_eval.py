"""Judge trained weights of the small chat model on held-out playground videos, and ship them if they are worth it.

Each question is scored with its choices, and the likeliest is the answer. Compared are: chance; the language model as
it comes, without the video; the trained weights without the video, which know what usually is the answer; the untrained
tokens; and the trained ones. Without training the language model likes short answers, so what is not trained is scored
by the mean over an answer's tokens as well as by the sum, and the better of the two counts. Intervals are 95 %,
from 2000 draws of whole videos. Weights are shipped only if they beat chance and both rows without the video, each by
more than the interval of the difference leaves open.

    python -m trifocal.bench.small_chat_eval RUN --data HELD --out FOLDER [--ship]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

from trifocal import __version__
from trifocal.bench.small_chat_data import GRID, Sample, load_split
from trifocal.chat.small.asking import answer_scores, prefix_of
from trifocal.chat.small.field import field_parts, video_field
from trifocal.chat.small.projector import Projector, ProjectorConfig
from trifocal.chat.small.trained import Trained, load_trained, save_trained, shipped
from trifocal.chat.small_chat import SmallChat, SmallChatConfig, load_small_chat
from trifocal.errors import InvalidInput
from trifocal.playground import QUESTION_TYPES

if TYPE_CHECKING:
    from trifocal.chat.prompt import Part
    from trifocal.merging import MergeConfig

__all__ = ["Verdict", "gain", "half_linears", "judge", "main", "picked", "sample_parts", "summary", "trained_of_run"]

Verdict = dict[str, Any]
"""A question's `video`, `type`, `chance`, and whether the choice of the highest `sum` and `mean` is right."""
DRAWS = 2000
RIVALS = ("chance", "language model without the video", "trained, without the video")
UNTRAINED_FRAMES = 8


def picked(sample: Sample, *, count: int) -> list[dict[str, Any]]:
    """At most `count` questions of a video, of all types in turn, spread over its length."""
    by_type = {kind: [each for each in sample.questions if each["type"] == kind] for kind in QUESTION_TYPES}
    random = np.random.default_rng(len(sample.questions))
    queues = [[each[at] for at in random.permutation(len(each))] for each in by_type.values()]
    out: list[dict[str, Any]] = []
    while any(queues) and len(out) < count:
        for queue in queues:
            if queue and len(out) < count:
                out.append(queue.pop())
    return out


def sample_parts(chat: SmallChat, sample: Sample, *, merge: MergeConfig | None = None) -> tuple[list[Part], int]:
    """A video as parts of a prompt for trained weights, and how many tokens its cells are."""
    if chat.trained is None:
        raise InvalidInput("The model has no trained weights", remedy="Load it with trained=.")
    field = video_field(chat.trained.projector, sample.cells, times_s=sample.times_s, merge=merge)
    return field_parts(chat.config.style, field, names=chat.names(_frame_logits(chat, sample))), len(field.tokens)


def _untrained_parts(chat: SmallChat, sample: Sample) -> list[Part]:
    """A video as parts of the untrained default: as many frames as it takes, the frame's own features as one cell."""
    from trifocal.chat.prompt import lay_out

    step = len(sample.times_s) // UNTRAINED_FRAMES
    keep = slice(step // 2, None, step)
    frame_tokens, names = chat.tokens(_frame_logits(chat, sample)[keep, :, None, None])
    return lay_out(chat.config.style, frame_tokens=frame_tokens, times_s=sample.times_s[keep], video_tokens=names)


def _frame_logits(chat: SmallChat, sample: Sample) -> torch.Tensor:
    return chat.network.classify_cells(sample.pooled.float()[:, :, None, None])[..., 0, 0]  # (T, A)


@torch.inference_mode()
def judge(
    chat: SmallChat, parts: Sequence[Part], questions: Sequence[Mapping[str, Any]], *, video: str
) -> list[Verdict]:
    """Ask questions with choices about a video.

    Args:
        chat: the model.
        parts: the video; none for no video.
        questions: with `text`, `answer`, `choices` and `type`.
        video: its name, for the record.
    """
    model, style = chat.language_model, chat.config.style
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = answer_scores(
            model,
            prefix_of(model, style=style, video=parts).embeddings,
            style=style,
            questions=[question["text"] for question in questions],
            answers=[question["choices"] for question in questions],
        )
    verdicts = []
    for question, row in zip(questions, scores, strict=True):
        verdict: Verdict = {"video": video, "type": question["type"], "chance": 1 / len(question["choices"])}
        for name, values in (("sum", [s.sum().item() for s in row]), ("mean", [s.mean().item() for s in row])):
            verdict[name] = question["choices"][int(np.argmax(values))] == question["answer"]
        verdicts.append(verdict)
    return verdicts


def half_linears(chat: SmallChat) -> None:
    """Keep the layers in bfloat16, in which `judge` computes them: else they would be converted in every pass."""
    model = chat.language_model.model
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and layer is not model.lm_head:
            layer.to(torch.bfloat16)


def summary(verdicts: Sequence[Verdict], *, by: str = "sum") -> dict[str, Any]:
    """Accuracy of all and of each type, with the interval of all from draws of whole videos."""
    videos = sorted({verdict["video"] for verdict in verdicts})
    number = {video: at for at, video in enumerate(videos)}
    right, asked = np.zeros(len(videos)), np.zeros(len(videos))
    for verdict in verdicts:
        right[number[verdict["video"]]] += verdict[by]
        asked[number[verdict["video"]]] += 1
    draws = np.random.default_rng(0).integers(len(videos), size=(DRAWS, len(videos)))
    shares = right[draws].sum(1) / asked[draws].sum(1)
    types = {}
    for kind in QUESTION_TYPES:
        of_type = [verdict[by] for verdict in verdicts if verdict["type"] == kind]
        if of_type:
            types[kind] = {"accuracy": float(np.mean(of_type)), "questions": len(of_type)}
    return {
        "accuracy": float(right.sum() / asked.sum()),
        "interval": [float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975))],
        "questions": len(verdicts),
        "videos": len(videos),
        "types": types,
    }


def gain(right: Sequence[float], rival: Sequence[float], *, videos: Sequence[str]) -> dict[str, Any]:
    """How much more of the same questions are right, with the interval from draws of whole videos.

    Args:
        right: for each question 1 or 0, or the chance of being right.
        rival: the same of another.
        videos: which video each question is on.
    """
    names, number = np.unique(videos, return_inverse=True)
    better = np.bincount(number, np.subtract(right, rival), minlength=len(names))
    asked = np.bincount(number, minlength=len(names))
    draws = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    shares = better[draws].sum(1) / asked[draws].sum(1)
    return {
        "accuracy": float(better.sum() / asked.sum()),
        "interval": [float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975))],
    }


def trained_of_run(run: Path) -> Trained:
    """The trained parts of a run of `trifocal.bench.small_chat_train`, as far as it has come."""
    from trifocal.bench.small_chat_train import STYLE
    from trifocal.chat.smollm2 import load_smollm2

    state = load_file(run / "checkpoint.safetensors")
    projector = Projector(ProjectorConfig())
    projector.load_state_dict(
        {name.removeprefix("projector."): tensor for name, tensor in state.items() if name.startswith("projector.")}
    )
    low_rank = {
        name.removeprefix("low_rank."): tensor for name, tensor in state.items() if name.startswith("low_rank.")
    }
    recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    return Trained(
        projector=projector.eval().requires_grad_(False),
        low_rank=low_rank,
        language_model=load_smollm2().name,
        frames=len(next(load_split(Path(recipe["data"][0]), first=1)).times_s),
        grid=GRID,
        video_names=SmallChatConfig().video_names,
        introduction=STYLE.frames,
        facts={"recipe": {key: value for key, value in recipe.items() if key != "data"}, "steps": len(history)},
    )


def _conditions(
    weights: Path, samples: Sequence[Sample], *, count: int, untrained_tokens: bool
) -> Iterator[tuple[str, list[Verdict]]]:
    asked = [picked(sample, count=count) for sample in samples]

    def all_of(chat: SmallChat, parts: Sequence[Sequence[Part]]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for sample, questions, seen in zip(samples, asked, parts, strict=True):
            verdicts += judge(chat, seen, questions, video=sample.name)
        return verdicts

    untrained = load_small_chat()
    half_linears(untrained)
    yield "language model without the video", all_of(untrained, [[]] * len(samples))
    if untrained_tokens:
        yield "untrained tokens", all_of(untrained, [_untrained_parts(untrained, sample) for sample in samples])
    del untrained
    trained = load_small_chat(trained=weights)
    half_linears(trained)
    yield "trained, without the video", all_of(trained, [[]] * len(samples))
    yield "trained", all_of(trained, [sample_parts(trained, sample)[0] for sample in samples])


def main(arguments: list[str] | None = None) -> None:
    """Judge a run, write JSON and a table, and ship the weights if asked to and if they qualify."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of trifocal.bench.small_chat_train")
    parser.add_argument("--data", type=Path, required=True, help="folder of held-out videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and table.md")
    parser.add_argument("--videos", type=int, help="judge so many; all by default")
    parser.add_argument("--questions", type=int, default=24, help="on each video")
    parser.add_argument("--rivals-only", action="store_true", help="leave out the untrained tokens")
    parser.add_argument("--ship", action="store_true", help="put the weights into the package if they qualify")
    given = parser.parse_args(arguments)
    weights = given.out / "weights"
    trained = trained_of_run(given.run)
    save_trained(trained, weights)
    samples = list(load_split(given.data, first=given.videos))
    results: dict[str, Any] = {}
    right: dict[str, list[float]] = {}
    verdicts: list[Verdict] = []
    began = time.perf_counter()
    for name, verdicts in _conditions(weights, samples, count=given.questions, untrained_tokens=not given.rivals_only):
        both = {by: summary(verdicts, by=by) for by in ("sum", "mean")}
        best = "sum" if name.startswith("trained") else max(both, key=lambda by: both[by]["accuracy"])
        results[name] = {**both[best], "scored_by": best}
        right[name] = [float(verdict[best]) for verdict in verdicts]
        spent, began = time.perf_counter() - began, time.perf_counter()
        print(f"{name}: {results[name]['accuracy']:.3f} {spent:.0f} s", file=sys.stderr, flush=True)
    right["chance"] = [verdict["chance"] for verdict in verdicts]
    results = {"chance": {"accuracy": float(np.mean(right["chance"])), "types": _chance_by_type(verdicts)}, **results}
    videos = [verdict["video"] for verdict in verdicts]
    for rival in RIVALS:
        results[rival]["gain"] = gain(right["trained"], right[rival], videos=videos)
    qualifies = all(results[rival]["gain"]["interval"][0] > 0 for rival in RIVALS)
    record = {
        "format": 1,
        "trifocal": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "facts": dict(trained.facts),
        "results": results,
        "qualifies": qualifies,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    (given.out / "results.json").write_text(text, encoding="utf-8")
    (given.out / "table.md").write_text(_table(results), encoding="utf-8")
    print(_table(results))
    if given.ship and not qualifies:
        raise InvalidInput(
            "The weights are not surely better than " + ", ".join(RIVALS), remedy="Train longer before shipping."
        )
    if given.ship:
        types = {kind: round(row["accuracy"], 3) for kind, row in results["trained"]["types"].items()}
        held_out = {"accuracy": round(results["trained"]["accuracy"], 3), "types": types}
        save_trained(replace(load_trained(weights), facts={**trained.facts, "held_out": held_out}), shipped())


def _chance_by_type(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        kind: {"accuracy": float(np.mean([v["chance"] for v in verdicts if v["type"] == kind]))}
        for kind in QUESTION_TYPES
        if any(v["type"] == kind for v in verdicts)
    }


def _table(results: Mapping[str, Any]) -> str:
    names = list(results)
    kinds = list(results["trained"]["types"])
    lines = ["| questions | n | " + " | ".join(names) + " |", "|---|---:|" + "---:|" * len(names)]
    for kind in kinds:
        count = results["trained"]["types"][kind]["questions"]
        cells = " | ".join(f"{results[name]['types'][kind]['accuracy']:.0%}" for name in names)
        lines.append(f"| {kind} | {count} | {cells} |")

    def whole(name: str) -> str:
        row = results[name]
        low, high = row.get("interval", (None, None))
        return f"{row['accuracy']:.1%}" + ("" if low is None else f" ({low:.1%}–{high:.1%})")

    lines.append(f"| all | {results['trained']['questions']} | " + " | ".join(whole(name) for name in names) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
