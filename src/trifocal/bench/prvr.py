"""The trained retriever on two sets: the paper's form, the default, the hard baseline, and no training at all.

    python -m trifocal.bench.prvr --set synthetic --generator make_prvr.py --data-seeds 2026 1 2
    python -m trifocal.bench.prvr --set anet2a --data FOLDER_OR_ZIP
    python -m trifocal.bench.prvr --set synthetic --table

One training gives several rows, because a trained encoder can be measured with other generators: "merged afterwards"
is the baseline to beat. Every run writes one JSON (`SET-RUN-dDATASEED-sSEED.json`) and is skipped where that exists;
`--table` prints what is there, means and ranges over seeds. Training sees no moments, keeps its last epoch, and looks
at no test figure. Times are CPU time of one thread, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trifocal import __version__
from trifocal.bench.machine import machine
from trifocal.retrieval.collapse import collapse_figures
from trifocal.retrieval.data import open_layout, read_two_annotations
from trifocal.retrieval.data.batches import SplitBatches
from trifocal.retrieval.evaluation.metrics import moment_share, rank_scores, ranks_of
from trifocal.retrieval.model import (
    PrototypeRetriever,
    closed_form_start,
    preset,
    query_by_last_word,
)
from trifocal.retrieval.train import find_config, train_find

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.data import RetrievalData

__all__ = ["PEERS", "RUNS", "CachedEncoder", "Run", "main", "measure", "table"]

PEERS = {"MS-SL": (180.5, 975_788), "GMMFormer": (186.8, 50_688), "MSC": (127.5, 245_760)}
"""SumR and bytes a video of public code on the default synthetic set: 12 epochs, 25 videos a batch, hidden 384."""

_AT_ONCE = 256
# Maps that start as the identity of a good space have less far to go than random ones.
_RATE_OF_A_SHARED_SPACE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training and the rows that are measured with it.

    Args:
        preset: of the model.
        changes: fields that differ.
        also: further rows by name: fields that differ from the trained model's, with its encoders kept.
        start: None to train; `identity` or `ridge` for a model that takes no steps.
    """

    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start: str | None = None


def _sizes(*, generator: str, sizes: Sequence[int]) -> dict[str, dict[str, Any]]:
    return {f"{generator}, {k}": {"generator": generator, "prototypes": k} for k in sizes}


_AFTERWARDS = {**_sizes(generator="merged", sizes=(32, 16, 8, 4)), **_sizes(generator="coverage", sizes=(16, 8, 4))}
RUNS: Mapping[str, Run] = {
    "paper": Run(preset="paper", changes={"hard_negatives_from_epoch": 6}),
    "paper-residual": Run(preset="paper_residual", changes={"hard_negatives_from_epoch": 6}),
    "clips": Run(preset="windows", changes={"window_max": 1}, also=_sizes(generator="merged", sizes=(16, 8, 4))),
    "default": Run(preset="default", also={**_AFTERWARDS, "all windows": {"generator": "tokens"}}),
    "closed-form": Run(preset="default", start="ridge", also=_AFTERWARDS),
    "untrained": Run(preset="default", start="identity", also=_AFTERWARDS),
}
"""What can be run, by name."""


class CachedEncoder:
    """A sentence encoder whose vectors are kept in a folder, because a set's 50,000 texts take minutes.

    Args:
        folder: where; a file per list of texts, named by its hash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts to unit vectors (N, D)."""
        name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]
        path = self.folder / f"{name}.npy"
        if path.exists():
            kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
            return kept
        from trifocal.backbones import load_sentence_encoder  # takes seconds, and a cached set does without

        made = load_sentence_encoder().encode(list(texts))
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(path, made)
        return made


