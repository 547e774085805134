"""Weights made elsewhere: VideoMAE gives what transformers gives, Caffe2 names fall into place, checkpoints convert."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trifocal.action import CsnConfig, VitConfig, load_action_model, reference
from trifocal.action.backbones.csn import CsnBody
from trifocal.action.backbones.vit import VitBody
from trifocal.action.class_names import CLASS_NAMES
from trifocal.action.convert import caffe2_to_body, convert_checkpoint, load_videomae, own_classes
from trifocal.bench.goldens.action_model import filled_state
from trifocal.cli import main
from trifocal.errors import ModelError, WeightsCorrupt

TINY = {
    "yaml": "UCF_ViT-B.yaml",
    "overrides": {
        "MODEL__D_MODEL": 32,
        "MODEL__DIM_FEEDFORWARD": 32,
        "MODEL__ENC_LAYERS": 1,
        "MODEL__DEC_LAYERS": 1,
        "MODEL__QUERY_NUM": 2,
        "DATA__NUM_CLASSES": 3,
        "ViT__EMBED_DIM": 48,
        "ViT__DEPTH": 1,
        "ViT__NUM_HEADS": 3,
        "MODEL__TEMP_LEN": 4,
    },
}


def test_videomae_sees_what_transformers_sees() -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=224,
        num_frames=4,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
        use_mean_pooling=False,
        layer_norm_eps=1e-6,
    )
    theirs = VideoMAEModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    body = VitBody(VitConfig(width=48, depth=2, heads=3), frames=4).eval()
    load_videomae(body, theirs.state_dict())
    clip = torch.randn(1, 3, 4, 224, 224)
    with torch.inference_mode():
        expected = theirs(clip.transpose(1, 2)).last_hidden_state
        (found,) = body(clip)
    assert torch.allclose(found.flatten(1, 3), expected, atol=1e-4)
    with pytest.raises(ModelError, match="no VideoMAE encoder"):
        load_videomae(body, {"weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="do not fit"):
        load_videomae(VitBody(VitConfig(width=48, depth=1, heads=3), frames=4), theirs.state_dict())


def caffe2_arrays(body: CsnBody) -> dict[str, np.ndarray]:
    """The body's weights by Caffe2's names."""
    ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    arrays: dict[str, np.ndarray] = {}
    blocks = [(stage, place) for stage, blocks in enumerate(body.stages) for place in range(len(blocks))]  # type: ignore[arg-type]
    for name, tensor in body.state_dict().items():
        parts, end = name.split("."), name.rpartition(".")[2]
        if end == "num_batches_tracked":
            continue
        if parts[0] == "stages":
            number, part = blocks.index((int(parts[1]), int(parts[2]))), parts[3]
            if part == "shortcut":
                stem = f"shortcut_projection_{number}" + ("_spatbn" if parts[4] == "1" else "")
            else:
                stem = f"comp_{number}_" + ("conv_" if part.startswith("conv") else "spatbn_") + part[-1]
            key = f"{stem}_w" if part.startswith("conv") or parts[-2] == "0" else f"{stem}_{ends[end]}"
        else:
            key = "conv1_w" if parts[0] == "conv1" else f"conv1_spatbn_relu_{ends[end]}"
        value = tensor.numpy()
        arrays[key] = value[None] if value.ndim == 1 else value
    return arrays


def test_caffe2_weights() -> None:
    source, target = (CsnBody(CsnConfig(blocks=(1, 2, 1, 1))).eval() for _ in range(2))
    for buffer in source.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.0)
    arrays = caffe2_arrays(source)
    caffe2_to_body(target, arrays)
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(source(clip), target(clip), strict=True))
    del arrays["comp_1_conv_3_w"]
    with pytest.raises(ModelError, match="comp_1_conv_3_w"):
        caffe2_to_body(target, arrays)


def test_lean_csn_equals_plain_csn() -> None:
    body = CsnBody(CsnConfig(blocks=(1, 1, 2, 1))).eval()
    for buffer in body.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.0)
    clip = torch.randn(2, 3, 8, 48, 32)
    with torch.inference_mode():
        lean = body(clip)
    for found, expected in zip(lean, body(clip), strict=True):
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_a_checkpoint_becomes_a_folder(tmp_path: Path) -> None:
    model = reference.build(TINY)
    state = filled_state(model)
    torch.save({"model": {"module." + k: v for k, v in state.items()}, "epoch": 3}, tmp_path / "published.pth")
    report = convert_checkpoint(tmp_path / "published.pth", target=tmp_path / "made", config=TINY)
    assert report.complete
    reference.load_state_dict(model, state)
    made = load_action_model(tmp_path / "made")
    clip = torch.randn(1, 3, 4, 32, 48)
    with torch.inference_mode():
        assert torch.equal(made.detector(clip).class_logits, model(clip).class_logits)
    torch.save({"model": {"weights": [1, 2]}}, tmp_path / "odd.pth")
    with pytest.raises(WeightsCorrupt, match="no named tensors"):
        convert_checkpoint(tmp_path / "odd.pth", target=tmp_path / "odd", config=TINY)
    torch.save({"model": state, "run": Path("x")}, tmp_path / "class.pth")
    with pytest.raises(WeightsCorrupt, match="not a torch checkpoint"):
        convert_checkpoint(tmp_path / "class.pth", target=tmp_path / "odd", config=TINY)


def run(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_command_tells_every_entry_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = reference.build(TINY)
    state = filled_state(model)
    torch.save({"model": state}, tmp_path / "published.pth")
    (tmp_path / "map.json").write_text('{"3": "walk", "7": "sit", "9": "wave"}')
    sizes = [word for name, value in TINY["overrides"].items() for word in ("--set", f"{name}={value}")]  # type: ignore[attr-defined]
    words = ["weights", "convert", str(tmp_path / "published.pth"), "--yaml", "UCF_ViT-B", *sizes]
    assert run([*words, "--out", str(tmp_path / "made"), "--label-map", str(tmp_path / "map.json")]) == 0
    assert "every entry fits" in capsys.readouterr().err
    made = load_action_model(tmp_path / "made")
    assert (made.classes, made.ids, made.fps) == (("walk", "sit", "wave"), (3, 7, 9), 25.0)
    odd = dict(state)
    names = sorted(odd)
    gone, bent = [name for name in names if "encoder.layers" in name][:2]
    del odd[gone]
    odd[bent] = torch.zeros(1)
    odd["transformer.more"] = torch.zeros(1)
    torch.save({"model": odd}, tmp_path / "published.pth")
    assert run([*words, "--out", str(tmp_path / "odd")]) != 0
    told = capsys.readouterr().err
    assert f"missing: {gone}" in told
    assert f"shape of {bent}: (1,) instead of" in told
    assert "unexpected: transformer.more" in told
    assert not (tmp_path / "odd").exists()
    assert run([*words, "--out", str(tmp_path / "odd"), "--anyway", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == [gone]
    assert run([*words, "--out", str(tmp_path / "odd"), "--set", "MODEL__QUERY_NUM=few"]) == 2
    assert "Give NAME=NUMBER" in capsys.readouterr().err


def test_published_data_sets_have_their_names() -> None:
    assert [len(names) for names in CLASS_NAMES.values()] == [80, 24, 21]
    assert all(len(set(names)) == len(names) for names in CLASS_NAMES.values())
    ava = own_classes("AVA22_ViT-B", 80)
    assert (ava.names[11], ava.ids[11], ava.names[79]) == ("stand", 12, "watch (a person)")
    assert own_classes("JHMDB_ViT-B", 21).names[20] == "wave"
    assert own_classes("UCF_ViT-B", 3).names == ("class 1", "class 2", "class 3")
