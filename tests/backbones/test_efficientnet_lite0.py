"""The network's shape, its exactness under folding and batching, and what it says of real frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from trifocal import weights
from trifocal.backbones import EfficientNetLite0, load_class_names, load_efficientnet_lite0
from trifocal.backbones.efficientnet_lite0 import ConvNorm, _our_names
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_network(seed: int = 0) -> EfficientNetLite0:
    """Random weights, and batch norms that do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EfficientNetLite0()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return model


def noise(count: int, height: int = 64, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    model = random_network()
    model.fold()
    return model


def test_size_is_the_published_one() -> None:
    model = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_652_008
    kernels = [block.depthwise.conv.kernel_size[0] for block in _blocks(model)]
    assert kernels == [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def _blocks(model: EfficientNetLite0) -> list[Any]:
    return list(model.blocks)


@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride"), [(8, 8, 3, 2), (7, 9, 3, 2), (8, 11, 5, 2), (5, 6, 5, 1), (1, 1, 5, 2)]
)
def test_same_padding_is_tensorflows(height: int, width: int, kernel: int, stride: int) -> None:
    """Against the rule written out: output i starts at i·stride - before, with before = total // 2, zeros outside."""
    unit = ConvNorm(1, 1, kernel=kernel, stride=stride, linear=True).eval()
    torch.nn.init.normal_(unit.conv.weight, generator=torch.Generator().manual_seed(1))
    unit.norm = torch.nn.Identity()
    image = torch.randn(height, width, generator=torch.Generator().manual_seed(2))
    rows, columns = -(-height // stride), -(-width // stride)
    before_y = max((rows - 1) * stride + kernel - height, 0) // 2
    before_x = max((columns - 1) * stride + kernel - width, 0) // 2
    expected = torch.zeros(rows, columns)
    for i in range(rows):
        for j in range(columns):
            for a in range(kernel):
                for b in range(kernel):
                    y, x = i * stride - before_y + a, j * stride - before_x + b
                    if 0 <= y < height and 0 <= x < width:
                        expected[i, j] += unit.conv.weight[0, 0, a, b] * image[y, x]
    with torch.no_grad():
        found = unit(image[None, None])[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_folding_keeps_the_function() -> None:
    model = random_network().double()
    images = model.preprocess(noise(2)).double()[..., :70, :90]
    before = model.features(images)
    model.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model.features(images), before, atol=1e-11, rtol=1e-11)
    model.fold()  # a second time changes nothing
    torch.testing.assert_close(model.features(images), before, atol=1e-11, rtol=1e-11)


def test_shapes_types_and_range(network: EfficientNetLite0) -> None:
    images = network.preprocess(noise(3))
    assert (images.shape, images.dtype) == ((3, 3, 224, 224), torch.float32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    feature_map = network.features(images)
    assert (feature_map.shape, feature_map.dtype) == ((3, 1280, 7, 7), torch.float32)
    assert 0 <= feature_map.min() < feature_map.max() <= 6
    assert network.classify_pooled(feature_map).shape == (3, 1000)
    assert network.classify_cells(feature_map).shape == (3, 1000, 7, 7)
    assert network.features(images[..., :100, :65]).shape == (3, 1280, 4, 3)
    assert not feature_map.requires_grad
    assert torch.equal(network(images), network.classify_pooled(feature_map))


def test_no_frames(network: EfficientNetLite0) -> None:
    images = network.preprocess(noise(0))
    feature_map = network.features(images)
    assert (images.shape, feature_map.shape) == ((0, 3, 224, 224), (0, 1280, 7, 7))
    assert network.classify_pooled(feature_map).shape == (0, 1000)
    assert network.classify_cells(feature_map).shape == (0, 1000, 7, 7)


def test_a_frame_does_not_see_its_batch(network: EfficientNetLite0) -> None:
    images = network.preprocess(noise(3))
    together = network.features(images)
    assert all(torch.equal(network.features(images[i : i + 1])[0], together[i]) for i in range(3))
    assert torch.equal(network.features(images), together)


def test_cells_average_to_the_whole(network: EfficientNetLite0) -> None:
    feature_map = network.features(network.preprocess(noise(2)))
    whole = network.classify_pooled(feature_map)
    torch.testing.assert_close(network.classify_cells(feature_map).mean(dim=(2, 3)), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (1, 1), (1, 500), (333, 7), (225, 223)])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_any_size_of_frame(height: int, width: int, fit: Any, network: EfficientNetLite0) -> None:
    images = network.preprocess(np.full((2, height, width, 3), (10, 127, 255), dtype=np.uint8), fit=fit)
    expected = (torch.tensor([10.0, 127.0, 255.0]) - 127) / 128
    assert torch.equal(images, expected.view(1, 3, 1, 1).expand(2, 3, 224, 224))


def test_resizing_is_pillows_and_keeps_224(network: EfficientNetLite0) -> None:
    frames = noise(1, 224, 224)
    assert torch.equal(network.preprocess(frames), (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - 127) / 128)
    for height, width in ((300, 400), (100, 350), (50, 60)):
        frame = noise(1, height, width)[0]
        resized = np.asarray(Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
        found = network.preprocess(frame[None])[0].permute(1, 2, 0) * 128 + 127
        assert np.abs(found.numpy() - resized).max() <= 2


def test_crop_is_the_centred_square(network: EfficientNetLite0) -> None:
    frames = noise(1, 60, 100)
    assert torch.equal(network.preprocess(frames, fit="crop"), network.preprocess(frames[:, :, 20:80].copy()))
    assert not torch.equal(network.preprocess(frames, fit="crop"), network.preprocess(frames))


def test_frames_are_not_changed(network: EfficientNetLite0) -> None:
    for frames in (noise(1, 224, 224), noise(1, 50, 50)):
        before = frames.copy()
        network.preprocess(frames)
        assert np.array_equal(frames, before)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 0, 8, 3), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
    ],
)
def test_refuses_other_frames(frames: Any, network: EfficientNetLite0) -> None:
    with pytest.raises(InvalidInput, match=r"\(T, H, W, 3\)"):
        network.preprocess(frames)


