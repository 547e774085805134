"""The whole detector as one graph, for runtimes without this project: `torch.export` and ONNX.

Height and width stay open, the number of frames is fixed. Points are gathered by plain indexing, which every exporter
knows; an ONNX file needs no 5-D GridSample. Graphs are for one clip at a time, without padding.

With the image network as its body a graph takes heights and widths in steps of 32 pixels: the network pads at one side
or at both as a size is even or odd, five times over, and of such nested remainders the exporter makes expressions that
it does not come to the end of.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trifocal.action.backbones.image2d import ImageBody
from trifocal.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from trifocal.action.detector import Detector

__all__ = ["OUTPUTS", "export_onnx", "export_program"]

OUTPUTS = ("class_logits", "boxes_cxcywh", "person_logits")
OPSET = 20
IMAGE_STEP = 32
"""Pixels in which the image network's sides go."""


class _Plain(nn.Module):
    """The detector with tensors in and out; sides are multiples of `step`."""

    def __init__(self, model: Detector, *, step: int) -> None:
        super().__init__()
        self.model = model
        self._step = step

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self._step > 1:
            for axis in (3, 4):
                side = clips.shape[axis]
                # Documented, and the way to write such a condition into a graph.
                torch._check(side % self._step == 0)  # type: ignore[no-untyped-call]  # noqa: SLF001
                clips = clips.narrow(axis, 0, side // self._step * self._step)  # so that the multiple can be seen
        out = self.model(clips)
        return out.class_logits, out.boxes_cxcywh, out.person_logits


def export_program(model: Detector, *, size: tuple[int, int] = (128, 160)) -> ExportedProgram:
    """The detector as a program of `torch.export`.

    Args:
        model: in evaluation mode.
        size: height and width of the clip that is traced; others work too.

    Returns:
        A program from clips (1, 3, T, H, W) to the three `OUTPUTS`.

    Raises:
        InvalidInput: `size` is not in steps of 32 where it must be.
        WeightsUnavailable: the image network's weights are neither cached nor to be had.
    """
    step = IMAGE_STEP if isinstance(model.body, ImageBody) else 1
    if any(side % step for side in size):
        raise InvalidInput(f"size is {size[0]}x{size[1]}", remedy=f"Give multiples of {step} for this body.")
    plain = _Plain(model, step=step).eval()
    clips = torch.zeros(1, 3, model.config.frames, *size, device=model.level_code.device)
    if isinstance(model.body, ImageBody):
        model.body.network(clips)  # its weights are read from files, which cannot be traced
    open_sides = {3: torch.export.Dim.AUTO, 4: torch.export.Dim.AUTO}
    before, model.encoder.sampling = model.encoder.sampling, "gather"
    try:
        return torch.export.export(plain, (clips,), dynamic_shapes={"clips": open_sides})
    finally:
        model.encoder.sampling = before


def export_onnx(model: Detector, path: Path | str, *, size: tuple[int, int] = (128, 160)) -> Path:
    """Write the detector as an ONNX file.

    Args:
        model: in evaluation mode.
        path: the file.
        size: as for `export_program`.

    Raises:
        MissingExtra: `onnx` and `onnxscript` are not installed.
    """
    try:
        import onnxscript  # noqa: F401  # torch looks for it when it exports
    except ImportError as error:
        raise MissingExtra("ONNX export needs onnx and onnxscript", remedy="pip install 'trifocal[export]'.") from error
    path = Path(path)
    program = torch.onnx.export(export_program(model, size=size), dynamo=True, opset_version=OPSET, verbose=False)
    assert program is not None
    program.save(path)
    return path
