"""Time to the first token of an answer about a long video, and to that of every later one.

`python -m trifocal.bench.first_token --out bench/first_token` runs a language model of Qwen2-0.5B's shape with random
weights in bfloat16 on a prompt of 12,000 video tokens: whole, and merged to 50 % and 30 % in front of layer 2 and of
layer 0. What is timed is the language model's prefill with the merging in it; decoding and the vision tower are apart
(`--vision` times reading a file, and a tower of SigLIP-so400m's shape, per frame). Beside it stand plain prompts that
are as much shorter, the bound of what merging can reach; then the time to first token of a second question on the
prefilled video, whose answer is compared with asking afresh.

A shared machine disturbs single runs. So within each of `--repeats` all variants run back to back, and a speed-up is
the median over the repeats of the ratio within a repeat; all raw times are in the JSON, and a calibration before and
after says how fast the machine was.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from trifocal.bench.machine import machine
from trifocal.bench.sight import decode_seconds, vision_seconds
from trifocal.chat.accelerate import Accelerated, accelerate
from trifocal.chat.hooks.cache import fork
from trifocal.chat.hooks.spans import VideoSpan
from trifocal.chat.scores import last_scores

__all__ = ["SHAPES", "Setting", "first_tokens", "main", "make_model", "make_prompt"]

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512,
    },
    "0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "1.5b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "7b": {
        "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152_064,
    },
}  # fmt: skip
"""Qwen2 in its published sizes, and one for tests."""

TARGETS = {(0, 0.5): 2.7, (0, 0.3): 4.9, (2, 0.5): 2.2, (2, 0.3): 3.3}
"""Speed-ups that are asked for at 12,000 tokens; at layer 0 within 10 %."""
LATER = 10.0
NEAR = 0.9
"""How near to the plain shorter prompt layer 0 is to be."""
SAME_SCORES = 1e-3
BEFORE, QUESTION, ANSWER = 14, 20, 8


@dataclass(frozen=True, slots=True)
class Setting:
    """How the video is merged.

    Args:
        budget: the share of its tokens that stays; 1 for all.
        layer: in front of which layer.
    """

    budget: float
    layer: int

    @property
    def name(self) -> str:
        """For tables."""
        return "full" if self.budget == 1.0 else f"{self.budget:.0%} at layer {self.layer}"


def make_model(shape: str, *, dtype: torch.dtype, device: str, seed: int = 0) -> Any:
    """A Qwen2 language model with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        **SHAPES[shape],
        max_position_embeddings=131_072,
        tie_word_embeddings=shape in {"tiny", "0.5b", "1.5b"},
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.06,  # with the usual 0.02 a random model hardly looks at anything
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Embeddings of a prompt up to its question, and two questions.

    Args:
        prefix: `(1, N, C)`: a few words, the video, a few words.
        video: where the video is.
        questions: token ids of each.
    """

    prefix: torch.Tensor
    video: VideoSpan
    questions: tuple[torch.Tensor, torch.Tensor]


def make_prompt(model: Any, *, video_tokens: int, side: int = 14, seed: int = 0) -> Prompt:
    """A prompt with a synthetic video: scenes with cuts, drift, texture and a moving box.

    Args:
        model: embeds the words; its embeddings give the video's tokens their length.
        video_tokens: rounded to whole frames of `side × side`.
        side: tokens a side of a frame.
        seed: of everything.
    """
    from trifocal.bench.merge import timing_video

    frames = max(1, round(video_tokens / side**2))
    table = model.get_input_embeddings().weight
    cells = timing_video(frames, height=side, width=side, channels=table.shape[1], seed=seed + 1).flatten(0, 2).float()
    cells = cells / cells.norm(dim=-1, keepdim=True) * table[:1000].float().norm(dim=-1).mean().cpu()
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(0, table.shape[0], (2 * BEFORE + 2 * QUESTION,), generator=draw).to(table.device)
    first, last, *questions = torch.split(words, [BEFORE, BEFORE, QUESTION, QUESTION])
    video = cells.to(table)
    return Prompt(
        prefix=torch.cat([table[first], video, table[last]])[None],
        video=VideoSpan.contiguous(BEFORE, (frames, side, side)),
        questions=(questions[0], questions[1]),
    )


@contextmanager
def attached(model: Any, setting: Setting) -> Iterator[Accelerated | None]:
    """Merging as the setting says, taken off again."""
    if setting.budget == 1.0:
        yield None
        return
    with accelerate(model, method="sttm", budget=setting.budget, layer=setting.layer) as handle:
        yield handle


@torch.inference_mode()
def prefill(model: Any, prompt: Prompt, *, handle: Accelerated | None) -> Any:
    """A cache with everything up to the question."""
    from transformers import DynamicCache

    cache = DynamicCache()
    spans = {} if handle is None else {"video_spans": [prompt.video]}
    model.model(inputs_embeds=prompt.prefix, past_key_values=cache, use_cache=True, **spans)
    return cache


@torch.inference_mode()
def ask(model: Any, cache: Any, question: torch.Tensor, *, start: int) -> torch.Tensor:
    """Scores of the first token of an answer, `(V,)` float32; the cache grows by the question."""
    places = torch.arange(start, start + len(question), device=question.device)[None]
    out = model.model(input_ids=question[None], position_ids=places, past_key_values=cache, use_cache=True)
    return last_scores(model, out.last_hidden_state)


@torch.inference_mode()
def answer(
    model: Any, cache: Any, question: torch.Tensor, *, start: int, tokens: int = ANSWER
) -> tuple[list[int], torch.Tensor]:
    """A greedy answer of a fixed number of tokens, and the scores of the first."""
    first = ask(model, cache, question, start=start)
    ids = [int(first.argmax())]
    while len(ids) < tokens:
        last = torch.tensor([ids[-1]], device=question.device)
        ids.append(int(ask(model, cache, last, start=start + len(question) + len(ids) - 1).argmax()))
    return ids, first


class Clock:
    """Seconds between two moments, with an accelerator's work waited for."""

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device).type == "cuda"

    def now(self) -> float:
        """The present."""
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def time(self, act: Callable[[], object]) -> float:
        """How long an act takes."""
        started = self.now()
        act()
        return self.now() - started


