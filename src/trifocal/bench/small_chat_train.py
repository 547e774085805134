"""Train the projector and the low-rank changes of the small chat model on playground questions.

First in closed form: the projector's linear part is the ridge regression from cells to the sum of the embeddings of
the words for what is there, so the language model is given something to read from the first step on. Then through the
language model: the answers' tokens only, a dozen questions on a video in one pass, in three passes of four with
tokens merged by a method drawn at random. One pass in twelve shows no video, so that the same weights can be judged
without. Every other pass also asks to name what is seen, and the answer is what the classifier finds likeliest.
Several folders of data are taken as one: short videos, and long ones of many frames, in which the merging of tokens is
what leaves room for them. It resumes from its last checkpoint.

    python -m trifocal.bench.small_chat_train DATA [LONG ...] --out FOLDER --steps 1600
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from trifocal.bench.small_chat_data import GRID, Sample, load_split
from trifocal.chat.prompt import PromptStyle
from trifocal.chat.small.asking import answer_scores, prefix_of
from trifocal.chat.small.field import field_parts, video_field
from trifocal.chat.small.low_rank import attach, low_rank_tensors
from trifocal.chat.small.projector import Projector, ProjectorConfig
from trifocal.chat.small_chat import SmallChat, SmallChatConfig, load_small_chat
from trifocal.chat.video_tokens import class_embeddings, likeliest_classes
from trifocal.errors import InvalidInput
from trifocal.merging import MergeConfig, configure
from trifocal.playground.captions import article

__all__ = ["Recipe", "fit_linear", "main"]

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj")
METHODS = ("sttm", "tome", "evs", "uniform", "random")
BUDGETS = (0.5, 0.3, 0.15)
NAMING = (
    "What is shown in the video?",
    "What do you see in the video?",
    "What objects are in the video?",
    "Name what is seen.",
    "Describe the video.",
    "What is this video about?",
)
STYLE = PromptStyle(frames="\nFrames:")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained.

    Args:
        steps: of the optimiser.
        videos: in a step.
        questions: on each video of a step.
        rank: of the low-rank changes.
        rate: highest learning rate of the low-rank changes; the projector's linear part takes a tenth.
        fitted: videos that the regression takes.
        warmup: steps until the highest rate; then it falls along a cosine to a twentieth.
        merged: share of the passes with merged tokens.
        blind: share of the passes without the video.
        naming: share of the passes that also ask to name what is seen.
        seed: of all that is drawn.
    """

    steps: int = 1600
    videos: int = 1
    questions: int = 12
    rank: int = 16
    rate: float = 1e-3
    fitted: int = 300
    warmup: int = 10
    merged: float = 0.75
    blind: float = 1 / 12
    naming: float = 0.5
    seed: int = 0


def fit_linear(projector: Projector, samples: Sequence[Sample], *, chat: SmallChat, ridge: float = 0.01) -> None:
    """Fit centre, scale and the linear part: what words stand for a cell, as the sum of their embeddings.

    Args:
        projector: changed in place.
        samples: with their truth.
        chat: embeds the words.
        ridge: share of the inputs' variance that is added to it.
    """
    words = sorted({word for sample in samples for word in _words(sample)})
    model = chat.language_model
    embeddings = class_embeddings(model.embeddings, token_ids=[model.token_ids(f" {word}") for word in words])
    count, total, squares = 0, torch.zeros(projector.config.inputs), torch.zeros(projector.config.inputs)
    for sample in samples:
        given = projector.inputs(sample.cells).flatten(0, 2)
        count, total, squares = count + len(given), total + given.sum(0), squares + given.square().sum(0)
    centre = total / count
    # An input that hardly ever differs from its mean is not blown up.
    projector.centre.copy_(centre)
    projector.scale.copy_(1 / (squares / count - centre.square()).clamp(min=4e-4).sqrt())
    gram = torch.zeros(projector.config.inputs, projector.config.inputs)
    cross = torch.zeros(projector.config.inputs, len(words))
    for sample in samples:
        given, wanted = projector.inputs(sample.cells).flatten(0, 2), _presence(sample, words).flatten(0, 2)
        gram += given.T @ given
        cross += given.T @ wanted
    solved = torch.linalg.solve(gram + ridge * count * torch.eye(len(gram)), cross)  # (inputs, words)
    with torch.no_grad():
        # Without the mean: it would be in every token alike, and a language model that reads the same word dozens of
        # times goes on with it.
        projector.linear.weight.copy_((solved @ embeddings).T)


def _words(sample: Sample) -> set[str]:
    return {word for frame in sample.frames for seen in frame["seen"] for word in seen["words"]} | {
        frame["place"] for frame in sample.frames
    }


