"""Pixels equal those of the published video processors, on machines where torchvision imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.chat.hf.chat import HFChat

pytest.importorskip("torchvision", reason="the published video processors need torchvision")

HEIGHT, WIDTH, FRAMES = 60, 84, 6


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth pictures, as videos are, `(T, 3, H, W)` uint8."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (FRAMES, 3, 6, 8), generator=draw, dtype=torch.uint8)
    return torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic", antialias=True)


def published(name: str, images: torch.Tensor) -> Any:
    import transformers as hf

    common = {"do_sample_frames": False, "return_tensors": "pt"}
    area = {"shortest_edge": 1024, "longest_edge": 1024}
    match name:
        case "qwen2_vl":
            processor = hf.Qwen2VLVideoProcessor(size=area, patch_size=4, cap_pixels_per_frame=False)
        case "qwen3_vl":
            processor = hf.Qwen3VLVideoProcessor(
                size={**area, "longest_edge": 8 * 1024}, patch_size=4, cap_pixels_per_frame=False
            )
        case "video_llama_3":
            processor = hf.VideoLlama3VideoProcessor(
                size={**area, "longest_edge": 8 * 1024}, patch_size=4, use_token_compression=False
            )
        case "llava_onevision":
            processor = hf.LlavaOnevisionVideoProcessor(size={"height": 28, "width": 28})
        case "llava_next_video":
            processor = hf.LlavaNextVideoVideoProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            )
        case "internvl":
            processor = hf.InternVLVideoProcessor(
                size={"height": 32, "width": 32}, image_mean=(0.485, 0.456, 0.406), image_std=(0.229, 0.224, 0.225)
            )
        case _:
            processor = hf.SmolVLMVideoProcessor(size={"longest_edge": 128}, max_image_size={"longest_edge": 32})
    return processor(videos=[images], **common)


@pytest.mark.parametrize(
    "name",
    ["qwen2_vl", "qwen3_vl", "video_llama_3", "llava_onevision", "llava_next_video", "internvl", "smolvlm"],
)
def test_pixels_are_the_same(name: str, images: torch.Tensor, make_chat: Callable[..., HFChat]) -> None:
    expected = published(name, images)
    processor: Any = make_chat(name).processor
    size = processor.picture_size(HEIGHT, WIDTH, frames=FRAMES)
    pixels = processor.pixels(images, size)
    theirs = expected["pixel_values_videos" if "pixel_values_videos" in expected else "pixel_values"]
    if isinstance(pixels, tuple):
        pixels, grid = pixels
        assert grid.tolist() == expected["video_grid_thw"].tolist()
    np.testing.assert_allclose(pixels.flatten(), theirs.flatten(), atol=1e-6)
