"""Windows, targets, clips from a film, and what training does to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.action.data.build_targets import keyframe_targets, tube_targets
from trifocal.action.data.clips import ClipConfig, ClipDataset, VideoFolder, collate
from trifocal.action.data.targets import ClipTargets
from trifocal.action.data.transforms import Augmentation, crop, flip, jitter_hsv
from trifocal.action.data.windows import Window, keyframe_indices, tube_windows
from trifocal.action.labels import Labels
from trifocal.bench.goldens import check
from trifocal.errors import InvalidInput, VideoNotFound


def test_all_shared_goldens_pass(shared: Path) -> None:
    found = [case for path in sorted((shared / "goldens/vad/data").glob("*.*")) for case in check(path)]
    assert len(found) >= 30
    assert [case for case in found if case.wrong != ()] == []


@given(count=st.integers(1, 200), frames=st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_windows_show_every_frame_once(count: int, frames: int) -> None:
    windows = tube_windows(count, frames=frames)
    shown = np.concatenate([window.numbers[~window.padded] for window in windows])
    assert shown.tolist() == list(range(count))
    padding = sum(window.front + window.end for window in windows)
    assert padding == len(windows) * frames - count < frames
    assert all(window.padded.sum() == window.front + window.end for window in windows)


def test_the_released_windows_lose_the_last_frames() -> None:
    released = tube_windows(64, frames=32, compat="reference")
    assert max(window.indices.max() for window in released) == 47
    assert max(window.indices.max() for window in tube_windows(64, frames=32)) == 63


@given(key=st.integers(0, 99), frames=st.integers(1, 33), step=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_the_key_frame_stays_in_the_middle(key: int, frames: int, step: int) -> None:
    indices = keyframe_indices(key, frames=frames, step=step, count=100)
    assert indices[frames // 2] == key
    assert indices.min() >= 0
    assert indices.max() <= 99
    assert (np.diff(indices) >= 0).all()


def test_the_released_clip_begins_at_the_first_frame() -> None:
    assert keyframe_indices(0, frames=16, step=4, count=400, compat="reference")[8] == 32
    assert keyframe_indices(0, frames=16, step=4, count=400)[8] == 0
    with pytest.raises(InvalidInput, match="count is 0"):
        keyframe_indices(0, frames=16, step=4, count=0)


def test_targets_of_a_frame_and_of_a_window(labels: Labels) -> None:
    one = labels["walk"]
    target = keyframe_targets(one, 10)
    assert target.boxes_cxcywh.shape == (1, 1, 4)
    assert target.boxes_cxcywh[0, 0].tolist() == pytest.approx([32 / 128, 50 / 96, 24 / 128, 40 / 96])
    assert target.actions[0, 0].tolist() == [1, 1]
    assert keyframe_targets(one, 2).valid.shape == (1, 0)
    window = Window(-4, 16, 40)
    target = tube_targets(one, window)
    assert target.padded.tolist() == [True] * 4 + [False] * 12
    assert target.valid[:, 0].tolist() == [False] * 9 + [True] * 7
    assert target.actions[9, 0].tolist() == [1, 0]
    assert tube_targets(one, Window(0, 4, 40)).valid.shape == (4, 0)
    cut = keyframe_targets(one, 10, quantised_to=(45, 60))
    assert cut.boxes_cxcywh[0, 0, 0].item() == pytest.approx((int(20 / 128 * 60) + int(44 / 128 * 60)) / 120)


def test_a_box_without_area_is_no_target(labels: Labels) -> None:
    one = labels["walk"]
    boxes = one.boxes_xyxy.copy()
    boxes[0, 2] = boxes[0, 0]
    boxes[1] = [200, 10, 300, 20]  # outside
    broken = replace(one, boxes_xyxy=boxes)
    assert keyframe_targets(broken, 5).valid.shape[1] == 0
    assert keyframe_targets(broken, 6).valid.shape[1] == 0
    assert keyframe_targets(broken, 7).valid.shape[1] == 1


def brightest(frame: torch.Tensor) -> tuple[float, float]:
    """Centre of the red square, in parts of the picture."""
    rows, columns = torch.nonzero(frame[..., 0] > 128, as_tuple=True)
    return float(columns.float().mean() + 0.5) / frame.shape[1], float(rows.float().mean() + 0.5) / frame.shape[0]


def centre(target: ClipTargets, frame: int) -> list[float]:
    return target.boxes_cxcywh[frame, 0, :2].tolist()


def test_the_pixels_are_those_of_the_labels(film: Path, labels: Labels) -> None:
    with VideoFolder(film, isolated=False) as frames:
        keys = ClipDataset(labels, ClipConfig(frames=8, step=2, short_side=48), frames=frames)
        assert len(keys) == 40
        assert keys.key(12) == ("walk", 12)
        clip = keys[20]
        assert tuple(clip.frames.shape) == (8, 48, 64, 3)
        assert brightest(clip.frames[4]) == pytest.approx(centre(clip.targets, 0), abs=0.02)
        edge = keys[0]
        assert torch.equal(edge.frames[0], edge.frames[4])  # before the first frame the first is shown
        assert len(ClipDataset(labels, ClipConfig(empty=False), frames=frames)) == 35
        tubes = ClipDataset(labels, ClipConfig(mode="tube", frames=16, short_side=48), frames=frames)
        assert len(tubes) == 3
        first, last = tubes[0], tubes[2]
        assert first.targets.padded.tolist() == [True] * 4 + [False] * 12
        for place in (9, 15):
            assert brightest(first.frames[place]) == pytest.approx(centre(first.targets, place), abs=0.02)
        assert brightest(last.frames[11]) == pytest.approx(centre(last.targets, 11), abs=0.02)
        batch = collate([keys[3], keys[20]], preprocess=lambda frames: frames.permute(3, 0, 1, 2).float())
        assert batch.clips.shape == (2, 3, 8, 48, 64)
        assert batch.padding is None
        assert batch.targets.valid.sum().item() == 1


def test_training_clips_vary_and_repeat(film: Path, labels: Labels) -> None:
    with VideoFolder(film, isolated=False) as frames:
        config = ClipConfig(frames=4, step=1, short_side=48, augmentation=Augmentation())
        dataset = ClipDataset(labels, config, frames=frames, seed=3)
        plain = [dataset[20] for _ in range(2)]
        assert torch.equal(plain[0].frames, plain[1].frames)
        assert plain[0].frames.shape[1] == 48
        dataset.epoch = 1
        assert not torch.equal(dataset[20].frames, plain[0].frames)
        for epoch in range(12):
            dataset.epoch = epoch
            clip = dataset[20]
            if clip.targets.valid[0, 0]:
                x1, y1 = clip.targets.boxes_cxcywh[0, 0, :2] - clip.targets.boxes_cxcywh[0, 0, 2:] / 2
                x2, y2 = clip.targets.boxes_cxcywh[0, 0, :2] + clip.targets.boxes_cxcywh[0, 0, 2:] / 2
                frame = clip.frames[2].float()
                rows, columns = (slice(int(a * n), int(b * n)) for a, b, n in ((y1, y2, 48), (x1, x2, frame.shape[1])))
                inside = frame[rows, columns].std(dim=-1).mean()
                assert inside > 3 * (frame.std(dim=-1).mean() - inside * 0.2).clamp(min=1e-3) * 0.2


def test_flip_twice_is_the_clip_itself(labels: Labels) -> None:
    target = tube_targets(labels["walk"], Window(0, 16, 40))
    frames = torch.randint(0, 255, (16, 8, 10, 3), dtype=torch.uint8)
    once = flip(frames, target)
    assert centre(once[1], 10)[0] == pytest.approx(1 - centre(target, 10)[0])
    twice = flip(*once)
    assert torch.equal(twice[0], frames)
    assert torch.allclose(twice[1].boxes_cxcywh, target.boxes_cxcywh)


def test_a_crop_moves_boxes_and_drops_what_it_cuts_away() -> None:
    boxes = torch.tensor([[[0.25, 0.5, 0.2, 0.4], [0.9, 0.5, 0.1, 0.4]]])
    target = ClipTargets(
        boxes, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, 3), torch.zeros(1, dtype=torch.bool)
    )
    frames, cut = crop(torch.zeros(1, 100, 100, 3, dtype=torch.uint8), target, box=(0, 0, 100, 50), least_share=0.25)
    assert frames.shape == (1, 100, 50, 3)
    assert cut.valid.tolist() == [[True, False]]
    assert cut.boxes_cxcywh[0, 0].tolist() == pytest.approx([0.5, 0.5, 0.4, 0.4])
    assert not cut.actions[0, 1].any()


def test_colour_shifts() -> None:
    frames = torch.tensor([[200, 40, 40], [90, 90, 90], [0, 0, 0], [10, 250, 120]], dtype=torch.uint8)
    assert torch.equal(jitter_hsv(frames, hue=0, saturation=0, value=0), frames)
    same = jitter_hsv(frames, hue=360, saturation=0, value=0)
    assert (same.int() - frames.int()).abs().max() <= 1
    assert jitter_hsv(frames, hue=120, saturation=0, value=0)[0].tolist() == [40, 200, 40]
    grey = jitter_hsv(frames, hue=0, saturation=1, value=0)
    assert grey[1].tolist() == [90, 90, 90]
    assert grey[0].tolist() == [200, 0, 0]
    assert jitter_hsv(frames, hue=0, saturation=0, value=-1).max() == 0


def test_what_cannot_be(film: Path, labels: Labels) -> None:
    with VideoFolder(film, isolated=False) as frames:
        other = replace(labels["walk"], video="../walk")
        with pytest.raises(VideoNotFound, match="no file of the video"):
            frames.path(other)
        assert frames.path(replace(labels["walk"], video="x", file="walk.mp4")).name == "walk.mp4"
    for change, message in (
        ({"mode": "film"}, "keyframe or tube"),
        ({"frames": 0}, "at least 1"),
        ({"frame_rate": -1.0}, "above 0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            ClipConfig(**change)
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        Augmentation(flip=2)