def measure(model: PrototypeRetriever, data: RetrievalData, *, split: str = "test") -> dict[str, Any]:
    """One row: ranks, bytes, CPU milliseconds, and the figures of collapse.

    Args:
        model: in whatever mode.
        data: with that split.
        split: whose videos compete.
    """
    part = SplitBatches(data, data.split(split), clips=model.config.clips, max_words=model.config.max_words)
    captions = [one for video in part.videos for one in part.captions[video]]
    owner = np.repeat(np.arange(len(part)), [len(part.captions[video]) for video in part.videos])
    clips = np.stack([part.clips(video) for video in part.videos])
    began = time.process_time()
    made = model.encode_clips(clips)
    video_ms = 1e3 * (time.process_time() - began) / len(clips)
    words = [part.words(one.id) for one in captions]
    queries = model.encode_query(words)
    vectors = made.vectors.astype(np.float32)  # (Nv, K, D)
    ranks, ties = [], []
    for start in range(0, len(queries), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        cosines = (queries[rows] @ vectors.reshape(-1, vectors.shape[2]).T).reshape(-1, *vectors.shape[:2])
        found, tied = ranks_of(cosines.max(axis=2), owner[rows])
        ranks.append(found)
        ties.append(tied)
    scored = rank_scores(np.concatenate(ranks), tied=np.concatenate(ties))
    durations = data.split(split).durations_s
    known = np.array([bool(one.moments_s) and one.video in durations for one in captions])
    moments = np.array(
        [np.array(one.moments_s[0]) / durations[one.video] for one, k in zip(captions, known, strict=True) if k]
    )
    whole = bool(known.all())  # else the peaks are counted over fewer queries than the winners
    timed = {"peaks": made.peaks, "moments": moments}
    figures = collapse_figures(queries, vectors, owner, attention=made.attention, **(timed if whole else {}))
    looking = figures if whole or not known.any() else collapse_figures(queries[known], vectors, owner[known], **timed)
    return {
        "sum_r": round(scored.sum_r, 2),
        "recall": {str(k): round(value, 2) for k, value in scored.recall.items()},
        "tied": scored.tied,
        "videos": len(part),
        "queries": len(captions),
        "prototypes": int(vectors.shape[1]),
        "bytes_per_video": int(made.vectors[0].nbytes),
        "video_ms": round(video_ms, 2),
        **_query_ms(model, words, vectors),
        "parameters": model.parameters_in_use(),
        "collapse": {
            **figures.to_dict(),
            "peak_inside": looking.peak_inside,
            "peak_chance": looking.peak_chance,
        },
        "mean_moment_share": round(
            float(np.mean([moment_share([m], 1.0) for m in moments.tolist()])) if len(moments) else 0.0, 3
        ),
    }


def _query_ms(
    model: PrototypeRetriever, words: Sequence[NDArray[np.float32]], vectors: NDArray[np.float32]
) -> dict[str, float]:
    """Medians over 20 single queries of encoding, and of scoring all videos."""
    flat = vectors.reshape(-1, vectors.shape[2])
    encode, search = [], []
    for one in words[:21]:
        t0 = time.process_time()
        query = model.encode_query([one])[0]
        t1 = time.process_time()
        scores = (flat @ query).reshape(vectors.shape[:2]).max(axis=1)
        np.argsort(-scores)[:10]
        encode.append(1e3 * (t1 - t0))
        search.append(1e3 * (time.process_time() - t1))
    return {"encode_ms": round(float(np.median(encode[1:])), 3), "search_ms": round(float(np.median(search[1:])), 3)}


def execute(
    run: Run, data: RetrievalData, *, seed: int, epochs: int, shared: bool, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Train (or not) and measure every row of a run.

    Args:
        run: what.
        data: with "train" and "test".
        seed: of weights, order and masks.
        epochs: passes.
        shared: frames and words share a space, which linear maps then keep at the start.
        progress: told what happens.
    """
    linear = run.preset not in ("paper", "paper_residual")
    changes = {**run.changes, **({"start": "shared"} if shared and linear else {})}
    torch.manual_seed(seed)
    model = PrototypeRetriever(preset(run.preset, video_dim=data.features.dim, text_dim=data.words.dim, **changes))
    before = None if linear else measure(model, data)  # whether a model collapses can show before its first step
    began = time.process_time()
    steps: dict[str, Any] = {"epochs": 0}
    if run.start == "identity":
        query_by_last_word(model)
    elif run.start == "ridge":
        closed_form_start(model, SplitBatches(data, data.split("train")).each(_AT_ONCE))
    else:
        rate: dict[str, Any] = {"lr": _RATE_OF_A_SHARED_SPACE} if shared and linear else {}
        config = replace(
            find_config(run.preset, changes=changes, epochs=epochs, seed=seed, patience=None, **rate), stop_on="nothing"
        )
        with tempfile.TemporaryDirectory() as scratch:
            _, model = train_find(
                data, config, folder=Path(scratch) / "run", on_epoch=lambda row: progress(f"  {dict(row)}")
            )
        steps = {"epochs": epochs, "config": config.to_dict()}
    trained_s = time.process_time() - began
    rows = {"itself": measure(model, data)}
    for name, other in run.also.items():
        if other.get("generator") == "tokens" and len(data.split("test").videos()) > 1000:
            continue  # every window of thousands of videos takes more memory than a row is worth
        config_of = replace(model.config, **other)
        if config_of != model.config:
            rows[name] = measure(model.with_generator(config_of), data)
        progress(f"  {name}: {rows.get(name, rows['itself'])['sum_r']}")
    return {
        "rows": rows,
        "before_training": before,
        "train_cpu_s": round(trained_s, 1),
        "model": json.loads(model.config.to_json()),
        "training": steps,
    }


def table(folder: Path, name: str) -> str:
    """What has been measured on a set as a Markdown table: means over runs, with the least and the most."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob(f"{name}-*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for row, figures in document["rows"].items():
            found.setdefault((document["run"], row), []).append(figures)
    columns = ["run", "row", "runs", "SumR (least–most)", "bytes a video", "encode + search, ms", "cos"]
    columns += ["distinct winners a video", "winners in all", "entropy", "peak inside"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    if name == "synthetic":
        lines += [f"| peer | {peer} | 1 | {sum_r} | {size:,} | | | | | | |" for peer, (sum_r, size) in PEERS.items()]
    order = {key: place for place, key in enumerate(RUNS)}
    for (run, row), many in sorted(found.items(), key=lambda item: (order.get(item[0][0], 99), item[0][1] != "itself")):
        sums = [one["sum_r"] for one in many]

        def mean(*keys: str, rows: Sequence[Mapping[str, Any]] = many) -> float:
            values: list[Any] = list(rows)
            for key in keys:
                values = [value[key] for value in values]
            return float(np.mean([float("nan") if value is None else value for value in values]))

        lines.append(
            f"| {run} | {row} | {len(many)} | {np.mean(sums):.1f} ({min(sums):.1f}–{max(sums):.1f}) "
            f"| {many[0]['bytes_per_video']:,} | {mean('encode_ms'):.2f} + {mean('search_ms'):.2f} "
            f"| {mean('collapse', 'mean_cosine'):.2f} "
            f"| {mean('collapse', 'winners_per_video'):.2f} of {mean('collapse', 'queries_per_video'):.1f} "
            f"| {mean('collapse', 'winners_corpus'):.0f} of {many[0]['prototypes']} "
            f"| {mean('collapse', 'attention_entropy'):.2f} | {mean('collapse', 'peak_inside'):.2f} |"
        )
    return "\n".join(lines)


def _synthetic(options: argparse.Namespace, seed: int, scratch: Path) -> RetrievalData:
    if options.data is not None:
        return open_layout(options.data)
    subprocess.run(
        [sys.executable, str(options.generator), "--out", str(scratch), "--seed", str(seed)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (folder,) = scratch.iterdir()
    return open_layout(folder)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.prvr", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", choices=["synthetic", "anet2a"], required=True)
    parser.add_argument("--data", type=Path, help="a folder in the field's layout, or the ActivityNet jsons (or a zip)")
    parser.add_argument("--generator", type=Path, help="the script that writes the synthetic set")
    parser.add_argument("--data-seeds", type=int, nargs="+", default=[2026], help="of the synthetic set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), help="default: all that fit the set")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--texts", choices=["minilm", "lsa"], default="minilm", help="embeddings of anet2a")
    parser.add_argument("--cache", type=Path, help="folder for embeddings; default: the user's cache")
    parser.add_argument("--out", type=Path, default=Path("bench/prvr"))
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    options = parser.parse_args(arguments)
    if not options.table and options.data is None and options.generator is None:
        parser.error("give --data, or for the synthetic set --generator")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, then print the table."""
    options = _arguments(arguments)
    name = options.set if options.set == "synthetic" else f"anet2a_{options.texts}"
    if options.table:
        print(table(options.out, name))
        return
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    shared = options.set == "anet2a"
    fitting = [run for run in RUNS if run != ("closed-form" if shared else "untrained")]
    for data_seed in options.data_seeds if not shared else [0]:
        with tempfile.TemporaryDirectory() as scratch:
            data: RetrievalData | None = None
            for seed in options.seeds:
                for run in options.runs or fitting:
                    path = options.out / f"{name}-{run}-d{data_seed}-s{seed}.json"
                    if path.exists() or (RUNS[run].start and seed != options.seeds[0]):
                        continue
                    if data is None:
                        data = _anet(options) if shared else _synthetic(options, data_seed, Path(scratch))
                    print(f"{path.stem}", flush=True)
                    facts = machine()
                    found = execute(
                        RUNS[run],
                        data,
                        seed=seed,
                        epochs=options.epochs,
                        shared=shared,
                        progress=lambda line: print(line, flush=True),
                    )
                    document = {
                        "set": name,
                        "run": run,
                        "data_seed": data_seed,
                        "seed": seed,
                        "version": __version__,
                        "machine": facts,
                        **found,
                    }
                    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                    print(f"  {found['rows']['itself']['sum_r']}", flush=True)
    print(table(options.out, name))


def _anet(options: argparse.Namespace) -> RetrievalData:
    if options.texts == "lsa":
        return read_two_annotations(options.data)
    from platformdirs import user_cache_path

    return read_two_annotations(
        options.data, encode=CachedEncoder(options.cache or user_cache_path("trifocal") / "bench-texts")
    )


if __name__ == "__main__":
    main()