def first_tokens(
    model: Any, prompt: Prompt, settings: list[Setting], *, repeats: int, clock: Clock
) -> list[dict[str, Any]]:
    """A row for each setting: seconds to the first token of a first and a second question, and what the layers hold.

    In each repeat everything runs once, back to back, forwards and backwards in turn; a figure is compared only with
    those of its own repeat, so that a slow minute of the machine falls on both sides. Lists have an entry a repeat.
    """
    rows = [_checked(model, prompt, setting) for setting in settings]
    for row in rows:
        row |= {"first_s": [], "merge_s": [], "second_s": [], "plain_s": []}
    for repeat in range(repeats):
        turn = list(zip(rows, settings, strict=True))
        for row, setting in reversed(turn) if repeat % 2 else turn:
            _time(model, prompt, setting, row=row, clock=clock)
    return rows


def _checked(model: Any, prompt: Prompt, setting: Setting) -> dict[str, Any]:
    """What the layers hold, and whether later questions are answered well; also warms up what a setting needs."""
    length, video_tokens = prompt.prefix.shape[1], prompt.video.cells.numel()
    with attached(model, setting) as handle:
        cache = prefill(model, prompt, handle=handle)
        layers = [int(layer.keys.shape[-2]) for layer in cache.layers]
        return {
            "setting": setting.name,
            **asdict(setting),
            "layers": layers,
            "video_tokens": video_tokens,
            "kept": video_tokens - (length - min(layers)),
            **_equal(model, prompt, cache, handle=handle),
        }


