"""The retriever as a whole: shapes, what each loss moves, order and padding, learning, collapse, use, and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.errors import InvalidInput, WeightsCorrupt
from trifocal.retrieval.model import PRESETS, PrototypeRetriever, RetrievalBatch, RetrieverConfig, preset
from trifocal.retrieval.model.attention import balanced
from trifocal.retrieval.model.heads import WordDecoder

MakeBatch = Callable[..., RetrievalBatch]


def small(name: str = "paper", **changes: Any) -> RetrieverConfig:
    sizes = {
        "video_dim": 12,
        "text_dim": 10,
        "hidden": 16,
        "clips": 8,
        "window_max": 8,
        "prototypes": 4,
        "max_words": 6,
    }
    if name == "merged":
        sizes["window_max"] = 1
    return preset(name, **{**sizes, **changes})


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(name: str = "paper", **changes: Any) -> PrototypeRetriever:
    return PrototypeRetriever(small(name, **changes))


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_and_unit_vectors(name: str, make_batch: MakeBatch) -> None:
    model = build(name).eval()
    out = model(make_batch())
    K = model.config.vectors
    assert out.queries.shape == (12, 16)
    assert out.prototypes.shape == (4, K, 16)
    assert out.scores.shape == (12, 4)
    torch.testing.assert_close(out.scores, out.cosines.amax(dim=-1))
    for unit in (out.queries, out.prototypes):
        torch.testing.assert_close(unit.norm(dim=-1), torch.ones(unit.shape[:-1]))
    if out.attention is not None:
        torch.testing.assert_close(out.attention.sum(dim=-1), torch.ones(4, K))
    else:
        assert out.spans is not None
        assert out.spans.shape == (4, K, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": 2},
        {"layers": 2, "share_layers": True},
        {"residual_last": True},
        {"layer_norm": False},
        {"identity_values": False},
        {"attention_heads": "max"},
        {"generator": "slots"},
        {"generator": "slots", "sinkhorn": 3},
        {"retrieval": "dot"},
        {"word_target": "input"},
        {"video_target": "encoded"},
        {"decoder": "token"},
        {"mixing": "splice"},
        {"ortho_norm": "frobenius"},
        {"balance_weight": 0.1},
        {"context": 0.5},
        {"smooth_max": 0.05},
        {"learn_temperature": True},
        {"encoder": "linear", "pool_edges": True},
        {"window_lengths": "geometric"},
        {"frame_branch": True},
        {"frame_tokens": True},
        {"frame_tokens": True, "mixing": "splice"},
    ],
    ids=str,
)
def test_every_choice_trains(changes: dict[str, Any], make_batch: MakeBatch) -> None:
    model = build(**changes)
    batch = make_batch(frames=6 if model.frames is not None else 0)
    losses = model.loss(batch, epoch=30)
    assert set(losses) >= {"total", "retrieval", "words", "video", "guidance", "ortho"}
    torch.testing.assert_close(losses["total"], sum(v for k, v in losses.items() if k != "total"))
    torch.autograd.backward(losses["total"])
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_loss_repeats_with_the_seed(make_batch: MakeBatch) -> None:
    model, batch = build(), make_batch()
    totals = []
    for _ in range(2):
        torch.manual_seed(7)
        totals.append(model.loss(batch)["total"].item())
    assert totals[0] == totals[1]


def test_padding_changes_nothing(make_batch: MakeBatch) -> None:
    model, batch = build().eval(), make_batch()
    longer = replace(
        batch,
        words=torch.cat([batch.words, torch.randn(12, 2, 10)], dim=1),
        word_mask=torch.cat([batch.word_mask, torch.zeros(12, 2, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(model(longer).scores, model(batch).scores)


@pytest.mark.parametrize("changes", [{"frame_branch": True}, {"frame_tokens": True}])
def test_padded_frames_change_nothing(changes: dict[str, Any], make_batch: MakeBatch) -> None:
    model, batch = build(**changes).eval(), make_batch(frames=6)
    assert batch.frames is not None
    assert batch.frame_mask is not None
    noisy = torch.where(batch.frame_mask[..., None], batch.frames, 99.0 * torch.randn_like(batch.frames))
    torch.testing.assert_close(model(replace(batch, frames=noisy)).scores, model(batch).scores)


@pytest.mark.parametrize("name", PRESETS)
def test_one_video_is_what_it_is_in_a_batch(name: str, make_batch: MakeBatch) -> None:
    model, batch = build(name), make_batch()
    together = model.encode_clips(batch.clips.numpy())
    for index in range(4):
        alone = model.encode_clips(batch.clips[index : index + 1].numpy())
        np.testing.assert_allclose(alone.vectors[0], together.vectors[index], atol=2e-3)
        np.testing.assert_allclose(alone.spans[0], together.spans[index])


def test_keys_of_windows_are_windows_of_keys(make_batch: MakeBatch) -> None:
    # The commuting of means with affine maps, which saves computing keys of every window.
    model = build()
    video = model.video_tokens(make_batch().clips)
    linear = torch.nn.Linear(16, 16)
    torch.testing.assert_close(video.project(linear), linear(video.project()), rtol=1e-4, atol=1e-5)


def test_a_mixture_of_concatenated_tokens_straddles_nothing(make_batch: MakeBatch) -> None:
    model = build()
    video = model.video_tokens(make_batch().clips)
    both = video.beside(video.of(torch.tensor([1, 2, 3, 0])))
    V = len(video.spans)
    torch.testing.assert_close(both.project()[:, :V], video.project())
    torch.testing.assert_close(both.project()[:, V:], video.project()[[1, 2, 3, 0]])


def test_masked_words_of_a_caption_are_rebuilt_apart() -> None:
    # The trap: with one key, attention adds one vector to all words. Positions and other words must tell them apart.
    decoder = WordDecoder(small()).eval()
    words, mask = torch.randn(1, 4, 16), torch.ones(1, 4, dtype=torch.bool)
    masked = torch.tensor([[True, False, True, False]])
    first, second = decoder(words, mask, masked, torch.randn(1, 16))
    assert (first - second).norm() > 1e-3
    with_other = decoder(words, mask, masked, torch.randn(1, 16))
    assert (with_other[0] - first).norm() > 1e-3  # and the prototype must matter


def test_sinkhorn_balances_and_the_plain_form_claims() -> None:
    logits = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    even = balanced(logits, rounds=50)
    torch.testing.assert_close(even.sum(dim=-2), torch.ones(2, 12), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(even.sum(dim=-1), torch.full((2, 3), 4.0), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(balanced(logits, rounds=0), logits.softmax(dim=-2))
    hidden = logits.clone()
    hidden[..., 6:] = -torch.inf
    assert balanced(hidden, rounds=5)[..., 6:].sum() == 0
    torch.testing.assert_close(balanced(hidden, rounds=50).sum(dim=-1), torch.full((2, 3), 2.0), rtol=1e-2, atol=1e-2)


def test_no_residual_starts_with_prototypes_that_differ_by_video(make_batch: MakeBatch) -> None:
    # What collapses the plain form: shared prototypes outweigh the video.
    batch = make_batch(videos=8)
    alike = {}
    for residual in (False, True):
        torch.manual_seed(1)
        unit = build(residual_last=residual, layer_norm=False).eval()(batch).prototypes
        alike[residual] = torch.einsum("akd,bkd->abk", unit, unit).mean().item()
    assert alike[True] > alike[False] + 0.2


@pytest.mark.parametrize(("name", "least"), [("default", 0.35), ("merged", 0.15), ("windows", 0.6)])
def test_learning_finds_held_out_videos(name: str, least: float, make_batch: MakeBatch) -> None:
    train, test = make_batch(40, seed=1), make_batch(40, seed=2)
    model = build(name)
    optimiser = torch.optim.AdamW(model.parameter_groups(weight_decay=0.01), lr=1e-2)
    for epoch in range(60):
        optimiser.zero_grad()
        loss = model.loss(train, epoch=epoch)["total"]
        torch.autograd.backward(loss)
        optimiser.step()
    model.eval()
    with torch.no_grad():
        found = (model(test).scores.argmax(dim=1) == test.owner).float().mean().item()
    assert found > least  # chance is 0.025, and 4 vectors of 8 independent clips cannot hold everything


def test_a_trained_encoder_takes_another_generator(make_batch: MakeBatch) -> None:
    model = build("windows")
    other = model.with_generator(replace(model.config, generator="merged", prototypes=3))
    assert other.text is model.text
    assert other.encode_clips(make_batch().clips.numpy()).vectors.shape == (4, 3, 16)


def test_training_heads_are_not_counted_in_use() -> None:
    with_heads, without = build(), build(word_weight=0.0, video_weight=0.0)
    assert with_heads.parameters_in_use() == without.parameters_in_use()
    assert sum(p.numel() for p in with_heads.parameters()) > sum(p.numel() for p in without.parameters())


def test_only_maps_decay() -> None:
    model = build()
    decay, rest = model.parameter_groups(weight_decay=0.1)
    assert all(p.dim() > 1 for p in decay["params"])
    assert any(p is model.generator.prototypes for p in rest["params"])
    assert rest["weight_decay"] == 0.0


# ---- use -----------------------------------------------------------------------------------------------------------


def test_encode_query_is_forward_and_takes_any_number(make_batch: MakeBatch) -> None:
    model, batch = build().eval(), make_batch()
    words = [w[m].numpy() for w, m in zip(batch.words, batch.word_mask, strict=True)]
    with torch.no_grad():
        expected = model(batch).queries.numpy()
    np.testing.assert_allclose(model.train().encode_query(words), expected, atol=1e-5)
    assert model.training  # as it was
    assert model.encode_query([]).shape == (0, 16)
    assert model.encode_query([np.ones((50, 10), np.float32)]).shape == (1, 16)  # cut to max_words


@pytest.mark.parametrize("words", [np.zeros((0, 10)), np.zeros((2, 9)), np.full((1, 10), np.inf), np.zeros(10)])
def test_words_that_cannot_be_encoded_are_refused(words: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="index 1"):
        build().encode_query([np.ones((1, 10)), words])


@pytest.mark.parametrize("name", ["paper", "default", "merged"])
def test_encode_document_gives_spans_in_seconds(name: str) -> None:
    model = build(name)
    features = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    made = model.encode_document(features, times_s=np.arange(40) * 0.5 + 10.25, start_s=10.0, end_s=30.0)
    assert len(made) == 4
    assert made.spans_s.min() >= 10.0
    assert made.spans_s.max() <= 30.0
    assert (made.spans_s[:, 1] > made.spans_s[:, 0]).all()
    scores = model.similarity(made.vectors[:1].astype(np.float32), made.vectors[None])
    assert scores.shape == (1, 1)
    assert scores[0, 0] == pytest.approx(1.0, abs=2e-3)


def test_covering_prototypes_are_the_windows_they_name() -> None:
    model = build("default")
    clips = np.random.default_rng(0).normal(size=(2, 8, 12)).astype(np.float32)
    made = model.encode_clips(clips)
    weight = model.video.embed(torch.from_numpy(clips)).detach().numpy()
    for video in range(2):
        for vector, (start, end) in zip(made.vectors[video], made.spans[video] * 8, strict=True):
            mean = weight[video, round(start) : round(end)].mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-3)


@pytest.mark.parametrize("changes", [{}, {"residual_last": True}, {"context": 0.5}], ids=str)
@pytest.mark.parametrize("name", ["paper", "default"])
def test_tokens_lie_where_prototypes_do(name: str, changes: dict[str, Any]) -> None:
    model = build(name, **changes)
    rows = np.repeat(np.random.default_rng(0).normal(size=(2, 12)), 8, axis=0).astype(np.float32)
    tokens = model.encode_tokens(rows, times_s=np.arange(16) / 2, end_s=8.0, kind="int8")
    assert tokens.rows.shape == ((16, 16) if name == "default" else (8, 16))  # a frame each, or a clip
    assert (tokens.edges_s()[0], tokens.end_s) == (0.0, 8.0)
    assert tokens.times_s[len(tokens) // 2 - 1] < 4.0 <= tokens.times_s[len(tokens) // 2]
    one = np.repeat(rows[:1], 16, axis=0)  # all alike: each prototype takes the same whatever it attends to
    made = model.encode_document(one, times_s=np.arange(16) / 2, end_s=8.0).vectors.astype(np.float32)
    alone = model.encode_tokens(one, times_s=np.arange(16) / 2, end_s=8.0).vectors()
    assert (made @ alone.T).max(axis=0).min() > (0.6 if name == "paper" else 0.999)


def test_a_frame_without_content_has_the_direction_of_the_whole() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
    rows[2] = 0
    tokens = build("default").encode_tokens(rows, times_s=np.arange(6), end_s=6.0).vectors()
    np.testing.assert_allclose(
        tokens[2],
        tokens[[0, 1, 3, 4, 5]].mean(axis=0) / np.linalg.norm(tokens[[0, 1, 3, 4, 5]].mean(axis=0)),
        atol=1e-2,
    )


@pytest.mark.parametrize("frames", range(1, 41))
def test_prototypes_of_short_videos_take_time(frames: int) -> None:
    model = build("default", clips=32, window_max=32, prototypes=32)
    rows = np.random.default_rng(frames).normal(size=(frames, 12)).astype(np.float32)
    spans = model.encode_document(rows, times_s=np.arange(frames) / 2, end_s=frames / 2).spans_s
    assert (spans[:, 1] > spans[:, 0]).all()
    assert spans.min() >= 0.0
    assert spans.max() <= frames / 2


def test_documents_that_do_not_fit_are_refused() -> None:
    model = build()
    with pytest.raises(InvalidInput, match="one time a frame"):
        model.encode_document(np.ones((4, 12)), times_s=[0.0, 1.0], end_s=4.0)
    with pytest.raises(InvalidInput, match="clips have the shape"):
        model.encode_clips(np.ones((1, 7, 12)))
    with pytest.raises(InvalidInput, match="an index of prototypes cannot hold"):
        build(frame_branch=True).encode_document(np.ones((4, 12)), times_s=np.arange(4), end_s=4.0)


# ---- batches and files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"owner": torch.zeros(12, dtype=torch.int64)}, "each of the 4 videos"),
        ({"owner": torch.arange(12)}, "each of the 4 videos"),
        ({"owner": torch.zeros(12)}, "int64"),
        ({"word_mask": torch.ones(12, 3, dtype=torch.bool)}, "word_mask"),
        ({"clips": torch.ones(4, 8)}, "clips"),
        ({"frames": torch.ones(4, 2, 12)}, "both or neither"),
    ],
)
def test_batches_that_do_not_fit_are_refused(changes: dict[str, Any], words: str, make_batch: MakeBatch) -> None:
    with pytest.raises(InvalidInput, match=words):
        replace(make_batch(), **changes)


@pytest.mark.parametrize("changes", [{}, {"layers": 2, "share_layers": True}], ids=str)
def test_saved_and_loaded_is_the_same(changes: dict[str, Any], make_batch: MakeBatch, tmp_path: Path) -> None:
    model, batch = build(**changes), make_batch()
    model.save_pretrained(tmp_path / "model")
    torch.manual_seed(99)
    other = PrototypeRetriever.from_pretrained(tmp_path / "model")
    assert not other.training
    assert other.config == model.config
    assert torch.equal(other(batch).scores, model.eval()(batch).scores)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json"):
        PrototypeRetriever.from_pretrained(tmp_path)
    build().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "hidden": 32}))
    with pytest.raises(WeightsCorrupt, match="does not fit"):
        PrototypeRetriever.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**values, "layers": 2}))
    with pytest.raises(WeightsCorrupt, match="lacks"):
        PrototypeRetriever.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InvalidInput, match="no object"):
        PrototypeRetriever.from_pretrained(tmp_path)
