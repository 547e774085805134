"""Exported graphs give what the detector gives, at sizes that were not traced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trifocal.action import Detector, DetectorConfig, VitConfig
from trifocal.action.export import OUTPUTS, export_onnx, export_program

SIZES = ((80, 112), (64, 96), (101, 90))


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone=VitConfig(width=24, depth=1, heads=3),
        frames=4,
        classes=3,
        actors=2,
        width=32,
        feedforward=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        points=2,
    )
    return Detector(config).eval().requires_grad_(False)


def outputs(model: Detector, clips: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        out = model(clips)
    return [getattr(out, name) for name in OUTPUTS]


def test_program(model: Detector) -> None:
    run = export_program(model, size=(80, 112)).module()
    for size in SIZES:
        clips = torch.randn(1, 3, 4, *size)
        for found, expected in zip(run(clips), outputs(model, clips), strict=True):
            assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter of torch warns about its own parts
def test_onnx(model: Detector, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    path = export_onnx(model, tmp_path / "detector.onnx", size=(80, 112))
    session = runtime.InferenceSession(str(path))
    for size in SIZES:
        clips = torch.randn(1, 3, 4, *size)
        given = {session.get_inputs()[0].name: clips.numpy()}
        for found, expected in zip(session.run(None, given), outputs(model, clips), strict=True):
            assert torch.allclose(torch.from_numpy(found), expected, atol=1e-3)
