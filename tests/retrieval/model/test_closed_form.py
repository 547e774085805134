"""The start without steps: it is the least-squares solution, and it finds videos that no step was taken for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trifocal.errors import InvalidInput
from trifocal.retrieval.model import PrototypeRetriever, RetrievalBatch, closed_form_start, preset, query_by_last_word
from trifocal.retrieval.model.closed_form import last_words

MakeBatch = Callable[..., RetrievalBatch]


def build(name: str = "default") -> PrototypeRetriever:
    torch.manual_seed(0)
    sizes = {"hidden": 16, "clips": 8, "window_max": 8, "prototypes": 8, "max_words": 6}
    return PrototypeRetriever(preset(name, video_dim=12, text_dim=10, **sizes))


def test_it_is_ridge_regression(make_batch: MakeBatch) -> None:
    model, batch = build(), make_batch(20)
    closed_form_start(model, [batch], ridge=0.5)
    x = batch.clips.mean(dim=1)[batch.owner].numpy().astype(np.float64)
    y = last_words(batch).numpy().astype(np.float64)
    # Ridge as least squares with λ's root as further rows.
    rows = np.concatenate([x, np.sqrt(0.5) * np.eye(12)])
    solved = np.linalg.lstsq(rows, np.concatenate([y, np.zeros((12, 10))]), rcond=None)[0].T
    weight = model.text.encoder.embed(torch.eye(10)).detach().numpy().T  # (D, d_t)
    found = model.video.embed(torch.eye(12)).detach().numpy().T
    np.testing.assert_allclose(found, weight @ solved, atol=1e-4)


def test_batches_add_up(make_batch: MakeBatch) -> None:
    whole, parts = build(), build()
    one, two = make_batch(6, seed=1), make_batch(5, seed=2)
    both = RetrievalBatch(
        clips=torch.cat([one.clips, two.clips]),
        words=torch.cat([one.words, two.words]),
        word_mask=torch.cat([one.word_mask, two.word_mask]),
        owner=torch.cat([one.owner, two.owner + 6]),
    )
    closed_form_start(whole, [both])
    closed_form_start(parts, [one, two])
    clips = both.clips.numpy()
    np.testing.assert_allclose(whole.encode_clips(clips).vectors, parts.encode_clips(clips).vectors, atol=2e-3)


def test_the_last_word_is_the_query(make_batch: MakeBatch) -> None:
    model, batch = build(), make_batch()
    query_by_last_word(model)
    last = last_words(batch)
    assert torch.equal(last, batch.words[:, 2])  # the fourth is padding
    queries = model.encode_query([w[m].numpy() for w, m in zip(batch.words, batch.word_mask, strict=True)])
    alone = model.encode_query([one[None].numpy() for one in last])
    np.testing.assert_allclose(queries, alone, atol=1e-5)


def test_weak_labels_are_enough_to_begin(make_batch: MakeBatch) -> None:
    model, test = build(), make_batch(40, seed=2)
    closed_form_start(model, [make_batch(200, seed=1)])
    with torch.no_grad():
        found = (model.eval()(test).scores.argmax(dim=1) == test.owner).float().mean().item()
    assert found > 0.3  # chance is 0.025


def test_what_has_no_linear_maps_is_refused(make_batch: MakeBatch) -> None:
    with pytest.raises(InvalidInput, match="transformer"):
        closed_form_start(build("paper"), [make_batch()])
    with pytest.raises(InvalidInput, match="pool_edges"):
        query_by_last_word(build("paper"))
    with pytest.raises(InvalidInput, match="no batches"):
        closed_form_start(build(), [])
    with pytest.raises(InvalidInput, match="ridge"):
        closed_form_start(build(), [make_batch()], ridge=0.0)
