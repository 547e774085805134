from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.chat.video_tokens import class_embeddings, likeliest_classes, video_tokens
from trifocal.errors import InvalidInput

EMBEDDINGS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 2.0]])


def test_class_embeddings_are_means_over_the_tokens_of_a_name() -> None:
    made = class_embeddings(EMBEDDINGS, token_ids=[[2], [0, 1], [0, 0, 1]])
    torch.testing.assert_close(made, torch.tensor([[4.0, 2.0], [0.5, 0.5], [2 / 3, 1 / 3]]))


@pytest.mark.parametrize("token_ids", [[], [[0], []]])
def test_a_name_without_tokens_is_refused(token_ids: list[list[int]]) -> None:
    with pytest.raises(InvalidInput):
        class_embeddings(EMBEDDINGS, token_ids=token_ids)


def logits(seed: int = 0, *, frames: int = 2, side: int = 7) -> torch.Tensor:
    return torch.randn(frames, 5, side, side, generator=torch.Generator().manual_seed(seed)) * 3


CLASSES = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def test_a_token_is_the_probability_weighted_mean() -> None:
    given_logits = logits()
    tokens = video_tokens(given_logits, CLASSES)
    assert tokens.shape == (2, 7, 7, 6)
    expected = sum(given_logits[1, :, 3, 4].softmax(0)[a] * CLASSES[a] for a in range(5))
    torch.testing.assert_close(tokens[1, 3, 4], expected)


def test_top_1_is_the_likeliest_class_itself() -> None:
    given_logits = logits()
    torch.testing.assert_close(video_tokens(given_logits, CLASSES, top_k=1), CLASSES[given_logits.argmax(1)])


def test_all_classes_kept_equals_no_limit() -> None:
    torch.testing.assert_close(video_tokens(logits(), CLASSES, top_k=5), video_tokens(logits(), CLASSES))


def test_a_low_temperature_approaches_the_likeliest_class() -> None:
    torch.testing.assert_close(
        video_tokens(logits(), CLASSES, temperature=1e-3), video_tokens(logits(), CLASSES, top_k=1), atol=1e-3, rtol=0
    )


def test_one_cell_is_the_verdict_on_the_frame() -> None:
    given_logits = logits()
    tokens = video_tokens(given_logits, CLASSES, grid=1)
    assert tokens.shape == (2, 1, 1, 6)
    torch.testing.assert_close(tokens[:, 0, 0], given_logits.mean((2, 3)).softmax(-1) @ CLASSES)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    frames=st.integers(0, 3),
    grid=st.sampled_from([None, 1, 2, 3, 7]),
    top_k=st.sampled_from([None, 1, 3]),
    norm=st.sampled_from([None, 2.5]),
)
def test_any_options_give_one_token_a_cell(
    seed: int, frames: int, grid: int | None, top_k: int | None, norm: float | None
) -> None:
    tokens = video_tokens(logits(seed, frames=frames), CLASSES, grid=grid, top_k=top_k, norm=norm)
    side = grid or 7
    assert tokens.shape == (frames, side, side, 6)
    if norm is not None:
        torch.testing.assert_close(tokens.norm(dim=-1), torch.full((frames, side, side), norm))
    for frame in range(frames):  # one frame alone is the same as in a batch
        alone = video_tokens(logits(seed, frames=frames)[frame : frame + 1], CLASSES, grid=grid, top_k=top_k, norm=norm)
        torch.testing.assert_close(alone[0], tokens[frame])


@pytest.mark.parametrize(
    "options", [{"grid": 0}, {"grid": 8}, {"top_k": 0}, {"top_k": 6}, {"temperature": 0.0}, {"temperature": -1.0}]
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        video_tokens(logits(), CLASSES, **options)


@pytest.mark.parametrize("shape", [(2, 4, 7, 7), (5, 7, 7), (2, 7, 7, 5)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="cell_logits"):
        video_tokens(torch.zeros(shape), CLASSES)


def test_the_likeliest_classes_come_in_order_and_ties_by_number() -> None:
    index, probability = likeliest_classes(torch.tensor([[0.0, 2.0, 2.0, 1.0], [3.0, 0.0, 0.0, 0.0]]), count=3)
    assert index.tolist() == [[1, 2, 3], [0, 1, 2]]
    torch.testing.assert_close(probability[0], torch.tensor([0.0, 2.0, 2.0, 1.0]).softmax(0)[[1, 2, 3]])


@pytest.mark.parametrize("count", [0, 5])
def test_a_bad_count_is_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="count"):
        likeliest_classes(torch.zeros(1, 4), count=count)