def _presence(sample: Sample, words: Sequence[str]) -> torch.Tensor:
    """How much each word stands for each cell: `(T, GRID, GRID, words)`, 1 where its box covers most."""
    index = {word: number for number, word in enumerate(words)}
    present = np.zeros((len(sample.frames), GRID, GRID, len(words)), np.float32)
    low = np.arange(GRID) / GRID
    for number, frame in enumerate(sample.frames):
        present[number, :, :, index[frame["place"]]] = 1.0
        for seen in frame["seen"]:
            x0, y0, x1, y1 = seen["box"]
            rows, columns = (
                np.clip(np.minimum(low + 1 / GRID, end) - np.maximum(low, start), 0.0, None)
                for start, end in ((y0, y1), (x0, x1))
            )
            covered = np.outer(rows, columns)
            if covered.max() > 0:
                which = [index[word] for word in seen["words"]]
                share = (covered / covered.max())[..., None]
                present[number][:, :, which] = np.maximum(present[number][:, :, which], share)
    return torch.from_numpy(present)


class Trainer:
    """The model, the data and the state of a run."""

    def __init__(self, data: Sequence[Path], out: Path, recipe: Recipe, *, videos: int | None) -> None:
        """Load all and take up the last checkpoint, if there is one."""
        self.recipe, self.out = recipe, out
        self.chat = load_small_chat(config=SmallChatConfig(style=STYLE))
        # Fast attention kernels for the CPU take longer than the plain one for passes of this length.
        self.chat.language_model.model.set_attn_implementation("eager")
        self.samples = [sample for folder in data for sample in load_split(folder, first=videos)]
        seen = [_likeliest(self.chat, sample) for sample in self.samples]
        self.names = [names for names, _ in seen]
        self.naming = [naming for _, naming in seen]
        types = Counter(question["type"] for sample in self.samples for question in sample.questions)
        self.weights = {kind: count**-0.5 for kind, count in types.items()}
        torch.manual_seed(recipe.seed)
        self.projector = Projector(ProjectorConfig())
        self.changes = attach(self.chat.language_model.model, rank=recipe.rank, names=LAYERS)
        self.optimiser = torch.optim.AdamW(self._groups(), weight_decay=0.0, betas=(0.9, 0.95))
        self.step = 0
        self.history: list[dict[str, float]] = []
        out.mkdir(parents=True, exist_ok=True)
        # A run may be gone on with to another number of steps; all else must be the same.
        about = {**asdict(recipe), "steps": None, "of_videos": len(self.samples)}
        about["data"] = [str(folder) for folder in data]
        config = out / "recipe.json"
        if config.is_file() and json.loads(config.read_text(encoding="utf-8")) != about:
            raise InvalidInput(f"{out} holds another run", remedy="Give another folder, or the recipe of that run.")
        config.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if (out / "checkpoint.safetensors").is_file():
            self._restore()
        else:
            fitted = out / "fitted.safetensors"
            if not fitted.is_file():
                fit_linear(self.projector, self.samples[: recipe.fitted], chat=self.chat)
                save_file(self.projector.state_dict(), fitted)
            self.projector.load_state_dict(load_file(fitted))
        for layer in self.chat.language_model.model.modules():
            if isinstance(layer, torch.nn.Linear) and layer is not self.chat.language_model.model.lm_head:
                layer.to(torch.bfloat16)  # what autocast would do again in every pass

    def _groups(self) -> list[dict[str, Any]]:
        rate, linear = self.recipe.rate, list(self.projector.linear.parameters())
        rest = [each for name, each in self.projector.named_parameters() if not name.startswith("linear.")]
        low_rank = [part for change in self.changes.values() for part in (change.down, change.up)]
        return [
            {"params": low_rank, "most": rate},
            {"params": linear, "most": rate / 10},
            {"params": rest, "most": rate},
        ]

    def run(self) -> None:
        """Train to the end, with a checkpoint every 10 steps."""
        recipe, began, tokens = self.recipe, time.perf_counter(), 0
        while self.step < recipe.steps:
            random = np.random.default_rng([recipe.seed, self.step])
            share = min(1.0, (self.step + 1) / recipe.warmup)
            share *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.step / recipe.steps))
            for group in self.optimiser.param_groups:
                group["lr"] = group["most"] * share
            losses = []
            for _ in range(recipe.videos):
                loss, length = self._one_pass(random)
                torch.autograd.backward(loss / recipe.videos)
                losses.append(loss.item())
                tokens += length
            torch.nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            self.step += 1
            self.history.append({"step": self.step, "loss": float(np.mean(losses))})
            if self.step % 10 == 0 or self.step == recipe.steps:
                self._save()
                spent, recent = time.perf_counter() - began, np.mean([row["loss"] for row in self.history[-25:]])
                print(
                    f"step {self.step}: loss {recent:.3f}, {tokens} video tokens, {spent:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )

    def _one_pass(self, random: np.random.Generator) -> tuple[torch.Tensor, int]:
        number = int(random.integers(len(self.samples)))
        sample, style = self.samples[number], self.chat.config.style
        merge: MergeConfig | None = None
        if random.random() < self.recipe.merged:
            merge = configure(str(random.choice(METHODS)), budget=float(random.choice(BUDGETS)))
        chances = np.array([self.weights[question["type"]] for question in sample.questions])
        count = min(self.recipe.questions, len(chances))
        picked = [
            sample.questions[at] for at in random.choice(len(chances), count, replace=False, p=chances / chances.sum())
        ]
        asked = [(question["text"], str(question["answer"])) for question in picked]
        if random.random() < self.recipe.blind:
            parts, length = [], 0
        else:
            if random.random() < self.recipe.naming:
                asked.append((str(random.choice(NAMING)), self.naming[number]))
            field = video_field(self.projector, sample.cells, times_s=sample.times_s, merge=merge)
            parts, length = field_parts(style, field, names=self.names[number]), len(field.tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = answer_scores(
                self.chat.language_model,
                prefix_of(self.chat.language_model, style=style, video=parts).embeddings,
                style=style,
                questions=[question for question, _ in asked],
                answers=[[answer] for _, answer in asked],
            )
        # Each answer counts alike, however many tokens it has.
        return -torch.stack([each[0].mean() for each in scores]).mean(), length

    def _save(self) -> None:
        state: dict[str, torch.Tensor] = {f"projector.{k}": v for k, v in self.projector.state_dict().items()}
        state |= {f"low_rank.{name}": tensor for name, tensor in low_rank_tensors(self.changes).items()}
        for number, group in enumerate(self.optimiser.param_groups):
            for at, parameter in enumerate(group["params"]):
                for key, value in self.optimiser.state[parameter].items():
                    state[f"optimiser.{number}.{at}.{key}"] = torch.as_tensor(value)
        part = self.out / "checkpoint.part"
        save_file(state, part, metadata={"history": json.dumps(self.history)})
        part.replace(self.out / "checkpoint.safetensors")
        (self.out / "history.json").write_text(json.dumps(self.history) + "\n", encoding="utf-8")

    def _restore(self) -> None:
        state = load_file(self.out / "checkpoint.safetensors")
        self.projector.load_state_dict(
            {name.partition(".")[2]: tensor for name, tensor in state.items() if name.startswith("projector.")}
        )
        with torch.no_grad():
            for name, change in self.changes.items():
                change.down.copy_(state[f"low_rank.{name}.down"])
                change.up.copy_(state[f"low_rank.{name}.up"])
        for number, group in enumerate(self.optimiser.param_groups):
            for at, parameter in enumerate(group["params"]):
                start = f"optimiser.{number}.{at}."
                self.optimiser.state[parameter] = {
                    name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)
                }
        self.history = json.loads((self.out / "history.json").read_text(encoding="utf-8"))
        self.step = len(self.history)


def _likeliest(chat: SmallChat, sample: Sample) -> tuple[torch.Tensor, str]:
    """The classes that the video most likely shows: as tokens, as `SmallChat` gives them, and the first in words."""
    logits = chat.network.classify_cells(sample.pooled.float()[:, :, None, None])  # (T, A, 1, 1)
    frames = logits.mean(dim=(2, 3)).softmax(-1)
    best, _ = likeliest_classes(frames.mean(0).log()[None], count=3)
    names = [article(chat.class_names[index]) for index in best[0].tolist()]
    return chat.tokens(logits)[1].clone(), f"I see {names[0]}, {names[1]} and {names[2]}."


def main(arguments: list[str] | None = None) -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders of trifocal.bench.small_chat_data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; one that was begun is gone on with")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--rate", type=float, default=Recipe().rate, help="highest learning rate")
    parser.add_argument("--rank", type=int, default=Recipe().rank, help="of the low-rank changes")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--videos", type=int, help="use so many videos of each folder; all by default")
    given = parser.parse_args(arguments)
    recipe = Recipe(steps=given.steps, rate=given.rate, rank=given.rank, seed=given.seed)
    Trainer(given.data, given.out, recipe, videos=given.videos).run()


if __name__ == "__main__":
    main()
