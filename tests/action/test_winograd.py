"""Winograd's convolution gives PyTorch's numbers, and stays out of the way of everything but those."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trifocal.action import winograd
from trifocal.action.winograd import Winograd, convolution

WIDTH = winograd.LEAST_WIDTH


def conv_of(axes: int, *, inputs: int = 5, outputs: int = 7, bias: bool = True) -> nn.Conv2d | nn.Conv3d:
    torch.manual_seed(0)
    kind = nn.Conv2d if axes == 2 else nn.Conv3d
    return kind(inputs, outputs, 3, padding=1, bias=bias)


def plain(conv: nn.Module, maps: Tensor) -> Tensor:
    out: Tensor = conv(maps.movedim(-1, 1)).movedim(1, -1)
    return out


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (3, 4, 4), (2, 5, 3), (2, 13, 18), (1, 2, 9), (70, 6, 17)],
    ids=lambda shape: "x".join(map(str, shape)),
)
@torch.no_grad()
def test_it_is_the_convolution_at_any_size(shape: tuple[int, int, int], bias: bool) -> None:
    conv, maps = conv_of(2, bias=bias), torch.randn(*shape, 5)
    torch.testing.assert_close(Winograd.of(conv)(maps), plain(conv, maps), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "shape", [(1, 1, 4, 4), (2, 3, 5, 6), (1, 16, 9, 23)], ids=lambda shape: "x".join(map(str, shape))
)
@torch.no_grad()
def test_a_kernel_over_time_sees_the_frames_beside(shape: tuple[int, ...]) -> None:
    conv, maps = conv_of(3), torch.randn(*shape, 5)
    torch.testing.assert_close(Winograd.of(conv)(maps), plain(conv, maps), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bands_of_tiles_make_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, maps = conv_of(3), torch.randn(1, 3, 18, 10, 5)
    whole = Winograd.of(conv)(maps)
    monkeypatch.setattr(winograd, "BAND", 1)
    torch.testing.assert_close(Winograd.of(conv)(maps), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_it_loses_little_of_float32() -> None:
    conv, maps = conv_of(2, inputs=WIDTH, outputs=WIDTH), torch.randn(4, 16, 20, WIDTH)
    exact = plain(conv.double(), maps.double())

    def error(out: Tensor) -> float:
        return float((out - exact).square().mean().sqrt())

    conv = conv.float()
    assert error(Winograd.of(conv)(maps)) < 3 * error(plain(conv, maps))  # of the points 0, ±1, ±2 it is above 4


def test_only_wide_maps_of_which_the_numbers_alone_are_wanted_take_it() -> None:
    conv, maps = conv_of(2, inputs=WIDTH, outputs=WIDTH), torch.randn(8, 16, 16, WIDTH)
    narrow = conv_of(2)

    def taken(conv: nn.Conv2d | nn.Conv3d, maps: Tensor) -> bool:
        return isinstance(convolution(conv, maps), Winograd)

    assert not taken(conv, maps)
    with torch.no_grad():
        assert taken(conv, maps)
        assert not taken(conv, maps[:7])
        assert not taken(narrow, maps[..., :5])
        with torch.autocast("cpu", torch.bfloat16):
            assert not taken(conv, maps)
        assert not taken(conv.bfloat16(), maps.bfloat16())
        assert not taken(conv.to("meta"), maps.to("meta"))


def test_a_convolution_that_carries_more_than_its_weight_is_called() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, maps: Tensor) -> Tensor:
            return 2 * super().forward(maps)

    conv, maps = Doubled(WIDTH, WIDTH, 3, padding=1), torch.randn(8, 16, 16, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(convolution(conv, maps)(maps), plain(conv, maps))


def test_gradients_are_those_of_the_convolution() -> None:
    conv, maps = conv_of(2, inputs=WIDTH, outputs=WIDTH), torch.randn(8, 16, 16, WIDTH, requires_grad=True)
    made = convolution(conv, maps)(maps)
    gradients = torch.autograd.grad(made.square().sum(), [maps, *conv.parameters()])
    expected = torch.autograd.grad(plain(conv, maps).square().sum(), [maps, *conv.parameters()])
    for one, other in zip(gradients, expected, strict=True):
        assert torch.equal(one, other)


class _Convolve(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_of(2, inputs=WIDTH, outputs=WIDTH)

    def forward(self, maps: Tensor) -> Tensor:
        return convolution(self.conv, maps)(maps)


@torch.no_grad()
def test_an_export_holds_the_convolution_itself() -> None:
    module, maps = _Convolve().eval(), torch.randn(8, 16, 16, WIDTH)
    program = torch.export.export(module, (maps,))
    assert any("conv2d" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(maps), module(maps), atol=1e-4, rtol=1e-4)
