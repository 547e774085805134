"""Training on labelled films: from each format to a detector, resumed, in two stages, with low-rank updates."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.action import DetectConfig, Detector, LinkConfig, detect, load_action_model
from trifocal.action.data.clips import ClipConfig, ClipDataset, VideoFolder
from trifocal.action.data.formats import read_labels, write_labels
from trifocal.action.labels import Labels
from trifocal.action.pretrained import start_from
from trifocal.action.recipes import RECIPES, DetectRecipe, recipe
from trifocal.action.train import DetectTask, add_low_rank, merge_low_rank, train_detect
from trifocal.errors import InvalidInput, VideoNotFound, WeightsCorrupt
from trifocal.training import fit, load_checkpoint


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
    assert {name for name in report.left if name.startswith("decoder.")} == {
        "decoder.person_head.weight",
        "decoder.person_head.bias",
    }  # the person head begins anew, as published
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


def two_in_b(walking: Labels) -> Labels:
    """The labels of both films, with a second actor who stands in `b`: batches of one clip differ in their weight."""
    a, b = walking.videos
    rows = np.repeat(np.arange(len(b)), 2)
    boxes = b.boxes_xyxy[rows].copy()
    boxes[1::2] = (5, 5, 30, 60)
    tracks = np.tile([0, 1], len(b))
    b = replace(b, indices=b.indices[rows], boxes_xyxy=boxes, tracks=tracks, actions=b.actions[rows], labelled=None)
    return Labels(walking.classes, (a, b))


def test_clips_weigh_as_many_actors_as_they_have(walking: Labels, films: Path, quick: DetectRecipe) -> None:
    """The mean of two batches by their sizes has the gradient of both in one; what several processes rely on."""
    torch.manual_seed(0)
    still = replace(quick.detector, dropout=0.0, class_dropout=0.0)
    recipe = replace(quick, detector=still, criterion=replace(quick.criterion, person_weight=0.0))
    model = Detector(still).train()
    with VideoFolder(films, isolated=False) as frames:
        clips = ClipDataset(two_in_b(walking), ClipConfig(frames=4, step=1, short_side=32), frames=frames)
        task = DetectTask(model, train=clips, held_out=None, recipe=recipe)
        rows = [3, 30]
        one, two = (task._reader.read(clips, [row]) for row in rows)
        both = task._reader.read(clips, rows)
    sizes = [task.size(one), task.size(two)]
    assert sizes == [1, 2]
    loss = (task.loss(one)["loss"] + 2 * task.loss(two)["loss"]) / 3
    names = [name for name, _ in model.named_parameters()]
    parts = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    whole = torch.autograd.grad(task.loss(both)["loss"], list(model.parameters()), allow_unused=True)
    for name, ours, theirs in zip(names, parts, whole, strict=True):
        if theirs is not None:
            assert ours is not None, name
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3, msg=name)


PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from trifocal.action import DetectorConfig
from trifocal.action.data.formats import read_labels
from trifocal.action.losses import CriterionConfig
from trifocal.action.recipes import DetectRecipe
from trifocal.action.train import train_detect
from trifocal.training import TrainConfig
here, films, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
recipe = DetectRecipe(
    detector=DetectorConfig.from_json((here / "config.json").read_text()),
    criterion=CriterionConfig.preset("ava", person_weight=0.0),
    train=TrainConfig(epochs=1, lr=1e-3, device="cpu"),
    augmentation=None,
    batch=batch,
    fps=10.0,
)
labels = read_labels(here / "labels.json")
train_detect(labels, videos=films, folder=here / f"run{batch}", recipe=recipe, isolated=False)
"""


@pytest.mark.slow
def test_two_processes_train_as_one(walking: Labels, films: Path, tiny: Any, tmp_path: Path) -> None:
    config = replace(tiny, dropout=0.0, class_dropout=0.0)
    (tmp_path / "config.json").write_text(config.to_json())
    write_labels(two_in_b(walking), tmp_path / "labels.json", kind="trifocal")
    (tmp_path / "train.py").write_text(PROGRAM)
    for count, batch in ((1, 4), (2, 2)):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command += [str(tmp_path / "train.py"), str(tmp_path), str(films), str(batch)]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
    one, two = (load_checkpoint(tmp_path / f"run{batch}" / "last.safetensors") for batch in (4, 2))
    assert one[1]["place"]["step"] == two[1]["place"]["step"] == 12
    assert two[1]["history"][0]["loss"] == pytest.approx(one[1]["history"][0]["loss"], rel=1e-4)
    for name, value in one[0].items():
        if name.startswith("model/"):
            torch.testing.assert_close(two[0][name], value, atol=2e-4, rtol=1e-3)


def test_a_frozen_body_sees_every_clip_once(walking: Labels, films: Path, tmp_path: Path) -> None:
    """In training and in evaluation; nothing is decoded twice either."""
    small = RECIPES["small"]
    recipe = replace(
        small,
        detector=replace(small.detector, frames=4, short_side=32, actors=2, width=32, feedforward=32, heads=4),
        train=replace(small.train, epochs=2),
    )
    seen: list[tuple[str, int]] = []

    class Counted(VideoFolder):
        def read(self, labels: Any, times_s: Any, *, short_side: int) -> Any:
            seen.append((labels.video, round(100 * times_s[2])))
            return super().read(labels, times_s, short_side=short_side)

    clip = ClipConfig(frames=4, step=1, short_side=32, frame_rate=10.0)
    config = replace(recipe.detector, classes=2)
    with Counted(films, isolated=False) as frames:
        train, test = (ClipDataset(walking.only([name]), clip, frames=frames) for name in ("a", "b"))
        task = DetectTask(Detector(config), train=train, held_out=test, recipe=recipe)
        fit(task, recipe.train, folder=tmp_path)
    assert len(seen) == len(set(seen)) == 48


def test_a_film_that_was_cut_out_is_trained_on(
    walking: Labels, films: Path, quick: DetectRecipe, tmp_path: Path
) -> None:
    late = Labels(
        walking.classes,
        tuple(replace(one, indices=one.indices + 9000, labelled=None, frame_count=None) for one in walking.videos),
    )
    once = replace(quick, train=replace(quick.train, epochs=1))
    options: dict[str, Any] = {"videos": films, "recipe": once, "isolated": False}
    cut, _ = train_detect(late, folder=tmp_path / "late", start_s=-900.0, **options)
    own, _ = train_detect(walking, folder=tmp_path / "own", **options)
    for name, value in own.detector.state_dict().items():
        assert torch.equal(cut.detector.state_dict()[name], value), name


def test_every_recipe_stands() -> None:
    for name, one in RECIPES.items():
        assert recipe(name) is one
        assert one.train.monitor == "frame_map"
    with pytest.raises(InvalidInput, match="no recipe"):
        recipe("kinetics")
