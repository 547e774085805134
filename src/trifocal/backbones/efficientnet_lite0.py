"""EfficientNet-Lite0, a small ImageNet classifier that serves as the offline eye of search and questions.

Written from the published architecture: EfficientNet (Tan and Le 2019, arXiv 1905.11946, table 1) in its "Lite" form,
which leaves out squeeze-and-excitation, uses ReLU6 and keeps the stem at 32 and the head at 1280 channels. Inverted
residual blocks (MobileNetV2, arXiv 1801.04381) do the work; `STAGES` is the whole plan.

The weights came from TensorFlow: strided convolutions pad as "same" does there (more at the bottom and right), batch
norm has epsilon 1e-3, and pixels enter as (x - 127) / 128. On the real sample clips these choices gave the surest and
most sensible classes among those tried. Batch norm is folded into the convolutions when the weights are loaded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from trifocal import weights
from trifocal.backbones.frame_pool import map_frames
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EfficientNetLite0", "Fit", "load_efficientnet_lite0"]

Fit = Literal["squash", "crop"]


class Stage(NamedTuple):
    """Blocks of one shape: the first has the stride and changes the width, the others keep both."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD, CLASSES = 32, 1280, 1000
NORM_EPSILON = 1e-3
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's "same" padding, batch norm, and ReLU6 unless `linear`.

    After `fold`, the norm is part of the convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        # At stride 1 "same" is symmetric for odd kernels; at stride 2 it depends on the input's size.
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=NORM_EPSILON)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(T, inputs, H, W) → (T, outputs, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride > 1:
            top, bottom = _same_padding(x.shape[-2], kernel, stride)
            left, right = _same_padding(x.shape[-1], kernel, stride)
            x = F.pad(x, (left, right, top, bottom))
        x = self.norm(self.conv(x))
        return x if self.linear else F.relu6(x, inplace=not torch.is_grad_enabled())

    @torch.no_grad()
    def fold(self) -> None:
        """Make the norm part of the convolution: same function, one pass over the pixels less."""
        if not isinstance(self.norm, nn.BatchNorm2d):
            return
        mean, variance = cast("Tensor", self.norm.running_mean), cast("Tensor", self.norm.running_var)
        # In double, so that folding costs no more than one rounding of each weight.
        scale = self.norm.weight.double() / (variance.double() + self.norm.eps).sqrt()
        weight = self.conv.weight.double() * scale.view(-1, 1, 1, 1)
        bias = self.norm.bias.double() - mean.double() * scale
        self.conv.weight = nn.Parameter(weight.to(self.conv.weight.dtype), requires_grad=False)
        self.conv.bias = nn.Parameter(bias.to(self.conv.weight.dtype), requires_grad=False)
        self.norm = nn.Identity()


class InvertedResidual(nn.Module):
    """Widen (1×1), filter each channel by itself (kernel×kernel), narrow (1×1); plus the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = ConvNorm(inputs, wide) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = ConvNorm(wide, outputs, linear=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(T, inputs, H, W) → (T, outputs, ceil(H / stride), ceil(W / stride))."""
        narrow: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + narrow if self.residual else narrow


class EfficientNetLite0(nn.Module):
    """Frames to a map of features, and features to the 1000 ImageNet classes.

    Made by `load_efficientnet_lite0`. Frozen; every method runs in inference mode, so results carry no gradient.

    Attributes:
        frame_size: (height, width) that `preprocess` gives and the network was trained on.
        id: names the weights; equal ids give equal features up to `dtype` and the machine's rounding.
    """

    frame_size = (224, 224)
    id = f"efficientnet-lite0@{weights.KNOWN['efficientnet-lite0'].members[0].cached_sha256[:12]}"

    def __init__(self) -> None:
        """An untrained network with batch norms apart, as the checkpoint has them."""
        super().__init__()
        self.stem = ConvNorm(3, STEM, kernel=3, stride=2)
        blocks, width = [], STEM
        for stage in STAGES:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(
                    InvertedResidual(
                        width, stage.channels, kernel=stage.kernel, stride=stride, expansion=stage.expansion
                    )
                )
                width = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(width, HEAD)
        self.classifier = nn.Linear(HEAD, CLASSES)
        self.eval().requires_grad_(False)

    def preprocess(
        self, frames: NDArray[np.uint8] | Tensor, *, fit: Fit = "squash", size: tuple[int, int] = frame_size
    ) -> Tensor:
        """Frames of any size as the network's input.

        Args:
            frames: uint8 (T, H, W, 3), RGB.
            fit: "squash" shows the whole frame and ignores its aspect; "crop" shows the centred square.
            size: height and width of the result; the network was trained on the default and takes others.

        Returns:
            float32 (T, 3, *size) on the network's device, channels last in memory, about -1 to 1. Resizing is
            bicubic with antialiasing, on bytes.

        Raises:
            InvalidInput: another shape or dtype, an empty frame, or an unknown `fit`.
        """
        pixels = torch.as_tensor(frames)
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != torch.uint8 or 0 in pixels.shape[1:3]:
            raise InvalidInput(
                f"frames is {str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}",
                remedy="Give uint8 of shape (T, H, W, 3).",
            )
        if min(size) < 1:
            raise InvalidInput(f"size is {size}", remedy="Give a height and a width of at least 1.")
        if fit not in ("squash", "crop"):
            raise InvalidInput(f"fit is {fit!r}", remedy='Give "squash" or "crop".')
        pixels = pixels.permute(0, 3, 1, 2)  # (T, 3, H, W), channels last in memory
        height, width = pixels.shape[-2:]
        if fit == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            pixels = pixels[..., top : top + side, left : left + side]
        if len(pixels) and pixels.shape[-2:] != size:
            if pixels.device.type != "cpu":  # only the CPU resizes bytes; rounding keeps the two alike
                pixels = pixels.float()
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).round_().clamp_(0, 255)
        elif not len(pixels):
            pixels = pixels.new_zeros((0, 3, *size))
        images = pixels.to(self.classifier.weight.device, torch.float32, memory_format=torch.channels_last)
        return images.sub(PIXEL_MEAN).div_(PIXEL_SCALE)

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """What is seen, and where.

        Args:
            images: (T, 3, H, W) as from `preprocess`; H and W may be other than 224.

        Returns:
            (T, 1280, ceil(H / 32), ceil(W / 32)) in the network's dtype, ≥ 0 and ≤ 6; 7×7 for 224×224.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InvalidInput(f"images is {tuple(images.shape)}", remedy="Give (T, 3, H, W), as from preprocess().")
        parameter = self.classifier.weight
        if not len(images):
            cells = [-(-side // 32) for side in images.shape[-2:]]
            return torch.zeros(0, HEAD, *cells, device=parameter.device, dtype=parameter.dtype)
        x = images.to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
        # On a CPU one frame at a time: its maps fit the caches (float32: 69 frames/s a core, 45 in batches of 32), and
        # a frame's features are the same bits whatever it was batched with.
        return map_frames(self._see, x) if x.device.type == "cpu" else self._see(x)

    def _see(self, x: Tensor) -> Tensor:
        seen: Tensor = self.head(self.blocks(self.stem(x)))
        return seen

    @torch.inference_mode()
    def classify_pooled(self, feature_map: Tensor) -> Tensor:
        """Logits of whole frames: (T, 1280, H, W) → float32 (T, 1000)."""
        return cast("Tensor", self.classifier(feature_map.mean(dim=(2, 3)).to(self.classifier.weight.dtype))).float()

    @torch.inference_mode()
    def classify_cells(self, feature_map: Tensor) -> Tensor:
        """Logits at every cell: (T, 1280, H, W) → float32 (T, 1000, H, W).

        The classifier is linear, so the mean over the cells equals `classify_pooled`.
        """
        kernel = self.classifier.weight[:, :, None, None]  # (1000, 1280, 1, 1)
        return F.conv2d(feature_map.to(kernel.dtype), kernel, self.classifier.bias).float()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of whole frames: (T, 3, H, W) → float32 (T, 1000)."""
        return self.classify_pooled(self.features(images))

    def fold(self) -> None:
        """Fold every batch norm into its convolution; the function stays the same."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()


def load_efficientnet_lite0(
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
    cache: Path | str | None = None,
) -> EfficientNetLite0:
    """The network with its published weights, folded and frozen.

    Args:
        device: where it runs.
        dtype: float32, or bfloat16 where the processor has it (a third faster on a CPU, less exact), or float16.
        offline: use the cached weights only.
        cache: where weights are kept, instead of `weights.cache_dir()`.

    Raises:
        WeightsUnavailable: the weights are neither cached nor to be had.
    """
    folder = weights.fetch("efficientnet-lite0", offline=offline, cache=cache)
    model = EfficientNetLite0()
    model.load_state_dict(_our_names(load_file(folder / "efficientnet-lite0.safetensors")))
    model.fold()
    return model.to(torch.device(device), dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # the stubs lack memory_format


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one side, so that ceil(side / stride) windows fit; the odd one goes after.

    The kernel is no smaller than the stride. Of sides that are open when a graph is exported, the remainder is 0 where
    they are multiples of the stride, and sizes stay simple.
    """
    total = kernel - stride + -side % stride
    return total // 2, total - total // 2


def _our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's tensors by the names used here."""
    patterns = (
        (r"^_conv_stem\.", "stem.conv."),
        (r"^_bn0\.", "stem.norm."),
        (r"^_conv_head\.", "head.conv."),
        (r"^_bn1\.", "head.norm."),
        (r"^_fc\.", "classifier."),
        (r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv\.", r"blocks.\1.\2.conv."),
        (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
        (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
        (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
    )
    ours = {}
    for name, tensor in state.items():
        for pattern, replacement in patterns:
            new, count = re.subn(pattern, replacement, name)
            if count:
                ours[new] = tensor
                break
        else:
            ours[name] = tensor  # load_state_dict will refuse it by name
    return ours
