"""Sizes, colours and patches are those of the processors of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.image_processing_utils import BaseImageProcessor

from trifocal.chat.hf.number_words import number_words
from trifocal.chat.hf.pictures import (
    area_size,
    crop_centre,
    long_side_size,
    normalise,
    patchify,
    resize,
    short_side_size,
)
from trifocal.errors import InvalidInput

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=draw, dtype=torch.uint8)


@pytest.fixture(scope="module")
def published() -> BaseImageProcessor:
    """The one processor of the Qwen family that needs no torchvision; it is for pictures."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280})


def test_patches_equal_those_of_the_published_processor(published: BaseImageProcessor) -> None:
    image = picture(56, 84)
    expected = published(images=[image.permute(1, 2, 0).numpy()], return_tensors="pt")
    ours = patchify(normalise(image[None], mean=MEAN, std=STD), patch=14, merge=2, temporal=2)
    assert expected["image_grid_thw"].tolist() == [[1, 4, 6]]
    torch.testing.assert_close(ours, expected["pixel_values"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(100, 150), (480, 640), (31, 200), (1080, 1920), (56, 56), (2000, 90)])
def test_sizes_equal_those_of_the_published_processor(published: BaseImageProcessor, height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    grid = published(images=[image], return_tensors="pt")["image_grid_thw"][0].tolist()
    size = area_size(height, width, factor=28, least=56 * 56, most=28 * 28 * 1280)
    assert [1, size[0] // 14, size[1] // 14] == grid


def test_scaling_is_close_to_pillows(published: BaseImageProcessor) -> None:
    image = resize(picture(12, 18)[None], (100, 150))[0]  # smooth, as pictures are
    expected = published(images=[image.permute(1, 2, 0).numpy()], return_tensors="pt")["pixel_values"]
    size = area_size(100, 150, factor=28, least=56 * 56, most=28 * 28 * 1280)
    ours = patchify(normalise(resize(image[None], size), mean=MEAN, std=STD), patch=14, merge=2, temporal=2)
    step = 1 / 255 / min(STD)
    assert (ours - expected).abs().max() <= 2.01 * step


def test_frames_of_a_pair_come_one_after_the_other() -> None:
    frames = torch.stack([torch.full((3, 4, 4), float(frame)) for frame in range(3)])
    patches = patchify(frames, patch=2, merge=2, temporal=2)
    assert patches.shape == (2 * 2 * 2, 3 * 2 * 2 * 2)
    values = patches.view(2, 4, 3, 2, 4)
    assert (values[0, :, :, 0] == 0).all()
    assert (values[0, :, :, 1] == 1).all()
    assert (values[1] == 2).all()  # the last frame is repeated


def test_the_patches_of_a_token_lie_together() -> None:
    rows = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 3, 8, 8)
    first_token = patchify(rows, patch=2, merge=2, temporal=1)[:4].view(4, 3, 2, 2)
    assert first_token[:, 0, 0, 0].tolist() == [0.0, 0.0, 2.0, 2.0]


def test_bounds_on_a_whole_video_shrink_its_pictures() -> None:
    alone = area_size(320, 320, factor=32, least=1, most=320 * 320)
    many = area_size(320, 320, factor=32, least=1, most=320 * 320, frames=4, rounded_frames=4)
    assert alone == (320, 320)
    assert many == (160, 160)


def test_a_strip_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2000×5"):
        area_size(5, 2000, factor=28, least=1, most=10**6)


def test_sides() -> None:
    assert short_side_size(100, 250, side=20) == (20, 50)
    assert short_side_size(250, 100, side=20) == (50, 20)
    assert long_side_size(100, 250, side=50) == (20, 50)
    assert long_side_size(250, 103, side=50) == (50, 20)
    assert long_side_size(250, 106, side=50) == (50, 22)  # 21 made even
    assert crop_centre(picture(10, 30), (4, 6)).shape == (3, 4, 6)
    assert torch.equal(crop_centre(picture(10, 30), (4, 6)), picture(10, 30)[:, 3:7, 12:18])


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = picture(8, 8)[None]
    assert resize(image, (8, 8)) is image


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (8, "eight"),
        (13, "thirteen"),
        (20, "twenty"),
        (64, "sixty-four"),
        (100, "one hundred"),
        (128, "one hundred and twenty-eight"),
        (1000, "one thousand"),
        (1001, "one thousand and one"),
        (12345, "twelve thousand, three hundred and forty-five"),
    ],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert number_words(number) == words


@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_numbers_beyond_words(number: int) -> None:
    with pytest.raises(InvalidInput):
        number_words(number)
