"""The detector's own promises: ways of sampling agree, batches equal single clips, pruning changes nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trifocal.action import (
    PRESETS,
    AttentionRequest,
    CsnConfig,
    Detector,
    DetectorConfig,
    VitConfig,
    classify,
    layers,
    preset,
    winograd,
)
from trifocal.action.atlas import Atlas
from trifocal.action.deformable import DeformableAttention, Sampling
from trifocal.errors import InvalidInput

CONFIG = DetectorConfig(
    backbone=VitConfig(width=48, depth=1, heads=3),
    frames=4,
    classes=5,
    actors=3,
    width=32,
    feedforward=48,
    heads=4,
    encoder_layers=2,
    decoder_layers=2,
    points=2,
)


def detector(config: DetectorConfig = CONFIG, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    model = Detector(config).eval()
    for parameter in model.parameters():  # away from what starts at zero
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.randn(3, 4, 64, 80, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["keyframe", "tube"])
def test_shapes(mode: str, clip: torch.Tensor) -> None:
    model = detector(replace(CONFIG, mode=mode))  # type: ignore[arg-type]
    with torch.inference_mode():
        out = model(clip[None], attention=AttentionRequest(layers=(0, -1), heads="each"))
    lead = (1, 4, 3) if mode == "tube" else (1, 3)
    assert out.class_logits.shape == (*lead, 5)
    assert out.boxes_cxcywh.shape == (*lead, 4)
    assert out.person_logits.shape == (*lead, 3)
    assert out.aux_outputs == ()
    assert [maps.shape for maps in out.attention] == [(*lead, 4, 5, 4, 5)] * 2
    assert torch.allclose(out.attention[0].sum((-1, -2)), torch.ones(*lead, 4, 5))
    assert ((out.boxes_cxcywh >= 0) & (out.boxes_cxcywh <= 1)).all()


@pytest.mark.parametrize("sampling", ["bag", "grid", "gather"])
@pytest.mark.parametrize("correct", ["correct", "reference"])
def test_ways_of_sampling_agree_in_values_and_gradients(sampling: str, correct: str, clip: torch.Tensor) -> None:
    model = detector(replace(CONFIG, offset_normalizer=correct))  # type: ignore[arg-type]
    results = []
    for way in ("grid", sampling):
        model.zero_grad()
        model.encoder.sampling = way  # type: ignore[assignment]
        out = model(clip[None])
        (out.class_logits.sum() + out.boxes_cxcywh.sum()).backward()
        offsets = model.encoder.layers[0].attention.offsets.weight  # type: ignore[union-attr]
        results.append((out.class_logits.detach(), offsets.grad.clone()))  # type: ignore[union-attr, operator]
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-5, rtol=1e-3)
    assert results[0][1].abs().sum() > 0


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sampling", ["bag", "grid", "gather"])
def test_places_stay_exact_in_half_precision(half: torch.dtype, sampling: Sampling) -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(32, levels=1, heads=4, points=4, correct_offsets=False)
    shapes = [(4, 40, 56)]
    tokens, queries = torch.randn(4 * 40 * 56, 32), torch.randn(64, 32)
    centres = torch.rand(64, 3) * torch.tensor([55.0, 39.0, 3.0])

    def looked(way: Sampling) -> torch.Tensor:
        found: torch.Tensor = layer(queries, centres, layer.prepare(tokens, shapes, padding=None, sampling=way))
        return found.detach().float()

    exact = looked("gather")
    with torch.autocast("cpu", half):
        found = looked(sampling)
    # Values are rounded, places are not: rounded to half precision, they alone would cost .04 in bfloat16.
    assert (found - exact).norm() < (0.01 if half == torch.bfloat16 else 0.002) * exact.norm()


@pytest.mark.parametrize(
    "body", [VitConfig(width=48, depth=1, heads=3), CsnConfig(blocks=(1, 2, 1, 1))], ids=["vit", "csn"]
)
def test_every_body_runs_in_bfloat16(body: VitConfig | CsnConfig) -> None:
    model = detector(replace(CONFIG, backbone=body, frames=8))
    clips = torch.randn(1, 3, 8, 64, 80, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = model.features(clips)
        with torch.autocast("cpu", torch.bfloat16):
            found = model.features(clips)
            out = model(clips)
    for level, expected in zip(found, exact, strict=True):
        assert (level.float() - expected).norm() < 0.02 * expected.norm()
    assert torch.isfinite(out.boxes_cxcywh).all()


def test_unread_tokens_and_chunks_change_nothing(clip: torch.Tensor) -> None:
    model = detector()
    with torch.inference_mode():
        expected = model(clip[None])
        model.encoder.skip_unread = False
        model.encoder.chunk_bytes = 1
        model.decoder.chunk_bytes = 1
        found = model(clip[None])
    assert torch.allclose(found.class_logits, expected.class_logits, atol=1e-5)
    assert torch.allclose(found.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-5)


@pytest.mark.parametrize("change", [{}, {"mode": "tube"}, {"classes": 40}, {"class_heads": "joint"}])
def test_inference_gives_what_training_mode_of_gradients_gives(
    change: dict[str, object], clip: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "ROWS", 7)
    monkeypatch.setattr(classify, "ROWS", 2 * 24)
    monkeypatch.setattr(winograd, "LEAST_WIDTH", 1)
    monkeypatch.setattr(winograd, "LEAST_CELLS", 1)
    model = detector(replace(CONFIG, **change))  # type: ignore[arg-type]
    request = AttentionRequest(heads="each")
    with torch.inference_mode():
        lean = model(clip[None], attention=request)
    full = model(clip[None], attention=request)
    assert torch.allclose(lean.class_logits, full.class_logits, atol=1e-5)
    assert torch.allclose(lean.attention[0], full.attention[0], atol=1e-5)


def test_a_padded_batch(clip: torch.Tensor) -> None:
    model = detector(replace(CONFIG, mode="tube", mask_class_attention=True))
    small = clip[:, :, :48, :64]
    with torch.inference_mode():
        batch = model([clip, small])
        again = model([small, clip])
    assert batch.class_logits.shape == (2, 4, 3, 5)
    assert torch.allclose(batch.class_logits[0], again.class_logits[1], atol=1e-5)
    assert torch.allclose(batch.boxes_cxcywh[1], again.boxes_cxcywh[0], atol=1e-5)


def test_pruning_leaves_the_others_alone(clip: torch.Tensor) -> None:
    model = detector()
    with torch.inference_mode():
        whole = model(clip[None], attention=AttentionRequest())
        middle = float(whole.person_scores.median())
        kept = model(clip[None], keep_above=middle, attention=AttentionRequest())
        nobody = model(clip[None], keep_above=1.1)
    stays = whole.person_scores >= middle
    assert 0 < stays.sum() < stays.numel()
    assert torch.allclose(kept.class_logits[stays], whole.class_logits[stays], atol=1e-6)
    assert (kept.class_scores[~stays] == 0).all()
    assert (kept.attention[0][~stays] == 0).all()
    assert torch.equal(kept.boxes_cxcywh, whole.boxes_cxcywh)
    assert (nobody.class_scores == 0).all()
    with pytest.raises(InvalidInput, match="keep_above"):
        detector().train()(clip[None], keep_above=0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"class_heads": "joint"},
        {"class_readout": "dot", "class_prior": 0.1},
        {"class_queries": "shared"},
        {"carry_classes": True},
        {"resample": "aligned"},
        {"time_code": "interpolated", "mode": "tube"},
        {"shared_conv_block": False},
    ],
)
def test_switches_train(change: dict[str, object], clip: torch.Tensor) -> None:
    model = detector(replace(CONFIG, **change)).train()  # type: ignore[arg-type]
    out = model(clip[None])
    assert len(out.aux_outputs) == 1
    layers = (out, *out.aux_outputs)
    sum(layer.class_logits.square().sum() + layer.boxes_cxcywh.sum() for layer in layers).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "person" not in name)


def test_what_is_carried_is_what_tells_classes_apart(clip: torch.Tensor) -> None:
    plain, carrying = (detector(replace(CONFIG, carry_classes=carry)) for carry in (False, True))
    carrying.load_state_dict(plain.state_dict())

    def logits() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [model(clip[None]).class_logits for model in (plain, carrying)]

    own = logits()
    assert not torch.allclose(own[0], own[1], atol=1e-3)
    with torch.no_grad():
        for model in (plain, carrying):
            model.decoder.class_queries.copy_(model.decoder.class_queries[:1].expand(CONFIG.classes, -1))
    alike = logits()
    assert torch.allclose(alike[0], alike[1], atol=1e-6)


def test_the_image_network_is_frozen_and_not_saved() -> None:
    model = detector(preset("small"))
    assert not [name for name in model.state_dict() if name.startswith("body")]
    assert sum(p.numel() for p in model.parameters()) * 2 < 8 * 2**20
    maps = [torch.rand(2, 8, *shape) for shape in ((16, 28, 40), (8, 14, 112), (4, 7, 320))]
    with torch.inference_mode():
        both = model.from_features([maps.half() for maps in maps], attention=AttentionRequest())
        one = model.from_features([maps[:1].half() for maps in maps])
    assert both.attention[0].shape == (2, 8, 10, 8, 14)
    assert torch.allclose(both.class_logits[:1], one.class_logits, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_configurations_survive_json(name: str) -> None:
    assert DetectorConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]


def test_bad_values() -> None:
    for change, message in (
        ({"width": 40}, "width is 40"),
        ({"actors": 0}, "actors is 0"),
        ({"mode": "film"}, "mode is 'film'"),
        ({"frames": 5}, "frames is 5"),
        ({"class_prior": 1.0}, "class_prior"),
    ):
        with pytest.raises(InvalidInput, match=message):
            replace(CONFIG, **change)
    with pytest.raises(InvalidInput, match="not the configuration"):
        DetectorConfig.from_json("{}")
    with pytest.raises(InvalidInput, match="no preset"):
        preset("large")
    model = detector()
    with pytest.raises(InvalidInput, match="clips are"):
        model(torch.zeros(1, 3, 6, 64, 64))
    with pytest.raises(InvalidInput, match="attention of layer"):
        model(torch.zeros(1, 3, 4, 64, 64), attention=AttentionRequest(layers=(7,)))


def test_an_atlas_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        Atlas.of(torch.empty(0, 8, 4), [(200, 200, 200)])
