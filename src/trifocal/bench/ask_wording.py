"""How the small chat model's prompt was chosen: keyword-graded questions on real clips, with and without the video.

    python -m trifocal.bench.ask_wording --clips FOLDER --out bench/ask_wording/results.json [--only NAME ...]

Every setting answers `QUESTIONS` greedily, each clip prefilled once. Beside them stand the same language model asked
without any video (with its own system message, and with the chosen one and its examples), and the names given as plain
words, which is what the tokens could at best convey. 31 questions on six clips are few: a difference of three is noise.
A clip that the folder lacks is left out, and the result says which were used.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trifocal import __version__, video
from trifocal.bench.ask_wording_questions import QUESTIONS, is_right
from trifocal.chat.prompt import Part, PromptStyle, Words, assemble, chat_parts
from trifocal.chat.small_chat import SmallChat, SmallChatConfig, load_small_chat
from trifocal.errors import InvalidInput
from trifocal.video import Frames

__all__ = ["main", "settings"]

ANSWER = 24
COUNTS = ("chosen_on_open", "chosen_on_choice", "held_out_open", "held_out_choice")
WORDS = 6
EXAMPLES = (
    (
        "Objects seen: dog, frisbee, fence, lawn.\nFrame by frame: dog, dog, fence, lawn, dog,",
        "What is shown in the video?",
        "I see a dog, a frisbee, a fence and a lawn.",
    ),
    (
        "Objects seen: canoe, paddle, lakeside.\nFrame by frame: canoe, lakeside, canoe, paddle,",
        "Is it filmed in a library or on a lake?",
        "On a lake, because I see a canoe and a lakeside.",
    ),
    (
        "Objects seen: violin, cello, stage.\nFrame by frame: violin, stage, cello, cello,",
        "Does it show music or farming?",
        "Music, because I see a violin and a cello.",
    ),
)


def settings() -> dict[str, SmallChatConfig]:
    """The settings compared, by name; each is the default with something changed."""
    chosen = SmallChatConfig()
    style = chosen.style
    timed = replace(style, frames="\n", frame="At {time} s:", frame_end="\n")

    def changed(**fields: Any) -> SmallChatConfig:
        return replace(chosen, **fields)

    return {
        "default": chosen,
        "three examples before": changed(style=replace(style, examples=EXAMPLES)),
        "the model's own system message": changed(style=replace(style, system="")),
        "times before frames": changed(style=timed),
        "only the video's 6 names": changed(frame_names=0, grid=0),
        "only frames, 2 names each": changed(video_names=0, frame_names=2, grid=0),
        "1 name a frame": changed(frame_names=1, grid=0),
        "2×2 cells a frame": changed(grid=2),
        "7×7 cells of 4 frames, 1 class": changed(frames=4, grid=7, top_k=1),
        "length as it is": changed(norm=None),
        "4 frames": changed(frames=4),
        "16 frames": changed(frames=16),
        "no repetition penalty": changed(decoding=replace(chosen.decoding, repetition_penalty=1.0)),
        "repetition penalty 1.3": changed(decoding=replace(chosen.decoding, repetition_penalty=1.3)),
        "may repeat itself": changed(decoding=replace(chosen.decoding, no_repeat_ngram=0)),
    }


class Bench:
    """Clips decoded and looked at once, and the models."""

    def __init__(self, folder: Path, *, frames: int = 16, trained: Path | None = None) -> None:
        """Load the models, with trained weights or without, and read the clips that `QUESTIONS` ask about."""
        self.chat = load_small_chat(trained=trained or False)
        paths = {name: folder / f"{name}.mp4" for name in sorted({question.clip for question in QUESTIONS})}
        self.clips = {name: self._read(path, frames) for name, path in paths.items() if path.is_file()}
        if not self.clips:
            raise InvalidInput(f"{folder} holds none of {', '.join(paths)}", remedy="Give the folder of the clips.")
        self.questions = [question for question in QUESTIONS if question.clip in self.clips]

    def _read(self, path: Path, frames: int) -> Frames:
        with video.open(path) as opened:
            return opened.read(video.Sampling.uniform(frames, size=self.chat.network.frame_size))

    def with_video(self, config: SmallChatConfig) -> dict[str, Any]:
        """Answer through the model's own door."""
        self.chat.config = replace(config, decoding=replace(config.decoding, max_new_tokens=ANSWER))
        opened = {name: self.chat.open(_thinned(frames, config.frames)) for name, frames in self.clips.items()}
        return self._graded(lambda clip, question: opened[clip].ask(question).text)

    def without_video(self, style: PromptStyle) -> dict[str, Any]:
        """Answer the bare question."""
        return self._graded(lambda clip, question: self._plain(style, (), question))  # noqa: ARG005  the clip is unseen

    def as_words(self, config: SmallChatConfig) -> dict[str, Any]:
        """Answer with the likeliest names spelt out instead of given as tokens."""
        seen: dict[str, tuple[Part, ...]] = {}
        for name, frames in self.clips.items():
            logits = self.chat.look(_thinned(frames, config.frames)).mean(dim=(2, 3))  # (T, A)
            best = logits.softmax(-1).mean(0).topk(WORDS).indices.tolist()
            names = config.style.separator.join(f" {self.chat.class_names[index]}" for index in best)
            seen[name] = (Words(config.style.video + names + config.style.video_end),)
        return self._graded(lambda clip, question: self._plain(config.style, seen[clip], question))

    def _plain(self, style: PromptStyle, seen: tuple[Part, ...], question: str) -> str:
        model = self.chat.language_model
        before, after = chat_parts(model, style=style, video=seen, question=question)
        prefix = model.prefill(assemble(model, parts=before).embeddings)
        decoding = replace(SmallChatConfig().decoding, max_new_tokens=ANSWER)
        return model.generate(prefix, assemble(model, parts=after).embeddings, decoding=decoding).text

    def _graded(self, answer: Callable[[str, str], str]) -> dict[str, Any]:
        started = time.perf_counter()
        rows = []
        for question in self.questions:
            answers = {text: answer(question.clip, text) for text in question.orders()}
            right = all(is_right(text, question=question) for text in answers.values())
            rows.append({"clip": question.clip, "answers": answers, "right": right})
        counts: dict[str, Any] = {}
        for group, wanted in (("chosen_on", False), ("held_out", True)):
            for kind in ("open", "choice"):
                marks = [
                    row["right"]
                    for row, question in zip(rows, self.questions, strict=True)
                    if question.held_out is wanted and (len(question.orders()) == 1) is (kind == "open")
                ]
                counts[f"{group}_{kind}"] = [sum(marks), len(marks)]
        return {**counts, "seconds": round(time.perf_counter() - started, 1), "answers": rows}


