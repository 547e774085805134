"""What a detector is made of: one frozen dataclass, with the published configurations and the small one as presets.

`DetectorConfig` holds the sizes of the model and its switches. Every switch's default is the published behaviour, so
that published weights give the published outputs; what improves on it is asked for by name. `VitConfig`, `CsnConfig`
and `ImageConfig` say which network looks at the pixels. Saved as sorted JSON beside the weights, with the version.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_origin, get_type_hints

from trifocal._version import __version__
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "BackboneConfig", "CsnConfig", "DetectorConfig", "ImageConfig", "VitConfig", "preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VitConfig:
    """VideoMAE's vision transformer with a spatial pyramid on top (four levels, strides 4 to 32, half the frames).

    Args:
        width: channels of a token.
        depth: blocks.
        heads: attention heads.
        grid: side of the square of tokens that the position table was made for.
        drop_path: the last block's chance of being skipped in training; earlier ones rise to it linearly.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    grid: int = 14
    drop_path: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CsnConfig:
    """The interaction-reduced channel-separated network ir-CSN (arXiv 1904.02811): four levels, strides 8 to 32.

    Args:
        blocks: bottleneck blocks of the four stages; (3, 4, 6, 3) is ir-CSN-50, (3, 8, 36, 3) ir-CSN-152.
        last_stride: whether the last stage halves height and width too.
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    last_stride: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """A frozen EfficientNet-Lite0 that sees frame by frame; small convolutions over time, which train, join the frames.

    Args:
        strides: pixels a cell of each level stands for, out of 4, 8, 16 and 32; at least two, rising.
        temporal_layers: convolutions over time per level.
        temporal_stride: frames that are joined into one before them.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    temporal_layers: int = 2
    temporal_stride: int = 2


