"""What a run begins with: backbones from elsewhere, whole models, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat
from tests.action.test_convert import caffe2_arrays

from trifocal.action import ActionModel, CsnConfig, Detector, DetectorConfig, VitConfig
from trifocal.action.backbones.csn import CsnBody
from trifocal.action.labels import Labels
from trifocal.action.pretrained import begin_with, freeze_body, load_backbone
from trifocal.action.recipes import RECIPES, DetectRecipe
from trifocal.action.train import add_low_rank, train_detect
from trifocal.errors import InvalidInput, ModelError, WeightsCorrupt, WeightsUnavailable


@pytest.fixture
def videomae(tmp_path: Path) -> Path:
    """A folder of Hugging Face's, as wide and deep as the tiny detector's body."""
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(7)
    config = VideoMAEConfig(
        image_size=224, num_frames=4, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=192
    )
    VideoMAEModel(config).save_pretrained(tmp_path / "videomae")
    return tmp_path / "videomae"


def authors_state(model: Detector) -> dict[str, torch.Tensor]:
    """A body's weights by the names of VideoMAE's authors, with what such files hold beside them."""
    found = {}
    for name, value in model.body.state_dict().items():
        name = name.replace("patch.", "patch_embed.proj.").replace("fc1.", "mlp.fc1.").replace("fc2.", "mlp.fc2.")
        if not name.startswith("norm."):
            found[f"encoder.{name}"] = value.clone()
    return found | {"encoder.fc_norm.weight": torch.ones(48), "decoder.blocks.0.norm1.weight": torch.ones(9)}


def same_body(a: Detector, b: Detector) -> bool:
    ours, theirs = a.body.state_dict(), b.body.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("norm."))


def test_backbones_of_all_kinds(tiny: DetectorConfig, videomae: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, model = Detector(tiny), Detector(tiny)
    load_backbone(model, videomae)
    filled = Detector(tiny)
    load_backbone(filled, videomae / "model.safetensors")
    assert same_body(filled, model)
    assert not same_body(filled, source)
    for kind in ("pth", "safetensors", "folder"):
        state = authors_state(source)
        if kind == "pth":
            torch.save({"module": state}, tmp_path / "mae.pth")
        elif kind == "safetensors":
            save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "mae.safetensors")
        else:
            ActionModel(source.eval(), ("a", "b"), 25.0).save(tmp_path / "mae.folder")
        target = Detector(tiny)
        load_backbone(target, tmp_path / f"mae.{kind}")
        assert same_body(target, source), kind
    with pytest.raises(ModelError, match="do not fit"):
        load_backbone(Detector(replace(tiny, backbone=VitConfig(width=48, depth=2, heads=4))), videomae)
    with pytest.raises(WeightsUnavailable, match="there is no"):
        load_backbone(model, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsUnavailable, match=r"no \.safetensors"):
        load_backbone(model, tmp_path / "empty")
    (tmp_path / "bad.safetensors").write_text("x")
    with pytest.raises(WeightsCorrupt, match="cannot be read"):
        load_backbone(model, tmp_path / "bad.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match="no VideoMAE"):
        load_backbone(model, tmp_path / "odd.safetensors")


def csn(tiny: DetectorConfig) -> DetectorConfig:
    return replace(tiny, backbone=CsnConfig(blocks=(1, 1, 1, 1)), frames=8)


def test_caffe2s_file(tiny: DetectorConfig, tmp_path: Path) -> None:
    source, target = Detector(csn(tiny)), Detector(csn(tiny))
    assert isinstance(source.body, CsnBody)
    savemat(tmp_path / "csn.mat", caffe2_arrays(source.body))
    load_backbone(target, tmp_path / "csn.mat")
    assert torch.equal(target.body.state_dict()["conv1.weight"], source.body.state_dict()["conv1.weight"])
    with pytest.raises(InvalidInput, match="the recipe is not"):
        load_backbone(Detector(tiny), tmp_path / "csn.mat")
    (tmp_path / "bad.mat").write_text("x")
    with pytest.raises(WeightsCorrupt, match=r"bad\.mat"):
        load_backbone(target, tmp_path / "bad.mat")


def test_going_on_from_a_whole_model_keeps_what_it_knows_by_name(tiny: DetectorConfig) -> None:
    torch.manual_seed(0)
    other = ActionModel(Detector(tiny).eval(), ("walk", "wave"), 25.0)
    model = Detector(replace(tiny, classes=3))
    anew = model.decoder.class_queries[0].clone()
    report = begin_with(model, other, ["jump", "wave", "walk"])
    known = other.detector.decoder.class_queries
    assert torch.equal(model.decoder.class_queries, torch.stack([anew, known[1], known[0]]))
    assert report.left == ("decoder.class_queries",)
    assert same_body(model, other.detector)
    whole = Detector(tiny)
    assert begin_with(whole, other, other.classes).left == ()
    with pytest.raises(InvalidInput, match=r"decoder\.anchors"):
        begin_with(Detector(replace(tiny, actors=5)), other, other.classes)


@pytest.mark.parametrize("options", [{"freeze": True}, {"low_rank": 2}])
def test_random_weights_are_not_frozen(
    options: dict[str, object], walking: Labels, films: Path, quick: DetectRecipe, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="random weights"):
        train_detect(walking, videos=films, folder=tmp_path, recipe=quick, isolated=False, **options)  # type: ignore[arg-type]


def test_a_pretrained_backbone_stays_while_the_rest_learns(
    walking: Labels, films: Path, quick: DetectRecipe, videomae: Path, tmp_path: Path
) -> None:
    once = replace(quick, train=replace(quick.train, epochs=1))
    model, _ = train_detect(
        walking, videos=films, folder=tmp_path / "run", recipe=once, backbone=videomae, freeze=True, isolated=False
    )
    expected = Detector(model.detector.config)
    load_backbone(expected, videomae)
    assert same_body(model.detector, expected)


def test_the_recipes_kind_must_be_the_models(walking: Labels, films: Path, quick: DetectRecipe, tmp_path: Path) -> None:
    wrong = replace(quick, detector=replace(quick.detector, mode="tube"))
    with pytest.raises(InvalidInput, match="mode is tube"):
        train_detect(walking, videos=films, folder=tmp_path, recipe=wrong, isolated=False)


def test_a_frozen_csn_keeps_its_statistics(tiny: DetectorConfig) -> None:
    model = Detector(csn(tiny))
    freeze_body(model, stages=2)
    model.train()
    before = {name: value.clone() for name, value in model.body.named_buffers()}
    model.features(torch.randn(2, 3, 8, 32, 32))
    moved = {name for name, value in model.body.named_buffers() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("stages.2", "stages.3")) for name in moved)
    assert {name.split(".")[1] for name, one in model.body.named_parameters() if one.requires_grad} == {"2", "3"}
    freeze_body(model)
    model.train()
    assert not any(part.training for part in model.body.modules())
    assert model.decoder.training
    with pytest.raises(InvalidInput, match="9 stages"):
        freeze_body(model, stages=9)
    with pytest.raises(InvalidInput, match="stages"):
        freeze_body(Detector(tiny), stages=1)


def test_a_frozen_vit_leaves_out_no_block(tiny: DetectorConfig) -> None:
    torch.manual_seed(0)
    model = Detector(replace(tiny, backbone=VitConfig(width=48, depth=2, heads=4, drop_path=0.5)))
    clip = torch.randn(8, 3, 4, 32, 32)
    model.train()
    assert not torch.equal(model.features(clip)[0], model.features(clip)[0])
    freeze_body(model)
    model.train()
    assert torch.equal(model.features(clip)[0], model.features(clip)[0])
    pytest.importorskip("peft")
    add_low_rank(model, 2)
    model.train()
    assert any(part.training for part in model.body.modules())


def test_published_recipes_train_at_full_size() -> None:
    published = {name: one for name, one in RECIPES.items() if name != "small"}
    assert all(one.recompute for one in published.values())
    assert {name for name, one in published.items() if one.frozen_stages == 2} == {"ava22-csn50", "ava22-csn152"}
    assert {name for name, one in published.items() if one.sync_batch_norm} == {n for n in published if "ava" in n}
    assert "ava22-vit-b-v2" in published


def test_recomputing_changes_no_gradient(tiny: DetectorConfig) -> None:
    torch.manual_seed(0)
    model = Detector(replace(tiny, dropout=0.0, class_dropout=0.0)).train()
    clip = torch.randn(1, 3, 4, 32, 48)
    found = []
    for again in (False, True):
        model.encoder.recompute = again
        model.zero_grad()
        out = model(clip)
        (out.boxes_cxcywh.sum() + out.person_logits.square().sum()).backward()
        found.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
    assert len(found[0]) == len(found[1]) > 20
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))