def test_refuses_other_arguments(network: EfficientNetLite0) -> None:
    with pytest.raises(InvalidInput, match="squash"):
        network.preprocess(noise(1), fit="stretch")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="images is"):
        network.features(torch.zeros(2, 224, 224, 3))


def real_frames(name: str, count: int = 6) -> NDArray[np.uint8]:
    with av.open(str(weights.fetch("sample-clips") / name)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]).astype(np.uint8)


@pytest.fixture(scope="module")
def trained() -> EfficientNetLite0:
    return load_efficientnet_lite0()


def mean_probabilities(model: EfficientNetLite0, frames: NDArray[np.uint8], **options: Any) -> torch.Tensor:
    return model.forward(model.preprocess(frames, **options)).softmax(dim=-1).mean(dim=0)


@pytest.mark.weights
def test_folding_keeps_the_function_of_the_published_weights(trained: EfficientNetLite0) -> None:
    unfolded = EfficientNetLite0()
    file = weights.fetch("efficientnet-lite0") / "efficientnet-lite0.safetensors"
    unfolded.load_state_dict(_our_names(load_file(file)))
    images = trained.preprocess(real_frames("carphone_pristine.mp4"))
    torch.testing.assert_close(trained(images), unfolded(images), atol=1e-3, rtol=1e-3)


@pytest.mark.weights
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_real_frames_are_recognised(fit: str, trained: EfficientNetLite0) -> None:
    names = [one.name for one in load_class_names()]
    probabilities = mean_probabilities(trained, real_frames("carphone_pristine.mp4"), fit=fit)
    best = [names[i] for i in probabilities.topk(3).indices]
    assert best[0] == "bow tie"
    assert set(best) == {"bow tie", "suit", "Windsor tie"}
    probabilities = mean_probabilities(trained, real_frames("bikes.mp4", 10), fit=fit)
    assert "mountain bike" in [names[i] for i in probabilities.topk(5).indices]


@pytest.mark.weights
def test_this_preprocessing_is_the_surest(trained: EfficientNetLite0) -> None:
    """The evidence for (x - 127) / 128 against the usual ImageNet mean and deviation."""
    frames = np.concatenate([trained.preprocess(real_frames(f"{name}.mp4")) for name in ("carphone_pristine", "bikes")])
    ours = torch.from_numpy(frames)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    usual = ((ours * 128 + 127) / 255 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    sure = [trained(images).softmax(dim=-1).amax(dim=-1).mean() for images in (ours, usual)]
    assert sure[0] > 1.2 * sure[1]


@pytest.mark.weights
def test_bfloat16_agrees(trained: EfficientNetLite0) -> None:
    half = load_efficientnet_lite0(dtype=torch.bfloat16)
    frames = real_frames("carphone_pristine.mp4")
    images = half.preprocess(frames)
    assert images.dtype == torch.float32
    assert half.features(images).dtype == torch.bfloat16
    assert half(images).dtype == torch.float32
    difference = (half(images).softmax(dim=-1) - trained(images).softmax(dim=-1)).abs()
    assert difference.max() < 0.15
    assert torch.equal(half(images).argmax(dim=-1), trained(images).argmax(dim=-1))
