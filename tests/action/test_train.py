"""Training on labelled films: from each format to a detector, resumed, in two stages, with low-rank updates."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.action import DetectConfig, Detector, LinkConfig, detect, load_action_model
from trifocal.action.data.formats import read_labels, write_labels
from trifocal.action.labels import Labels
from trifocal.action.recipes import RECIPES, DetectRecipe, recipe
from trifocal.action.train import add_low_rank, merge_low_rank, start_from, train_detect
from trifocal.errors import InvalidInput, VideoNotFound, WeightsCorrupt


def _write(labels: Labels, folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """Labels in a format, and what reading them back needs."""
    if kind == "tubes":
        truth = {
            "labels": list(labels.classes.names),
            "nframes": {one.video: 24 for one in labels.videos},
            "resolution": {one.video: (one.height, one.width) for one in labels.videos},
            "train_videos": [["a"]],
            "test_videos": [["b"]],
            "gttubes": {
                one.video: {
                    int(one.actions[0].argmax()): [
                        np.column_stack([one.indices + 1, one.boxes_xyxy]).astype(np.float32)
                    ]
                }
                for one in labels.videos
            },
        }
        path = folder / "GT.pkl"
        path.write_bytes(pickle.dumps(truth, protocol=2))
        return path, {"rate": 10.0}
    if kind == "ava":
        (folder / "map.pbtxt").write_text(
            "".join(f'item {{\n  name: "{name}"\n  id: {n + 1}\n}}\n' for n, name in enumerate(labels.classes.names))
        )
        write_labels(labels, folder / "labels.csv", kind="ava")
        return folder / "labels.csv", {"label_map": folder / "map.pbtxt", "rate": 10.0}
    path = folder / {"cvat": "cvat", "coco": "coco.json", "trifocal": "labels.json"}[kind]
    write_labels(labels, path, kind=kind)  # type: ignore[arg-type]
    return path, {"rate": 10.0} if kind in ("cvat", "coco") else {}


@pytest.mark.parametrize("kind", ["trifocal", "ava", "cvat", "coco", "tubes"])
def test_from_each_format_to_a_detector(
    kind: str, walking: Labels, films: Path, quick: DetectRecipe, tmp_path: Path
) -> None:
    path, options = _write(walking, tmp_path, kind)
    labels = read_labels(path, **options)
    assert set(labels.classes.names) == {"walk right", "walk left"}
    once = replace(quick, train=replace(quick.train, epochs=1))
    model, result = train_detect(
        labels, videos=films, folder=tmp_path / "run", recipe=once, held_out=labels, isolated=False
    )
    assert result.epochs == 1
    again = load_action_model(tmp_path / "run" / "model")
    assert again.classes == model.classes == labels.classes.names
    anything = DetectConfig(link=LinkConfig(least_score=0, start_score=0, least_iou=0), least_class_score=0)
    report = detect(films / "a.mp4", model=again, config=anything, isolated=False)
    assert report.moments == 12
    assert report.tubes


def test_tubes_train_too(walking: Labels, films: Path, tube_recipe: DetectRecipe, tmp_path: Path) -> None:
    model, result = train_detect(
        walking, videos=films, folder=tmp_path, recipe=tube_recipe, held_out=walking, isolated=False
    )
    assert model.detector.config.mode == "tube"
    assert result.history[-1]["loss"] > 0


def test_a_resumed_run_ends_as_an_uninterrupted_one(
    walking: Labels, films: Path, quick: DetectRecipe, tmp_path: Path
) -> None:
    whole, _ = train_detect(walking, videos=films, folder=tmp_path / "whole", recipe=quick, isolated=False)

    class Stop(Exception):
        pass

    def stop(row: Any) -> None:
        if row["epoch"] == 0:
            raise Stop

    with pytest.raises(Stop):
        train_detect(walking, videos=films, folder=tmp_path / "cut", recipe=quick, isolated=False, on_epoch=stop)
    again, _ = train_detect(walking, videos=films, folder=tmp_path / "cut", recipe=quick, isolated=False, resume=True)
    for name, value in whole.detector.state_dict().items():
        assert torch.equal(value, again.detector.state_dict()[name]), name


def test_it_learns_where_the_square_is(walking: Labels, films: Path, quick: DetectRecipe, tmp_path: Path) -> None:
    longer = replace(quick, train=replace(quick.train, epochs=12, lr=3e-3))
    _, result = train_detect(walking, videos=films, folder=tmp_path, recipe=longer, isolated=False)
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.85 * losses[0]


def test_the_second_stage_takes_encoder_and_decoder(tiny: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = Detector(tiny), Detector(tiny)
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in first.state_dict().items()}, tmp_path / "model.safetensors")
    body = {name: value.clone() for name, value in second.state_dict().items() if name.startswith(("body.", "neck."))}
    report = start_from(second, tmp_path)
    assert all(name.startswith(("encoder.", "decoder.", "level_code")) for name in report.taken)
    state = second.state_dict()
    assert all(torch.equal(state[name], first.state_dict()[name]) for name in report.taken)
    assert all(torch.equal(state[name], value) for name, value in body.items())
    tubes = Detector(replace(tiny, mode="tube"))
    save_file({name: value.contiguous() for name, value in tubes.state_dict().items()}, tmp_path / "model.safetensors")
    start_from(second, tmp_path)
    assert torch.equal(second.state_dict()["decoder.anchors"], tubes.state_dict()["decoder.anchors"][:, 2])
    with pytest.raises(WeightsCorrupt):
        start_from(second, tmp_path / "absent")
    with pytest.raises(InvalidInput, match="fits"):
        start_from(Detector(replace(tiny, width=64)), _other(tmp_path))


def _other(folder: Path) -> Path:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, folder / "other.safetensors")
    return folder / "other.safetensors"


def test_low_rank_updates_start_neutral_and_merge(tiny: Any) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    model = Detector(tiny).eval()
    clip = torch.rand(1, 3, 4, 32, 48)
    (before,) = model.features(clip)
    names = set(model.state_dict())
    add_low_rank(model, 2)
    trained = [name for name, one in model.body.named_parameters() if one.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert torch.allclose(model.features(clip)[0], before, atol=1e-6)
    with torch.no_grad():
        for name, one in model.body.named_parameters():
            if "lora_B" in name:
                one.add_(0.1)
    (changed,) = model.features(clip)
    assert not torch.allclose(changed, before, atol=1e-4)
    merge_low_rank(model)
    assert set(model.state_dict()) == names
    assert torch.allclose(model.features(clip)[0], changed, atol=1e-5)
    with pytest.raises(InvalidInput, match="rank is 0"):
        add_low_rank(model, 0)


def test_a_missing_video_is_named(walking: Labels, tmp_path: Path, quick: DetectRecipe) -> None:
    with pytest.raises(VideoNotFound, match=r"'[ab]'"):
        train_detect(walking, videos=tmp_path, folder=tmp_path / "run", recipe=quick, isolated=False)


def test_every_recipe_stands() -> None:
    for name, one in RECIPES.items():
        assert recipe(name) is one
        assert one.train.monitor == "frame_map"
    with pytest.raises(InvalidInput, match="no recipe"):
        recipe("kinetics")
