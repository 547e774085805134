"""Sentences to vectors: published similarities, order, batching, odd input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trifocal.backbones import SentenceEncoder, load_sentence_encoder
from trifocal.errors import InvalidInput

pytestmark = pytest.mark.weights

SENTENCES = [
    "A dog runs.",
    "",
    "x",
    "A long sentence about people who ride bicycles past parked cars in a street.",
    "ü 漢字 🙂",
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return load_sentence_encoder()


def test_similarities_that_the_authors_publish(encoder: SentenceEncoder) -> None:
    """From the sentence-transformers documentation: its quick start, to the four digits printed there."""
    vectors = encoder.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    expected = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)


def test_shape_type_and_length(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(SENTENCES)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    assert encoder.dim == 384
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_order_and_batching_do_not_matter(batch_size: int, encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(SENTENCES, batch_size=batch_size)
    alone = np.concatenate([encoder.encode([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(vectors, alone, atol=2e-6)
    np.testing.assert_allclose(encoder.encode(SENTENCES[::-1], batch_size=batch_size)[::-1], alone, atol=2e-6)
    assert np.array_equal(encoder.encode(SENTENCES, batch_size=batch_size), vectors)


def test_case_is_ignored_and_length_is_bounded(encoder: SentenceEncoder) -> None:
    low, high = encoder.encode(["a red car", "A RED Car"])
    np.testing.assert_allclose(low, high, atol=1e-6)
    long = " ".join(f"word{i}" for i in range(3000))
    vectors = encoder.encode([long, long + " more"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert encoder.max_tokens == 256


@pytest.mark.parametrize("sentences", ["one string", [1, 2], [None]])
def test_refuses_other_input(sentences: Any, encoder: SentenceEncoder) -> None:
    with pytest.raises(InvalidInput, match="list of strings"):
        encoder.encode(sentences)


def test_refuses_no_batch(encoder: SentenceEncoder) -> None:
    with pytest.raises(InvalidInput, match="batch_size is 0"):
        encoder.encode(["a"], batch_size=0)


def test_loading_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    load_sentence_encoder()
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_is_close(encoder: SentenceEncoder) -> None:
    half = load_sentence_encoder(dtype=torch.bfloat16).encode(SENTENCES)
    assert half.dtype == np.float32
    assert np.all((half * encoder.encode(SENTENCES)).sum(axis=1) > 0.999)
