"""Whether a retriever trained on drawn videos ships with the package, by a rule that was set before it was trained.

    runs/train_small_find.sh FOLDER      # makes what this reads, and calls it
    python -m trifocal.bench.small_find bench/small_find

It ships when its SumR on held-out drawn videos is above that of the training-free prototypes for every training seed,
and when on the real clips no seed has a lower mean reciprocal rank or recall at 1 than the offline default.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trifocal.bench.machine import machine
from trifocal.bench.zero_shot_encoders import DEFAULT
from trifocal.errors import InvalidInput

__all__ = ["decide", "main"]


def decide(folder: Path | str) -> dict[str, Any]:
    """The rule and the figures that it looks at.

    Args:
        folder: with `held-SEED.json` of `trifocal eval find --untrained`, and `clips.json` of
            `bench.zero_shot --encoder` for the same models.

    Raises:
        InvalidInput: a file is missing, or there is not one encoder a seed.
    """
    held = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("held-*.json"))]
    path = Path(folder) / "clips.json"
    if not held or not path.is_file():
        raise InvalidInput(f"{folder} has no held-*.json, or no clips.json", remedy="Run runs/train_small_find.sh.")
    clips = json.loads(path.read_text(encoding="utf-8"))
    default, trained = clips[DEFAULT], [row for name, row in clips.items() if name != DEFAULT]
    if len(trained) != len(held):
        raise InvalidInput(
            f"{folder} has {len(held)} evaluations and {len(trained)} encoders on clips", remedy="Run the script again."
        )
    beats = all(one["trained"]["sum_r"] > one["untrained"]["sum_r"] for one in held)
    loses = any(row[figure] < default[figure] for row in trained for figure in ("mrr", "recall_1"))
    return {
        "held_out_drawn_videos": {
            "videos": held[0]["trained"]["videos"],
            "queries": held[0]["trained"]["queries"],
            "chance_sum_r": held[0]["trained"]["chance_sum_r"],
            **{
                name: {
                    figure: _spread([one[name][figure] for one in held])
                    for figure in ("sum_r", "bytes_per_video", "prototypes_per_video")
                }
                | {
                    figure: _spread([one[name]["moments"][figure] for one in held])
                    for figure in ("peak_inside", "mean_iou")
                }
                for name in ("trained", "untrained")
            },
        },
        "real_clips": {
            DEFAULT: {figure: default[figure] for figure in ("mrr", "recall_1")},
            "trained": {
                figure: _spread([row[figure] for row in trained]) for figure in ("mrr", "recall_1", "better", "worse")
            },
        },
        "beats_untrained_on_drawn_videos": beats,
        "loses_on_real_clips": loses,
        "ships": beats and not loses,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Decide, write `decision.json` beside what was read, and print it."""
    parser = argparse.ArgumentParser(prog="python -m trifocal.bench.small_find", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    document = {**decide(options.folder), "machine": machine()}
    text = json.dumps(document, indent=1)
    (options.folder / "decision.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
