"""The detector: clips in, actors with their actions out.

pixels → `body` (features, cacheable) → `neck` (levels of one width) → `encoder` → one grid per frame → `decoder`.
`forward` does it all; `features` and `from_features` are its two halves, so that features of a frozen body are computed
once. The published model in words: every actor query refines a box, and for every actor each class has a query of its
own, hence its own attention map (arXiv 2407.19698).
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.backbones import build_backbone
from trifocal.action.decoder import Decoded, Decoder, Scene
from trifocal.action.encoder import DeformableEncoder, TokenGrid
from trifocal.action.output import AttentionRequest, DetectorOutput, LayerOutput
from trifocal.action.positions import grid_code
from trifocal.action.resample import level_taps, read_cells, resample
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.atlas import LevelShape
    from trifocal.action.config import DetectorConfig

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "Detector", "level_padding", "pad_clips"]

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
"""What the files of a saved detector are called."""


def pad_clips(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """A batch of clips of different sizes.

    Args:
        clips: each (3, T, H, W), of one dtype and T.

    Returns:
        (B, 3, T, H, W) with zeros at the right and the bottom, and bool (B, H, W), True there; `None` where all clips
        have one size.

    Raises:
        InvalidInput: no clip, or shapes that do not fit.
    """
    if not clips or any(clip.ndim != 4 or clip.shape[:2] != clips[0].shape[:2] for clip in clips):
        raise InvalidInput(
            f"clips have shapes {[tuple(clip.shape) for clip in clips]}",
            remedy="Give at least one, each (3, T, H, W) with the same T.",
        )
    height, width = (max(clip.shape[axis] for clip in clips) for axis in (2, 3))
    batch = torch.stack([F.pad(clip, (0, width - clip.shape[3], 0, height - clip.shape[2])) for clip in clips])
    if all(clip.shape == clips[0].shape for clip in clips):
        return batch, None
    padding = torch.ones(len(clips), height, width, dtype=torch.bool, device=batch.device)
    for clip, mask in zip(clips, padding, strict=True):
        mask[: clip.shape[2], : clip.shape[3]] = False
    return batch, padding


class Detector(nn.Module):
    """A class-query action detector.

    Args:
        config: what it is made of.
    """

    def __init__(self, config: DetectorConfig) -> None:
        """Weights are random, the image network's apart: that one is frozen, and its published weights are fetched."""
        super().__init__()
        self.config = config
        self.body, self.neck = build_backbone(config)
        self.level_code = nn.Parameter(torch.randn(config.levels, config.width))
        self.encoder = DeformableEncoder(
            config.width,
            config.feedforward,
            layers=config.encoder_layers,
            levels=config.levels,
            heads=config.heads,
            points=config.points,
            dropout=config.dropout,
            correct_offsets=config.offset_normalizer == "correct",
        )
        self.decoder = Decoder(config)

    def forward(
        self,
        clips: Tensor | Sequence[Tensor],
        padding: Tensor | None = None,
        *,
        aux: bool | None = None,
        attention: AttentionRequest | None = None,
        keep_above: float | None = None,
    ) -> DetectorOutput:
        """Detect the actors of clips.

        Args:
            clips: (B, 3, T, H, W), normalised as the body wants it (`preprocess`), or a sequence of (3, T, H, W) of
                different heights and widths.
            padding: bool (B, H, W), True outside a clip; only with a batch.
            aux: also what earlier decoder layers say; `None` does so in training.
            attention: which attention maps to give.
            keep_above: leave actors with a lower person score out of classification; not in training.

        Raises:
            InvalidInput: clips of another number of frames, or shapes that do not fit.
        """
        if not isinstance(clips, Tensor):
            clips, padding = pad_clips(clips)
        if clips.ndim != 5 or clips.shape[1] != 3 or clips.shape[2] != self.config.frames:
            raise InvalidInput(
                f"clips are {tuple(clips.shape)}", remedy=f"Give (B, 3, {self.config.frames}, H, W), or a list."
            )
        return self.from_features(self.features(clips), padding, aux=aux, attention=attention, keep_above=keep_above)

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for those parts of the body of which nothing trains.

        A frozen part is what it was: its running statistics stand still, and none of its layers is left out by chance.
        """
        super().train(mode)
        for part in self.body.modules() if mode else ():
            trains = [one.requires_grad for one in part.parameters()]
            if not any(trains) and (trains or part is self.body):
                part.eval()
        return self

    def features(self, clips: Tensor) -> tuple[Tensor, ...]:
        """What the body sees: maps (B, T', H', W', C), one or more. Depends on `body` alone.

        Args:
            clips: (B, 3, T, H, W).
        """
        return cast("tuple[Tensor, ...]", self.body(clips))

    def from_features(
        self,
        features: Sequence[Tensor],
        padding: Tensor | None = None,
        *,
        aux: bool | None = None,
        attention: AttentionRequest | None = None,
        keep_above: float | None = None,
    ) -> DetectorOutput:
        """Detect from what `features` gave; other arguments as for `forward`."""
        if keep_above is not None and self.training:
            raise InvalidInput(
                "keep_above is given in training", remedy="Put the model into evaluation mode first, or leave it out."
            )
        levels = self.neck(features)  # (B, T', H', W', D) each
        scene = self._scene(levels, padding)
        aux = self.training if aux is None else aux
        count = self.config.decoder_layers
        decoded = self.decoder(scene, layers=range(count) if aux else (), attention=attention, keep_above=keep_above)
        return self._output(decoded, attention)

    def _scene(self, levels: list[Tensor], padding: Tensor | None) -> Scene:
        """Encode the levels (the list is emptied, so that their memory is free) and bring them to one grid."""
        shapes: list[LevelShape] = [cast("LevelShape", tuple(level.shape[1:4])) for level in levels]
        batch, target, config = len(levels[0]), len(levels) - 2, self.config
        device = levels[0].device
        masks = [level_padding(padding, shape, batch=batch, device=device) for shape in shapes]
        codes = [
            (grid_code(mask if padding is not None else mask[:1], frames=shape[0], width=config.width) + offset)
            for mask, shape, offset in zip(masks, shapes, self.level_code, strict=True)
        ]
        position = codes[target]  # (B or 1, T', H, W, D)
        code = torch.cat([part.flatten(1, 3) for part in codes], 1)
        del codes
        tokens = torch.cat([level.flatten(1, 3) for level in levels], 1)
        levels.clear()
        grid = TokenGrid(shapes)
        if padding is not None:
            flat = [
                mask[:, None].expand(-1, shape[0], -1, -1).flatten(1) for mask, shape in zip(masks, shapes, strict=True)
            ]
            valid = torch.stack([_valid_share(mask) for mask in masks], 1)
            grid = TokenGrid(shapes, torch.cat(flat, 1), valid)
        frame = config.frames // 2 if config.mode == "keyframe" else None
        goal = (config.frames, *shapes[target][1:])
        taps = [level_taps(shape, goal, mode=config.resample, device=device, frame=frame) for shape in shapes]
        starts = [sum(t * h * w for t, h, w in shapes[:level]) for level in range(len(shapes))]
        read = None
        if not torch.compiler.is_exporting():  # which cells are read depends on the size, which an export leaves open
            parts = [read_cells(tap, shape) + start for tap, shape, start in zip(taps, shapes, starts, strict=True)]
            read = torch.cat(parts)
        tokens = self.encoder(tokens, code, grid, read=read)
        sampled = [
            resample(tokens[:, start : start + t * h * w].unflatten(1, (t, h, w)), tap).flatten(0, 1).flatten(1, 2)
            for (t, h, w), tap, start in zip(shapes, taps, starts, strict=True)
        ]  # (B * T, K, D) each, T = 1 for the key frame
        memory = torch.stack(sampled, 1)
        position = self._time(position, frame).expand(batch, -1, -1, -1, -1).flatten(0, 1).flatten(1, 2)
        mask = None
        if padding is not None:
            mask = masks[target].flatten(1).repeat_interleave(len(memory) // batch, 0)
        return Scene(memory, position, mask, goal[1:])

    def _time(self, position: Tensor, frame: int | None) -> Tensor:
        """Codes (B, T', H, W, D) for the decoder's frames, or for the key frame alone: (B, T or 1, H, W, D)."""
        reduced, frames = position.shape[1], self.config.frames
        places = torch.arange(frames, device=position.device)
        index = places % reduced if self.config.time_code == "tiled" else places * reduced // frames
        if frame is not None:
            index = index[frame : frame + 1]
        return position.index_select(1, index)

    def _output(self, decoded: Decoded, attention: AttentionRequest | None) -> DetectorOutput:
        def by_clip(x: Tensor) -> Tensor:
            return x.unflatten(0, (-1, self.config.frames)) if self.config.mode == "tube" else x

        layers = [
            LayerOutput(
                by_clip(decoded.class_logits[layer]),
                by_clip(decoded.boxes[layer]),
                by_clip(decoded.person_logits[layer]),
            )
            for layer in sorted(decoded.boxes)
        ]
        maps: tuple[Tensor, ...] = ()
        if attention is not None:
            maps = tuple(by_clip(decoded.attention[layer]) for layer in attention.numbers(self.config.decoder_layers))
        last = layers[-1]
        return DetectorOutput(last.class_logits, last.boxes_cxcywh, last.person_logits, tuple(layers[:-1]), maps)


def level_padding(padding: Tensor | None, shape: LevelShape, *, batch: int, device: torch.device) -> Tensor:
    """Bool (B, H', W') of a level: the nearest pixel's."""
    if padding is None:
        return torch.zeros(batch, *shape[1:], dtype=torch.bool, device=device)
    return F.interpolate(padding[:, None].float(), size=shape[1:])[:, 0].bool()


def _valid_share(padding: Tensor) -> Tensor:
    """(B, H, W) → (B, 3): valid share of the width, the height and the time."""
    valid = (~padding).float()
    width, height = valid[:, 0].mean(1), valid[:, :, 0].mean(1)
    return torch.stack((width, height, torch.ones_like(width)), -1)
