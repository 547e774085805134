"""What comes before the language model: seconds to decode a frame, and to run it through a vision tower.

Both are reported beside the time to first token and are no part of it: merging does not change them, and a chat pays
them once for a video. Every repeat is kept; the figure is the median.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trifocal import video
from trifocal.bench.decode import pictures
from trifocal.video import Sampling, write_mp4

__all__ = ["TOWER", "decode_seconds", "vision_seconds"]

TOWER: dict[str, int] = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16,
    "image_size": 384, "patch_size": 14,
}  # fmt: skip
"""The shape of SigLIP-so400m, the tower of the LLaVA models."""
CHUNK = 4
FPS = 30

Timer = Callable[[Callable[[], object]], float]


def decode_seconds(*, repeats: int, timer: Timer, seconds: int = 16) -> dict[str, Any]:
    """Reading one frame a second from a synthetic 1280 × 720 H.264 file, in a process of its own as a chat does.

    Args:
        repeats: how often.
        timer: gives the seconds of an act.
        seconds: how long the file is.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_mp4(path, pictures(seconds * FPS), fps=FPS)

        def read() -> None:
            with video.open(path) as opened:
                for _ in opened.stream(Sampling.at_fps(1.0)):
                    pass

        each = [timer(read) / seconds for _ in range(repeats)]
    return _figures(each) | {"video": f"1280 × 720 H.264, {FPS} frames a second, one of each second read"}


def vision_seconds(*, repeats: int, timer: Timer, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """A chunk of four frames through a tower of SigLIP-so400m's shape with random weights.

    Args:
        repeats: how often, after one that is not counted.
        timer: gives the seconds of an act.
        dtype: of weights and pictures.
        device: where the tower is.
    """
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(**TOWER, vision_use_head=False)
    tower = SiglipVisionModel(config).eval().requires_grad_(False).to(device, dtype)
    frames = torch.randn(CHUNK, 3, config.image_size, config.image_size, device=device).to(dtype)
    with torch.inference_mode():
        each = [timer(lambda: tower(pixel_values=frames)) / CHUNK for _ in range(repeats + 1)]
    return _figures(each[1:]) | {"tower": {**TOWER, "weights": "random"}}


def _figures(each: list[float]) -> dict[str, Any]:
    return {"seconds_per_frame": round(statistics.median(each), 5), "each_s": each}