BackboneConfig = VitConfig | CsnConfig | ImageConfig
_KINDS: Mapping[str, type[VitConfig | CsnConfig | ImageConfig]] = {
    "vit": VitConfig,
    "csn": CsnConfig,
    "image": ImageConfig,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """Sizes and switches of a class-query action detector (arXiv 2407.19698; defaults: AVA 2.2, ViT-B).

    Args:
        backbone: which network looks at the pixels.
        mode: "keyframe" finds the actors of the middle frame; "tube" those of every frame.
        frames: frames of a clip, T.
        frame_stride: frames of the video from one frame of the clip to the next.
        short_side: pixels that frames are resized to before.
        classes: action classes, A.
        actors: actor queries, Q.
        width: channels of the model, D.
        feedforward: hidden width of the feed-forward parts.
        heads: attention heads, M; even, and a divisor of `width`.
        encoder_layers: deformable layers.
        decoder_layers: pairs of a localizing and a classifying layer.
        points: sampling points per head and level.
        dropout: in encoder and decoder, while training.
        class_dropout: before the class logits, while training.
        offset_normalizer: "reference" divides offsets in (x, y, t) by (T, W, H) as the published code does; "correct"
            by (W, H, T), so that an offset of 1 is one cell.
        resample: "reference" maps the levels to one grid as published, which halves the weight of border cells;
            "aligned" keeps cells where they are.
        time_code: "tiled" repeats the backbone's time codes along the clip; "interpolated" stretches them.
        class_heads: "split" gives half of the heads to content and half to position; "joint" gives every head both.
        mask_class_attention: keep class queries from looking at padding.
        shared_conv_block: one block applied three times in each classifying layer, or three blocks.
        carry_classes: add to what class queries saw what tells each from their mean. As published nothing is added, so
            that class queries that look alike are alike in the next layer.
        class_queries: "each" has one query per class; "shared" one query for all, whose output a linear layer reads
            (one attention map for all classes: what the paper compares with).
        class_readout: "mean" over the channels as published, or "dot" with a learned vector per class.
        class_prior: chance of a class that the untrained model gives, through a bias per class; `None` for no bias.

    Raises:
        InvalidInput: a value that cannot be.
    """

    backbone: BackboneConfig = field(default_factory=VitConfig)
    mode: Literal["keyframe", "tube"] = "keyframe"
    frames: int = 16
    frame_stride: int = 4
    short_side: int = 256
    classes: int = 80
    actors: int = 15
    width: int = 256
    feedforward: int = 2048
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    points: int = 8
    dropout: float = 0.1
    class_dropout: float = 0.5
    offset_normalizer: Literal["reference", "correct"] = "reference"
    resample: Literal["reference", "aligned"] = "reference"
    time_code: Literal["tiled", "interpolated"] = "tiled"
    class_heads: Literal["split", "joint"] = "split"
    mask_class_attention: bool = False
    shared_conv_block: bool = True
    carry_classes: bool = False
    class_queries: Literal["each", "shared"] = "each"
    class_readout: Literal["mean", "dot"] = "mean"
    class_prior: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges and what must divide what."""
        for name in ("frames", "frame_stride", "short_side", "classes", "actors", "feedforward", "heads", "points"):
            _check_least(name, getattr(self, name), 1)
        _check_least("encoder_layers", self.encoder_layers, 0)
        _check_least("decoder_layers", self.decoder_layers, 1)
        if self.width < 16 or self.width % 16 or self.heads % 2 or self.width % self.heads:
            raise InvalidInput(
                f"width is {self.width} with {self.heads} heads",
                remedy="Give a width that 16 and the heads divide, and an even number of heads.",
            )
        for name in ("dropout", "class_dropout"):
            if not 0.0 <= (share := getattr(self, name)) < 1.0:
                raise InvalidInput(f"{name} is {share}", remedy="Give a share of at least 0 and below 1.")
        if self.class_prior is not None and not 0.0 < self.class_prior < 1.0:
            raise InvalidInput(f"class_prior is {self.class_prior}", remedy="Give a chance between 0 and 1, or None.")
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and (value := getattr(self, name)) not in get_args(hint):
                raise InvalidInput(f"{name} is {value!r}", remedy=f"Give one of {', '.join(get_args(hint))}.")
        if self.frames % self.frame_reduction:
            raise InvalidInput(
                f"frames is {self.frames}", remedy=f"This backbone needs a multiple of {self.frame_reduction}."
            )
        if isinstance(self.backbone, ImageConfig):
            strides = self.backbone.strides
            if len(strides) < 2 or list(strides) != sorted(set(strides) & {4, 8, 16, 32}):
                raise InvalidInput(f"strides is {strides}", remedy="Give at least two of 4, 8, 16 and 32, rising.")

    @property
    def levels(self) -> int:
        """Feature levels, L."""
        return len(self.backbone.strides) if isinstance(self.backbone, ImageConfig) else 4

    @property
    def frame_reduction(self) -> int:
        """Frames of the clip per frame of the coarsest level."""
        if isinstance(self.backbone, ImageConfig):
            return self.backbone.temporal_stride
        return 2 if isinstance(self.backbone, VitConfig) else 8

    def to_json(self) -> str:
        """Sorted JSON with the version that wrote it."""
        kind = next(name for name, known in _KINDS.items() if isinstance(self.backbone, known))
        values = {**asdict(self), "backbone": {"kind": kind, **asdict(self.backbone)}, "version": __version__}
        return json.dumps(values, sort_keys=True, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; a key that this version does not know is left out with a warning.

        Raises:
            InvalidInput: not such JSON, or a value that cannot be.
        """
        try:
            values = json.loads(text)
            backbone = dict(values.pop("backbone"))
            kind = _KINDS[backbone.pop("kind")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"not the configuration of a detector ({type(error).__name__}: {error})",
                remedy="Give what DetectorConfig.to_json() wrote.",
            ) from error
        version = values.pop("version", "unknown")
        lists = {name: tuple(value) if isinstance(value, list) else value for name, value in backbone.items()}
        return cls(backbone=kind(**_known(kind, lists, version)), **_known(cls, values, version))


def _known(
    cls: type[DetectorConfig | VitConfig | CsnConfig | ImageConfig], values: Mapping[str, object], version: str
) -> dict[str, Any]:
    known = {entry.name for entry in fields(cls)}
    if unknown := sorted(values.keys() - known):
        warnings.warn(
            f"{cls.__name__} does not know {', '.join(unknown)}, which version {version} wrote; left out",
            stacklevel=3,
        )
    return {name: value for name, value in values.items() if name in known}


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InvalidInput(f"{name} is {value}", remedy=f"Give a whole number of at least {least}.")


_TUBES = {"mode": "tube", "frame_stride": 1, "encoder_layers": 3, "decoder_layers": 3}

PRESETS: Mapping[str, DetectorConfig] = MappingProxyType(
    {
        "ava22-vit-b": DetectorConfig(),
        "ava22-vit-b-v2": DetectorConfig(),
        "ava22-csn50": DetectorConfig(backbone=CsnConfig(), frames=32, frame_stride=2),
        "ava22-csn152": DetectorConfig(backbone=CsnConfig(blocks=(3, 8, 36, 3)), frames=32, frame_stride=2),
        "ucf101-24-vit-b": DetectorConfig(**_TUBES, frames=32, short_side=224, classes=24),  # type: ignore[arg-type]
        "jhmdb-vit-b": DetectorConfig(**_TUBES, frames=40, classes=21, actors=5),  # type: ignore[arg-type]
        "small": DetectorConfig(
            backbone=ImageConfig(),
            frames=8,
            frame_stride=4,
            short_side=128,
            classes=10,
            actors=8,
            width=96,
            feedforward=256,
            encoder_layers=1,
            decoder_layers=3,
            points=4,
            class_dropout=0.1,
            offset_normalizer="correct",
            resample="aligned",
            time_code="interpolated",
            class_heads="joint",
            mask_class_attention=True,
            class_readout="dot",
            class_prior=0.05,
        ),
    }
)
"""The six published configurations (paper's code, table of its yaml files) and the small one for a CPU."""


def preset(name: str) -> DetectorConfig:
    """The preset of that name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in PRESETS:
        raise InvalidInput(f"no preset is called {name!r}", remedy=f"Give one of {', '.join(PRESETS)}.")
    return PRESETS[name]
