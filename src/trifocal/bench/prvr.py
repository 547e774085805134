"""The trained retriever on two sets: the paper's form, the default, the hard baseline, and no training at all.

    python -m trifocal.bench.prvr --set synthetic --generator make_prvr.py --data-seeds 2026 1 2
    python -m trifocal.bench.prvr --set anet2a --data FOLDER_OR_ZIP --seeds 0 1 2
    python -m trifocal.bench.prvr --set anet2a --data FOLDER_OR_ZIP --texts lsa --runs reference untrained
    python -m trifocal.bench.prvr --set synthetic --table

One training gives several rows, because a trained encoder can be measured with other generators: "merged afterwards"
is the baseline to beat. Every run writes one JSON (`SET-RUN-dDATASEED-sSEED.json`) and is skipped where that exists;
`--table` prints what is there, means and ranges over seeds. A run is 12 passes over the planted set and 4 over the
other; `reference` ranks captions by captions (`bench.prvr_reference`). Training sees no moments, keeps its last epoch,
and looks at no test figure. Times are CPU time of one thread, which other work on the machine disturbs least.
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
from trifocal.bench.prvr_measure import measure
from trifocal.bench.prvr_reference import reference_rows
from trifocal.bench.prvr_table import table
from trifocal.retrieval.data import open_layout, read_two_annotations
from trifocal.retrieval.data.batches import SplitBatches
from trifocal.retrieval.data.two_annotations import reference_space
from trifocal.retrieval.model import (
    PRESETS,
    PrototypeRetriever,
    closed_form_start,
    preset,
    query_by_last_word,
)
from trifocal.retrieval.train import find_config, train_find

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.data import RetrievalData

__all__ = ["REFERENCE", "RUNS", "CachedEncoder", "Run", "execute", "main"]

_AT_ONCE = 256
_MOST_VECTORS = 64
# Maps that start as the identity of a good space have less far to go than random ones.
_RATE_OF_A_SHARED_SPACE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training and the rows that are measured with it.

    Args:
        says: what it is, for the table.
        preset: of the model.
        changes: fields that differ.
        also: further rows by name: fields that differ from the trained model's, with its encoders kept.
        start: None to train; `identity` or `ridge` for a model that takes no steps.
    """

    says: str
    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start: str | None = None


def _sizes(*, generator: str, sizes: Sequence[int]) -> dict[str, dict[str, Any]]:
    return {f"{generator}, {k}": {"generator": generator, "prototypes": k} for k in sizes}


_HARD = {"hard_negatives_from_epoch": 6}
_AFTERWARDS = {**_sizes(generator="merged", sizes=(32, 16, 8, 4)), **_sizes(generator="coverage", sizes=(16, 8, 4))}
_PLAIN = {
    "best clip": {"generator": "tokens", "window_max": 1},
    "mean of the video": {"generator": "merged", "prototypes": 1},
}
RUNS: Mapping[str, Run] = {
    "paper-residual": Run(says="the paper's form, written plainly", preset="paper_residual", changes=_HARD),
    "paper": Run(says="the paper's form, mended", preset="paper", changes=_HARD),
    "paper-generator-linear": Run(
        says="the paper's generator, all else the default's", preset="default", changes={"generator": "attention"}
    ),
    "clips": Run(
        says="clip tokens, trained",
        preset="windows",
        changes={"window_max": 1},
        also=_sizes(generator="merged", sizes=(16, 8, 4)),
    ),
    "default": Run(says="default", preset="default", also={**_AFTERWARDS, "all windows": {"generator": "tokens"}}),
    "closed-form": Run(
        says="least squares on training captions, no steps", preset="default", start="ridge", also=_AFTERWARDS
    ),
    "untrained": Run(says="no training", preset="default", start="identity", also={**_AFTERWARDS, **_PLAIN}),
}
"""What can be run, by name. Without training frames and words need one space: on the planted set, where they lie in
two, `untrained` is a model of random maps, and chance."""
REFERENCE = "reference"
_EPOCHS = {"synthetic": 12, "anet2a": 4}


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
    linear = PRESETS[run.preset].get("encoder") == "linear"
    changes = {**run.changes, **({"start": "shared"} if shared and linear else {})}
    torch.manual_seed(seed)
    model = PrototypeRetriever(preset(run.preset, video_dim=data.features.dim, text_dim=data.words.dim, **changes))
    before = None if run.start else measure(model, data)  # whether a model collapses can show before its first step
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
        config_of = replace(model.config, **other)
        if config_of.vectors > _MOST_VECTORS and len(data.split("test").videos()) > 1000:
            continue  # every window of thousands of videos takes more memory than a row is worth
        if config_of != model.config:
            rows[name] = measure(model.with_generator(config_of), data)
    return {
        "rows": rows,
        "before_training": before,
        "train_cpu_s": round(trained_s, 1),
        "model": json.loads(model.config.to_json()),
        "training": steps,
    }


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
    parser.add_argument("--runs", nargs="+", choices=[*RUNS, REFERENCE], help="default: all that fit the set")
    parser.add_argument("--epochs", type=int, help="default: 12 of the synthetic set, 4 of anet2a")
    parser.add_argument("--texts", choices=["minilm", "lsa"], default="minilm", help="embeddings of anet2a")
    parser.add_argument("--cache", type=Path, help="folder for embeddings; default: the user's cache")
    parser.add_argument("--out", type=Path, default=Path("bench/prvr"))
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    options = parser.parse_args(arguments)
    if not options.table and options.data is None and options.generator is None:
        parser.error("give --data, or for the synthetic set --generator")
    if options.set == "synthetic" and REFERENCE in (options.runs or ()):
        parser.error(f"{REFERENCE} is a run of anet2a")
    options.epochs = options.epochs or _EPOCHS[options.set]
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, then print the table."""
    options = _arguments(arguments)
    name = options.set if options.set == "synthetic" else f"anet2a_{options.texts}"
    says = {**{run: one.says for run, one in RUNS.items()}, REFERENCE: "captions against captions, no training"}
    if options.table:
        print(table(options.out, name, says=says))
        return
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    shared = options.set == "anet2a"
    for data_seed in options.data_seeds if not shared else [0]:
        with tempfile.TemporaryDirectory() as scratch:
            data: RetrievalData | None = None
            for seed in options.seeds:
                for run in options.runs or [*RUNS, *([REFERENCE] if shared else [])]:
                    path = options.out / f"{name}-{run}-d{data_seed}-s{seed}.json"
                    without_seed = run == REFERENCE or RUNS[run].start is not None
                    if path.exists() or (without_seed and seed != options.seeds[0]):
                        continue
                    print(f"{path.stem}", flush=True)
                    facts = machine()
                    if run == REFERENCE:
                        found: dict[str, Any] = {"rows": reference_rows(options.data, _texts(options))}
                    else:
                        if data is None:
                            data = _anet(options) if shared else _synthetic(options, data_seed, Path(scratch))
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
                    print(f"  { {row: one['sum_r'] for row, one in found['rows'].items()} }", flush=True)
    print(table(options.out, name, says=says))


def _anet(options: argparse.Namespace) -> RetrievalData:
    return read_two_annotations(options.data, encode=_texts(options))


def _texts(options: argparse.Namespace) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    if options.texts == "lsa":
        return reference_space(options.data).encode
    from platformdirs import user_cache_path

    return CachedEncoder(options.cache or user_cache_path("trifocal") / "bench-texts")


if __name__ == "__main__":
    main()