def _thinned(frames: Frames, count: int) -> Frames:
    """The frames at the centres of `count` equal parts."""
    step = len(frames) // count
    if step == 0:
        raise InvalidInput(f"{count} frames are wanted and {len(frames)} were read", remedy="Read more.")
    keep = slice(step // 2, None, step)
    return Frames(images=frames.images[keep], times_s=frames.times_s[keep], warnings=frames.warnings)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=Path, required=True, help="folder with the clips")
    parser.add_argument("--out", type=Path, help="JSON to write; what it holds of other settings is kept")
    parser.add_argument("--trained", type=Path, help="folder of trained weights: judge these instead of the settings")
    parser.add_argument("--only", nargs="*", help="names of settings to run; all by default")
    given = parser.parse_args(arguments)
    bench = Bench(given.clips, trained=given.trained)
    chosen = SmallChatConfig()
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "without video, bare question": lambda: bench.without_video(PromptStyle(system="", question="{question}")),
        "without video, chosen wording": lambda: bench.without_video(chosen.style),
        "names as plain words": lambda: bench.as_words(chosen),
    }
    for name, config in settings().items():
        runs[name] = partial(bench.with_video, config)
    if bench.chat.trained is not None:
        runs = {"trained weights": partial(bench.with_video, bench.chat.config)}
    results: dict[str, Any] = {}
    if given.out and given.out.is_file():
        results = json.loads(given.out.read_text(encoding="utf-8"))["settings"]
    for name in runs if given.only is None else given.only:
        if name not in runs:
            raise InvalidInput(f"There is no setting {name!r}", remedy=f"Name some of: {', '.join(runs)}.")
        results[name] = {**({"config": asdict(settings()[name])} if name in settings() else {}), **runs[name]()}
        row = results[name]
        counts = "  ".join(f"{key} {row[key][0]}/{row[key][1]}" for key in COUNTS)
        print(f"{name:32} {counts}  {row['seconds']} s", flush=True)
        if given.out:
            _write(given.out, bench.chat, results, clips=sorted(bench.clips))


def _write(path: Path, chat: SmallChat, settings_run: Mapping[str, Any], *, clips: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "format": 1,
        "trifocal": __version__,
        "model": chat.name,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "clips": clips,
        "settings": dict(settings_run),
    }
    path.write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
