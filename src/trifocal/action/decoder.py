"""The decoder: pairs of a localizing and a classifying layer, and the heads that read them.

Boxes and persons depend on the localizing layers alone, so those all run first; while gradients are off, the
classifying layers then run only for actors that are somebody (`keep_above`), without changing what the others get.
Frames do not see one another here; in tube mode they go through in chunks that bound the memory.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from trifocal.action.classify import ClassifyLayer
from trifocal.action.layers import MultiLayer
from trifocal.action.localize import Localized, LocalizeLayer
from trifocal.action.output import PERSON, AttentionRequest
from trifocal.action.positions import box_code, inverse_sigmoid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.config import DetectorConfig

__all__ = ["Decoded", "Decoder", "Scene"]


@dataclass(frozen=True, slots=True)
class Scene:
    """What the decoder looks at.

    Args:
        memory: (N, L, K, D), the levels on one grid of K cells, per frame.
        position: (N, K, D), code of the cells.
        padding: bool (N, K), or `None`.
        grid: height and width.
    """

    memory: Tensor
    position: Tensor
    padding: Tensor | None
    grid: tuple[int, int]

    def __getitem__(self, frames: slice) -> Scene:
        """Some of the frames."""
        padding = None if self.padding is None else self.padding[frames]
        return Scene(self.memory[frames], self.position[frames], padding, self.grid)


class Decoded(NamedTuple):
    """Per wanted layer: class logits (N, Q, A), boxes (N, Q, 4), person logits (N, Q, 3); and attention maps."""

    class_logits: dict[int, Tensor]
    boxes: dict[int, Tensor]
    person_logits: dict[int, Tensor]
    attention: dict[int, Tensor]


class _Step(NamedTuple):
    found: Localized
    query_box: Tensor
    reference: Tensor


class Decoder(nn.Module):
    """All layers and heads; sizes from the configuration.

    Attributes:
        chunk_bytes: about what the maps of a chunk of frames may take while gradients are off. (Larger ones are slower
            on a CPU: above 32 MB the C library fetches each tensor anew from the system.)
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.feedforward
        self.config = config
        self.localize = nn.ModuleList(
            LocalizeLayer(
                width,
                hidden,
                levels=config.levels,
                heads=config.heads,
                dropout=config.dropout,
                first=number == 0,
            )
            for number in range(config.decoder_layers)
        )
        self.classify = nn.ModuleList(
            ClassifyLayer(
                width,
                hidden,
                heads=config.heads,
                dropout=config.dropout,
                split_heads=config.class_heads == "split",
                shared_block=config.shared_conv_block,
                carry_classes=config.carry_classes,
            )
            for _ in range(config.decoder_layers)
        )
        self.box_position = MultiLayer(2 * width, width, width)
        self.box_scale = MultiLayer(width, width, width)
        self.box_size = MultiLayer(width, width, 2)
        self.box_head = MultiLayer(width, width, width, 4)
        self.target_norm = nn.LayerNorm(width)
        self.person_head = nn.Linear(width, 3)
        self.class_norm = nn.LayerNorm(width)
        self.class_dropout = nn.Dropout(config.class_dropout)
        anchors = (config.actors, config.frames, 4) if config.mode == "tube" else (config.actors, 4)
        self.anchors = nn.Parameter(torch.randn(anchors))
        shared = config.class_queries == "shared"
        self.class_queries = nn.Parameter(torch.randn(1 if shared else config.classes, width))
        self.class_weights: nn.Parameter | None = None
        self.class_bias: nn.Parameter | None = None
        if shared or config.class_readout == "dot":
            self.class_weights = nn.Parameter(torch.randn(config.classes, width) / math.sqrt(width))
        if config.class_prior is not None:
            prior = math.log(config.class_prior / (1 - config.class_prior))
            self.class_bias = nn.Parameter(torch.full((config.classes,), prior))
        self.chunk_bytes = 32 * 2**20
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Matrices as Glorot and Bengio have them; boxes start at their anchors."""
        for parameter in self.parameters():
            if parameter.ndim > 1 and parameter not in {self.anchors, self.class_queries, self.class_weights}:
                nn.init.xavier_uniform_(parameter)
        last = cast("nn.Linear", self.box_head.layers[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, scene: Scene, *, layers: Sequence[int], attention: AttentionRequest | None, keep_above: float | None
    ) -> Decoded:
        """Decode.

        Args:
            scene: N frames; in tube mode whole clips of T frames one after another.
            layers: which layers' outputs are wanted; the last always is.
            attention: which maps are wanted.
            keep_above: leave actors out of classification whose person score in the last layer is lower.
        """
        count = len(scene.memory)
        # (Q, 4) of the key frame, or (Q, T, 4) that every clip's frames start from
        anchors = self.anchors[:, None] if self.anchors.ndim == 2 else self.anchors
        anchors = anchors.transpose(0, 1).repeat(count // anchors.shape[1], 1, 1)  # (N, Q, 4)
        wanted = sorted({*layers, len(self.localize) - 1})
        chunk = count if torch.is_grad_enabled() or torch.compiler.is_exporting() else self._chunk(scene)
        if chunk >= count:
            return self._decode(scene, anchors, wanted, attention, keep_above)
        parts = [
            self._decode(scene[part], anchors[part], wanted, attention, keep_above)
            for part in (slice(start, start + chunk) for start in range(0, count, chunk))
        ]
        joined = [
            {layer: torch.cat([getattr(part, name)[layer] for part in parts]) for layer in getattr(parts[0], name)}
            for name in Decoded._fields
        ]
        return Decoded(*joined)

    def _chunk(self, scene: Scene) -> int:
        _, _, cells, width = scene.memory.shape
        return max(1, self.chunk_bytes // (self.config.actors * cells * width * 4 * 7))

    def _decode(
        self,
        scene: Scene,
        anchors: Tensor,
        wanted: list[int],
        attention: AttentionRequest | None,
        keep_above: float | None,
    ) -> Decoded:
        steps = self._localize(scene, anchors)
        boxes, persons = {}, {}
        for layer in wanted:
            target = self.target_norm(steps[layer].found.target)
            boxes[layer] = (self.box_head(target) + inverse_sigmoid(steps[layer].reference)).sigmoid()
            persons[layer] = self.person_head(target)
        keep = None
        if keep_above is not None:
            keep = persons[wanted[-1]].softmax(-1)[..., PERSON].flatten() >= keep_above
        classes, maps = self._classify(scene, steps, wanted, attention, keep)
        return Decoded(classes, boxes, persons, maps)

    def _localize(self, scene: Scene, anchors: Tensor) -> list[_Step]:
        width = self.config.width
        reference = anchors.sigmoid()
        target = anchors.new_zeros(*anchors.shape[:2], width)
        steps = []
        for number, layer in enumerate(self.localize):
            # Boxes are refined step by step: a layer's gradients reach the anchors only through the first layer's.
            boxes = reference if number == 0 else reference.detach()
            code = box_code(boxes, width)
            # The code's first half speaks of y and x, and is what the decoder's attention looks for.
            query_box = code[..., :width]
            if number > 0:
                query_box = query_box * self.box_scale(target)
            size = self.box_size(target).sigmoid() / boxes[..., 2:]  # (N, Q, 2): of width and height
            query_box = torch.cat(
                (query_box[..., : width // 2] * size[..., 1:], query_box[..., width // 2 :] * size[..., :1]), -1
            )
            found: Localized = layer(
                target,
                query_position=self.box_position(code),
                query_box=query_box,
                memory=scene.memory,
                position=scene.position,
                padding=scene.padding,
            )
            steps.append(_Step(found, query_box, reference))
            target = found.target
            reference = (self.box_head(target) + inverse_sigmoid(boxes)).sigmoid()
        return steps

    def _classify(
        self,
        scene: Scene,
        steps: list[_Step],
        wanted: list[int],
        request: AttentionRequest | None,
        keep: Tensor | None,
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Class logits (N, Q, A) and maps of the wanted layers; `keep` is bool (N * Q,)."""
        shape = steps[0].found.actor.shape[:2]  # N, Q
        chosen = None if keep is None else keep.nonzero()[:, 0]

        def pairs(x: Tensor) -> Tensor:
            flat = x.flatten(0, 1)
            return flat if chosen is None else flat[chosen]

        def whole(x: Tensor, fill: float) -> Tensor:
            if chosen is not None:
                x = x.new_full((shape[0] * shape[1], *x.shape[1:]), fill).index_copy(0, chosen, x)
            return x.unflatten(0, shape)

        padding = None
        if self.config.mask_class_attention and scene.padding is not None:
            padding = pairs(scene.padding[:, None].expand(*shape, -1))
        mapped = () if request is None else request.numbers(len(steps))
        queries = self.class_queries[None]
        logits, maps = {}, {}
        for number, (step, module) in enumerate(zip(steps, self.classify, strict=True)):
            layer = cast("ClassifyLayer", module)
            queries, weights = layer(
                queries,
                actor=pairs(step.found.actor).detach(),
                context=pairs(step.found.context),
                place=pairs(layer.places(step.query_box, scene.position)),
                grid=scene.grid,
                padding=padding,
            )
            if number in wanted:
                logits[number] = whole(self._read(queries), -torch.inf)
            if number in mapped and request is not None:
                maps[number] = whole(self._maps(weights, request, scene.grid), 0.0)
        return logits, maps

    def _read(self, classes: Tensor) -> Tensor:
        """(P, A or 1, D) → class logits (P, A)."""
        classes = self.class_dropout(self.class_norm(classes))
        if self.class_weights is None:
            logits = classes.mean(-1)
        elif classes.shape[1] == self.class_weights.shape[0]:
            logits = (classes * self.class_weights).sum(-1)
        else:
            logits = classes[:, 0] @ self.class_weights.T
        return logits if self.class_bias is None else logits + self.class_bias

    def _maps(self, weights: Tensor, request: AttentionRequest, grid: tuple[int, int]) -> Tensor:
        """(P, M, A or 1, K) → (P, [M,] A, H, W)."""
        if request.heads == "content" and self.config.class_heads == "split":
            weights = weights[:, : weights.shape[1] // 2]
        if request.heads != "each":
            weights = weights.mean(1)
        classes = self.config.classes
        return weights.expand(*weights.shape[:-2], classes, -1).unflatten(-1, grid)