def _time(model: Any, prompt: Prompt, setting: Setting, *, row: dict[str, Any], clock: Clock) -> None:
    """One repeat of one setting: the first question, three times the second, and the plain shorter prompt."""
    length = prompt.prefix.shape[1]
    gc.collect()
    with attached(model, setting) as handle:
        begun = clock.now()
        cache = prefill(model, prompt, handle=handle)
        ask(model, fork(cache), prompt.questions[0], start=length)
        row["first_s"].append(clock.now() - begun)
        record = None if handle is None else handle.record(cache)
        row["merge_s"].append(0.0 if record is None else record.merge_s)
        second = partial(ask, model, question=prompt.questions[1], start=length)
        row["second_s"].append([clock.time(partial(second, cache=fork(cache))) for _ in range(3)])
        del cache
    if setting.budget < 1.0:
        shorter = length - row["video_tokens"] + row["kept"]
        row["plain_s"].append(clock.time(partial(_plain, model, prompt, shorter)))


def _plain(model: Any, prompt: Prompt, length: int) -> None:
    """A first question on a prompt that is simply so long."""
    cut = Prompt(prompt.prefix[:, :length], prompt.video, prompt.questions)
    ask(model, prefill(model, cut, handle=None), prompt.questions[0], start=length)


def _equal(model: Any, prompt: Prompt, cache: Any, *, handle: Accelerated | None) -> dict[str, Any]:
    """Whether a later question on the prefix is answered as it would be alone, and whether the prefix stayed as it was.

    Asking afresh is prefilling again and asking only this. The prefix has been asked something else in between.
    """
    length = prompt.prefix.shape[1]
    held = [int(layer.keys.shape[-2]) for layer in cache.layers]
    later, scores = answer(model, fork(cache), prompt.questions[1], start=length)
    again, _ = answer(model, fork(cache), prompt.questions[1], start=length)
    afresh, expected = answer(model, prefill(model, prompt, handle=handle), prompt.questions[1], start=length)
    return {
        "answers_equal": later == again == afresh,
        # Random weights may answer much alike; the scores tell more than the words.
        "scores_difference": float((scores - expected).abs().max()),
        "scores_norm": float(scores.norm()),
        "prefix_unchanged": held == [int(layer.keys.shape[-2]) for layer in cache.layers],
        "answer": later,
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of seconds and of the ratios within each repeat, the ratios' span, and whether the targets are met."""
    full = next(row for row in rows if row["budget"] == 1.0)["first_s"]
    table = []
    for row in rows:
        second = [median(three) for three in row["second_s"]]
        speed_ups = _ratios(full, row["first_s"])
        made: dict[str, Any] = {
            "setting": row["setting"],
            "kept": row["kept"],
            "first_token_s": round(median(row["first_s"]), 4),
            "merge_s": round(median(row["merge_s"]), 4),
            "speed_up": round(median(speed_ups), 3),
            "speed_up_span": [round(min(speed_ups), 3), round(max(speed_ups), 3)],
            "second_question_s": round(median(second), 4),
            "second_faster_than_first": round(median(_ratios(row["first_s"], second)), 2),
            "answers_equal": row["answers_equal"] and row["scores_difference"] <= SAME_SCORES,
        }
        if row["plain_s"]:
            made["plain_prompt_speed_up"] = round(median(_ratios(full, row["plain_s"])), 3)
            made["share_of_plain"] = round(median(_ratios(row["plain_s"], row["first_s"])), 3)
            target = TARGETS.get((row["layer"], row["budget"]))
            if target is not None:
                # At layer 0 the bound is the plain prompt of the same repeat, since machines differ.
                first_layer = row["layer"] == 0
                wanted = NEAR * made["plain_prompt_speed_up"] if first_layer else target
                met = made["share_of_plain"] >= NEAR if first_layer else made["speed_up"] >= wanted
                made |= {"target": round(wanted, 3), "met": met}
            made["later_met"] = made["second_faster_than_first"] >= LATER
        table.append(made)
    return table


def _ratios(of: list[float], to: list[float]) -> list[float]:
    """Repeat by repeat."""
    return [a / b for a, b in zip(of, to, strict=True)]


def markdown(table: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [
        (
            "| video tokens kept | first token | of it merging | speed-up | plain shorter prompt | second question | "
            "faster than first | answers equal |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['setting']} ({row['kept']:,}) | {row['first_token_s']:.2f} s | {row['merge_s']:.2f} s | "
        f"{row['speed_up']:.2f}× | "
        + (f"{row['plain_prompt_speed_up']:.2f}×" if "plain_prompt_speed_up" in row else "–")
        + f" | {row['second_question_s'] * 1000:.0f} ms | {row['second_faster_than_first']:.0f}× | "
        f"{'yes' if row['answers_equal'] else 'NO'} |"
        for row in table
    ]
    return "\n".join(lines)


def calibration(device: str, dtype: torch.dtype, clock: Clock) -> dict[str, float]:
    """What the machine does at this moment: a 1024³ product in the model's type, least of 20."""
    square = torch.randn(1024, 1024, device=device).to(dtype)
    clock.time(lambda: square @ square)
    return {
        "product_1024_s": round(min(clock.time(lambda: square @ square) for _ in range(20)), 6),
        "load": round(os.getloadavg()[0], 2),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/first_token"), help="folder for first_token.json")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="0.5b")
    parser.add_argument("--tokens", type=int, default=12_000, help="video tokens")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.3])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 0])
    parser.add_argument("--repeats", type=int, default=5, help="of everything, back to back")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own choice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float32", "float16"], default="bfloat16")
    parser.add_argument("--vision", action="store_true", help="also time decoding and a vision tower, apart")
    chosen = parser.parse_args(arguments)
    if chosen.repeats < 1:
        parser.error(f"--repeats is {chosen.repeats}; at least 1 is needed")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    dtype: torch.dtype = getattr(torch, chosen.dtype)
    clock = Clock(chosen.device)
    model = make_model(chosen.shape, dtype=dtype, device=chosen.device)
    prompt = make_prompt(model, video_tokens=chosen.tokens)
    settings = [Setting(1.0, 0), *(Setting(budget, layer) for layer in chosen.layers for budget in chosen.budgets)]
    with torch.inference_mode():
        # What is built once per process: thread pools, kernels.
        small = make_prompt(model, video_tokens=196)
        for setting in settings[:2]:
            with attached(model, setting) as handle:
                ask(model, prefill(model, small, handle=handle), small.questions[0], start=small.prefix.shape[1])
    before = calibration(chosen.device, dtype, clock)
    rows = first_tokens(model, prompt, settings, repeats=chosen.repeats, clock=clock)
    after = calibration(chosen.device, dtype, clock)
    table = summary(rows)
    report: dict[str, Any] = {
        "machine": {**machine("transformers"), "threads": torch.get_num_threads(), "device": _device(chosen.device)},
        "model": {"shape": chosen.shape, "dtype": chosen.dtype, "weights": "random"},
        "video_tokens": prompt.video.cells.numel(),
        "prompt_tokens": prompt.prefix.shape[1],
        "calibration": {"before": before, "after": after},
        "rows": rows,
        "table": table,
    }
    if chosen.vision:
        report["decode"] = decode_seconds(repeats=chosen.repeats, timer=clock.time)
        report["vision"] = vision_seconds(repeats=chosen.repeats, timer=clock.time, dtype=dtype, device=chosen.device)
    chosen.out.mkdir(parents=True, exist_ok=True)
    name = "first_token.json" if chosen.device == "cpu" else f"first_token_{chosen.shape}_{chosen.device}.json"
    (chosen.out / name).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(markdown(table))
    if chosen.vision:
        frames = prompt.video.grid[0]
        each = {name: report[name]["seconds_per_frame"] for name in ("decode", "vision")}
        print(
            f"\napart from that, for {frames} frames: decoding {frames * each['decode']:.2f} s, "
            f"vision tower {frames * each['vision']:.2f} s"
        )
    print(f"\ncalibration: {before} before, {after} after")


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if torch.device(device).type == "cuda" else device


if __name__ == "__main__":
    main()
