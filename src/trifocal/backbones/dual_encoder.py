"""CLIP, SigLIP and SigLIP 2: frames and sentences in one space, from any Hugging Face checkpoint of these families.

Frames go through the checkpoint's own preprocessing in its Pillow form (no torchvision), sentences through its
tokenizer.json, both vectors are scaled to length one. The families differ in three ways, which `FAMILIES` holds:
whether sentences are padded to a fixed length, whether padding is masked, and whether training lower-cased the text.

Papers: CLIP arXiv 2103.00020, SigLIP arXiv 2303.15343, SigLIP 2 arXiv 2502.14786.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from trifocal import weights
from trifocal.errors import InvalidInput, ModelError, WeightsCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["DualEncoder", "load_dual_encoder"]


@dataclass(frozen=True, slots=True)
class Family:
    """How a model type wants its sentences.

    Args:
        fixed_length: pad each sentence to the longest the model takes, as in training.
        mask_padding: tell the model which tokens are padding.
        lower_case: text was lower-cased in training.
    """

    fixed_length: bool
    mask_padding: bool
    lower_case: bool


FAMILIES = {
    "clip": Family(fixed_length=False, mask_padding=True, lower_case=False),
    "siglip": Family(fixed_length=True, mask_padding=False, lower_case=True),
    "siglip2": Family(fixed_length=True, mask_padding=False, lower_case=True),
}
_COMMIT = re.compile(r"[0-9a-f]{40}")


class DualEncoder:
    """Frames and sentences to unit vectors of one space; made by `load_dual_encoder`.

    Attributes:
        id: names the space: repository and commit, or the hash of the model's files.
        dim: width of the vectors.
        frame_size: (height, width) the model looks at; larger frames are reduced to it.
    """

    def __init__(self, model: Any, processor: Any, tokenizer: Any, *, id: str) -> None:  # noqa: A002  # an encoder's id
        """Parts of one checkpoint, as Hugging Face loads them."""
        self._model = model
        self._processor = processor
        self._tokenizer = tokenizer
        self._family = FAMILIES[model.config.model_type]
        text = model.config.text_config
        self._max_tokens: int = text.max_position_embeddings
        self.id = id
        self.dim: int = getattr(model.config, "projection_dim", None) or text.projection_size
        self.frame_size = self._find_frame_size()

    @torch.inference_mode()
    def encode_frames(self, frames: NDArray[np.uint8], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Unit vectors of frames.

        Args:
            frames: uint8 (T, H, W, 3), RGB, of any size.
            batch_size: frames that are run together.

        Returns:
            float32 (T, D).

        Raises:
            InvalidInput: another shape or dtype, an empty frame, or `batch_size` below 1.
        """
        _check_batch_size(batch_size)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:3]:
            raise InvalidInput(f"frames is {frames.dtype} {frames.shape}", remedy="Give uint8 of shape (T, H, W, 3).")
        vectors = np.zeros((len(frames), self.dim), dtype=np.float32)
        for start in range(0, len(frames), batch_size):
            inputs = self._preprocess(frames[start : start + batch_size])
            vectors[start : start + batch_size] = _unit(self._model.get_image_features(**inputs))
        return vectors

    @torch.inference_mode()
    def encode_text(self, sentences: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Unit vectors of sentences; longer ones are cut at what the model takes.

        Args:
            sentences: any number.
            batch_size: sentences that are run together.

        Returns:
            float32 (N, D).

        Raises:
            InvalidInput: one string instead of several, something that is not a string, or `batch_size` below 1.
        """
        _check_batch_size(batch_size)
        if isinstance(sentences, str) or not all(isinstance(sentence, str) for sentence in sentences):
            raise InvalidInput(f"sentences is {sentences!r:.80}", remedy="Give a list of strings.")
        texts = [sentence.lower() for sentence in sentences] if self._family.lower_case else list(sentences)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), batch_size):
            tokens = self._tokenizer(
                texts[start : start + batch_size],
                padding="max_length" if self._family.fixed_length else True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            inputs = {"input_ids": tokens["input_ids"].to(self._model.device)}
            if self._family.mask_padding:
                inputs["attention_mask"] = tokens["attention_mask"].to(self._model.device)
            vectors[start : start + batch_size] = _unit(self._model.get_text_features(**inputs))
        return vectors

    def _preprocess(self, frames: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        # Told the layout, the processor need not guess it from sizes, which fails for frames 1 or 3 pixels high.
        inputs = self._processor(images=list(frames), return_tensors="pt", input_data_format="channels_last")
        return {
            name: value.to(self._model.device, self._model.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }

    def _find_frame_size(self) -> tuple[int, int]:
        pixels = self._preprocess(np.zeros((1, 64, 64, 3), dtype=np.uint8))["pixel_values"]
        if pixels.ndim == 4:  # (1, 3, H, W)
            return pixels.shape[-2], pixels.shape[-1]
        # SigLIP 2 keeps the aspect and limits the number of patches: a square frame of them all. (1, patches, values)
        side = math.isqrt(pixels.shape[1]) * self._model.config.vision_config.patch_size
        return side, side


def load_dual_encoder(
    reference: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
    cache: Path | str | None = None,
) -> DualEncoder:
    """A CLIP, SigLIP or SigLIP 2 checkpoint, frozen.

    Args:
        reference: a folder, or a Hugging Face repository as `org/name` or `hf:org/name@revision`.
        device: where it runs.
        dtype: of the network; vectors are float32 either way.
        offline: use local files only.
        cache: keep repositories under this folder instead of the Hub client's own cache.

    Raises:
        ModelError: another kind of model, or files it needs are missing.
        WeightsUnavailable: neither local nor to be had.
        WeightsCorrupt: the weights do not fill the model.
    """
    folder = weights.fetch(reference, offline=offline, cache=cache)
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type not in FAMILIES:
        raise ModelError(
            f"{reference} is a model of type {model_type!r}",
            remedy=f"Give a dual encoder of one of these types: {', '.join(sorted(FAMILIES))}.",
        )
    if not (folder / "preprocessor_config.json").is_file():
        raise ModelError(
            f"{reference} has no preprocessor_config.json", remedy="Save the model's image processor beside it."
        )
    # Transformers takes seconds to import; only the first encoder pays it.
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

    # A tokenizer.json says all there is to say; classes that some configs name want packages Trifocal lives without.
    tokenizer_class = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    with _quiet_transformers():
        try:
            tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
            model, report = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            first_line = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"{reference} could not be loaded: {first_line}",
                remedy="It needs config.json, safetensors, preprocessor_config.json and tokenizer.json of one model.",
            ) from error
    if lacking := sorted(map(str, {*report["missing_keys"], *report["mismatched_keys"]})):
        raise WeightsCorrupt(
            f"{reference} lacks {len(lacking)} weights, the first of them {lacking[0]}",
            remedy="Get the whole checkpoint again.",
        )
    model = model.eval().requires_grad_(False).to(torch.device(device))
    return DualEncoder(model, processor, tokenizer, id=_identify(reference, folder))


def _identify(reference: str | Path, folder: Path) -> str:
    """What changes whenever the space may: repository and commit, else the hash of every file that has a say."""
    parsed = weights.parse_reference(reference)
    if isinstance(parsed, weights.HubRepository) and _COMMIT.fullmatch(folder.name):
        return f"hf:{parsed.repo}@{folder.name}"
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".txt")):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _unit(output: Any) -> NDArray[np.float32]:
    """Rows of length one. Transformers 5 wraps the projected vectors as the pooled output; 4 gave the bare tensor."""
    vectors = output if isinstance(output, torch.Tensor) else output.pooler_output
    return cast("NDArray[np.float32]", F.normalize(vectors.float(), dim=-1).cpu().numpy())


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise InvalidInput(f"batch_size is {batch_size}", remedy="Give a whole number of at least 1.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({type(error).__name__})", remedy="Give a folder that holds a Hugging Face model."
        ) from error
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar and no advice on the terminal while loading; what was set before is put back."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
