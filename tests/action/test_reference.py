"""The published model by its published names: shared goldens, refusals, and gradients against recovered read-outs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trifocal.action import reference, winograd
from trifocal.action.reference_names import published_entries
from trifocal.bench.goldens import check
from trifocal.bench.goldens.action_model import filled_state
from trifocal.errors import InvalidInput, ModelError

TINY = {
    "yaml": "AVA22_ViT-B.yaml",
    "overrides": {
        "MODEL__D_MODEL": 32,
        "MODEL__DIM_FEEDFORWARD": 48,
        "MODEL__ENC_LAYERS": 1,
        "MODEL__DEC_LAYERS": 2,
        "MODEL__QUERY_NUM": 3,
        "DATA__NUM_CLASSES": 4,
        "ViT__EMBED_DIM": 48,
        "ViT__DEPTH": 1,
        "ViT__NUM_HEADS": 3,
        "MODEL__TEMP_LEN": 4,
    },
}


def golden_files(shared: Path) -> list[Path]:
    folder = shared / "goldens" / "vad"
    found = [*folder.glob("forward/*.npz"), *folder.glob("forward/*.json"), *folder.glob("forward/*.safetensors")]
    return sorted([*found, *folder.glob("keys/*.txt")])


@pytest.mark.parametrize("width", [winograd.LEAST_WIDTH, 1], ids=["", "with Winograd's convolution"])
def test_small_goldens(width: int, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "LEAST_WIDTH", width)
    monkeypatch.setattr(winograd, "LEAST_CELLS", winograd.LEAST_CELLS if width > 1 else 1)
    files = [path for path in golden_files(shared) if not (path.name.startswith("full_") and path.suffix == ".npz")]
    cases = [case for path in files for case in check(path)]
    assert len(cases) >= 15
    assert not [case for case in cases if case.wrong != ()]


@pytest.mark.slow
def test_full_size_goldens(shared: Path) -> None:
    cases = [case for path in golden_files(shared) if path.name.startswith("full_") for case in check(path)]
    assert cases
    assert not [case for case in cases if case.wrong != ()]


def test_a_changed_weight_is_seen(shared: Path, tmp_path: Path) -> None:
    source = shared / "goldens" / "vad" / "forward"
    folder = tmp_path / "forward"
    folder.mkdir()
    for end in ("npz", "json"):
        (folder / f"vit_tiny_ucf.{end}").write_bytes((source / f"vit_tiny_ucf.{end}").read_bytes())
    text = (folder / "vit_tiny_ucf.json").read_text().replace('"MODEL__DEC_LAYERS": 3', '"MODEL__DEC_LAYERS": 2')
    (folder / "vit_tiny_ucf.json").write_text(text)
    for name in ("vit_tiny_ucf.npz", "vit_tiny_ucf.json"):
        (case,) = check(folder / name)
        assert case.wrong


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"yaml": "AVA23.yaml"}, "yaml is 'AVA23.yaml'"),
        ({"yaml": "AVA22_CSN50", "ViT__DEPTH": 3}, "knows no ViT__DEPTH"),
        ({"yaml": "AVA22_ViT-B", "MODEL__TEMP_LEN": 8, "DATA__TEMP_LEN": 16}, "both 8 and 16"),
        ({"yaml": "AVA22_ViT-B", "MODEL__D_MODEL": 50}, "width is 50"),
    ],
)
def test_bad_configurations(config: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        reference.config_from(config)


def test_state_dicts_that_do_not_fit() -> None:
    model = reference.build(TINY)
    state = {"module." + name: tensor for name, tensor in filled_state(model).items()}
    assert reference.load_state_dict(model, state).complete
    wrong = dict(state)
    del wrong["module.refpoint_embed.weight"]
    wrong["module.other"] = torch.zeros(1)
    wrong["module.class_embed_b.bias"] = torch.zeros(5)
    wrong["module.transformer.decoder.bbox_embed.layers.0.bias"] = torch.full((32,), 9.0)
    report = reference.load_state_dict(model, wrong, strict=False)
    assert report.missing == ("refpoint_embed.weight",)
    assert report.unexpected == ("other",)
    assert report.misshapen == (("class_embed_b.bias", (5,), (3,)),)
    assert len(report.untied) == 1
    with pytest.raises(ModelError, match=r"shape of class_embed_b\.bias"):
        reference.load_state_dict(model, wrong)


def test_names_go_both_ways() -> None:
    with torch.device("meta"):
        for name in reference.YAML_PRESETS:
            model = reference.build({"yaml": name})
            entries = published_entries(model)
            used = {entry.own for entry in entries.values() if entry.own is not None}
            assert used == set(model.state_dict())
            assert all(reference.own_name(name) == entry.own for name, entry in entries.items() if entry.own)


def test_gradients_reach_the_anchors_once() -> None:
    model = reference.build(TINY)
    reference.load_state_dict(model, filled_state(model))
    out = model(torch.randn(1, 3, 4, 32, 48), aux=True)
    out.boxes_cxcywh.sum().backward()
    assert model.decoder.anchors.grad is not None
    # Actors' features are handed to the classifying layers without gradients.
    parameters = dict(model.named_parameters())
    assert parameters["decoder.classify.0.actor_feed_forward.widen.weight"].grad is None
