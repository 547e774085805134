"""What the long-video bench measures, on a short video."""

from __future__ import annotations

from pathlib import Path

import torch

from trifocal.action import ActionModel, Detector, DetectorConfig, VitConfig
from trifocal.bench import detect_long


def test_a_short_video_is_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone=VitConfig(width=48, depth=1, heads=4, grid=14, drop_path=0.0),
        frames=4, frame_stride=4, short_side=32, classes=2, actors=2, width=32, heads=4, feedforward=32,
        encoder_layers=1, decoder_layers=1, points=2,
    )  # fmt: skip
    detector = Detector(config).eval()
    with torch.no_grad():
        detector.decoder.person_head.bias.copy_(torch.tensor([-5.0, 5.0, -5.0]))  # everything is somebody
    model = ActionModel(detector, ("walk", "wave"), fps=25.0)
    row = detect_long.measure(tmp_path, minutes=0.2, model=model, every=2, piece_s=3.0, size=(64, 80))
    assert row["moments"] == 38  # 12 s at 25 / 4 frames a second, every second one
    assert row["tubes"] > 0
    assert row["file_equals_stream"] is True
    assert len(row["resident_mb_by_tenth"]) == 10
    assert all(10 < megabytes < 1e6 for megabytes in row["resident_mb_by_tenth"])
    assert row["cpu_s_per_minute"] > 0
