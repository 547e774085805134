"""Exported graphs give what the detector gives, at sizes that were not traced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trifocal.action import CsnConfig, Detector, DetectorConfig, ImageConfig, VitConfig
from trifocal.action.backbones import image2d
from trifocal.action.export import OUTPUTS, export_onnx, export_program
from trifocal.backbones.efficientnet_lite0 import EfficientNetLite0, load_efficientnet_lite0
from trifocal.errors import InvalidInput

TRACED = {"vit": (80, 112), "csn": (80, 112), "image": (96, 128)}
SIZES = {"vit": ((64, 96), (101, 90)), "csn": ((64, 96), (101, 90)), "image": ((64, 96), (128, 160))}
FRAMES = 8
BODIES: dict[str, VitConfig | CsnConfig | ImageConfig] = {
    "vit": VitConfig(width=24, depth=1, heads=3),
    "csn": CsnConfig(blocks=(1, 1, 1, 1)),
    "image": ImageConfig(),
}
SLOW, WEIGHTS = pytest.mark.slow, pytest.mark.weights
every_body = pytest.mark.parametrize(
    ("body", "mode"),
    [
        ("vit", "keyframe"),
        ("csn", "tube"),
        pytest.param("image", "keyframe", marks=[WEIGHTS, SLOW]),
        pytest.param("vit", "tube", marks=SLOW),
        pytest.param("csn", "keyframe", marks=SLOW),
        pytest.param("image", "tube", marks=[WEIGHTS, SLOW]),
    ],
)


def detector(body: str, mode: str) -> Detector:
    """As it comes from its constructor: the image network has not been read."""
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone=BODIES[body],
        mode=mode,  # type: ignore[arg-type]
        frames=FRAMES,
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


@every_body
def test_program(body: str, mode: str) -> None:
    model = detector(body, mode)
    run = export_program(model, size=TRACED[body]).module()
    for size in SIZES[body]:
        clips = torch.randn(1, 3, FRAMES, *size)
        for found, expected in zip(run(clips), outputs(model, clips), strict=True):
            assert torch.allclose(found, expected, atol=1e-4)
    if body == "image":
        with pytest.raises((RuntimeError, AssertionError), match=r"32|Guard"):
            run(torch.randn(1, 3, FRAMES, 96, 100))


def test_the_image_network_goes_in_steps() -> None:
    with pytest.raises(InvalidInput, match="size is 96x100"):
        export_program(detector("image", "keyframe"), size=(96, 100))


@pytest.mark.weights
def test_the_image_network_is_read_before_it_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    def loaded() -> EfficientNetLite0:
        happened.append("read")
        return load_efficientnet_lite0()

    monkeypatch.setattr(image2d, "load_efficientnet_lite0", loaded)
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: happened.append("traced"))
    export_program(detector("image", "keyframe"), size=TRACED["image"])
    assert happened == ["read", "traced"]


@every_body
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter of torch warns about its own parts
def test_onnx(body: str, mode: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = detector(body, mode)
    path = export_onnx(model, tmp_path / "detector.onnx", size=TRACED[body])
    session = runtime.InferenceSession(str(path))
    for size in SIZES[body]:
        clips = torch.randn(1, 3, FRAMES, *size)
        given = {session.get_inputs()[0].name: clips.numpy()}
        for found, expected in zip(session.run(None, given), outputs(model, clips), strict=True):
            assert torch.allclose(torch.from_numpy(found), expected, atol=1e-3)
