"""The language model: text and embeddings in, text out, with a prefix that is computed once and forked per answer.

`LanguageModel` wraps a causal llama-shaped transformer and its tokenizer. `prefill` turns embeddings into a `Prefix`
(the key–value cache and its length); `generate` forks it, so a prefix serves any number of questions, also at the same
time. The decoding loop is written out here because its inputs are embeddings, its positions must be its own (a cache
may later hold fewer entries than positions, once tokens are merged), and text streams.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trifocal.chat.attention import attention_rows
from trifocal.chat.decoding import Decoding
from trifocal.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import DynamicCache, LlamaForCausalLM

__all__ = ["Generation", "LanguageModel", "Prefix"]


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt's beginning that has been run through the model; never changed once made.

    Args:
        cache: the keys and values of every layer.
        length: how many positions it takes; what follows continues from there.
    """

    cache: DynamicCache
    length: int


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model wrote.

    Args:
        token_ids: the generated tokens, the end mark among them.
        text: decoded, without control tokens and surrounding space.
        finished: "end" or "length".
        prefill_s: seconds for the prompt behind the prefix.
        generate_s: seconds for the rest.
    """

    token_ids: tuple[int, ...]
    text: str
    finished: Literal["end", "length"]
    prefill_s: float
    generate_s: float


class LanguageModel:
    """A causal language model with its tokenizer and chat template.

    Args:
        model: in evaluation mode.
        tokenizer: must add nothing to what it is given.
        chat_template: a Jinja template over `messages` and `add_generation_prompt`.
        name: how answers name it.
    """

    def __init__(self, model: LlamaForCausalLM, *, tokenizer: Tokenizer, chat_template: str, name: str) -> None:
        """Prepare tokenizer and template; the model is taken as it is."""
        from tokenizers import Tokenizer

        self.model = model
        self.name = name
        self.tokenizer = tokenizer
        # A question is what a stranger typed: control tokens spelt out in it are letters, not control tokens.
        self._literal_tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._literal_tokenizer.encode_special_tokens = True
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
        self._template = environment.from_string(chat_template)
        end = model.config.eos_token_id
        self._end_ids = frozenset(end if isinstance(end, list) else [end])

    @property
    def context(self) -> int:
        """How many positions, prompt and answer together, the model was made for."""
        return int(self.model.config.max_position_embeddings)

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return int(self.model.config.num_hidden_layers)

    @property
    def embeddings(self) -> torch.Tensor:
        """The input embeddings of the vocabulary, `(V, C)`."""
        weight: torch.Tensor = self.model.get_input_embeddings().weight
        return weight.detach()

    def token_ids(self, text: str, *, literal: bool = False) -> list[int]:
        """The tokens of a text; `literal` reads control tokens in it as plain letters."""
        tokenizer = self._literal_tokenizer if literal else self.tokenizer
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """The input embeddings `(N, C)` of tokens."""
        return self.embeddings[torch.tensor(list(ids), dtype=torch.long, device=self.embeddings.device)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without control tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The conversation as the model was trained to see it, up to where its answer begins."""
        return str(self._template.render(messages=list(messages), add_generation_prompt=True))

    @torch.inference_mode()
    def prefill(self, embeddings: torch.Tensor) -> Prefix:
        """Run the beginning of a prompt through the model.

        Args:
            embeddings: `(N, C)`.
        """
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        self._step(embeddings, cache=cache, start=0)
        return Prefix(cache=cache, length=embeddings.shape[0])

    @torch.inference_mode()
    def generate(
        self,
        prefix: Prefix,
        embeddings: torch.Tensor,
        *,
        decoding: Decoding | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Generation:
        """Answer a prompt whose beginning is in `prefix`, which stays as it is.

        Args:
            prefix: from `prefill`.
            embeddings: the rest of the prompt, `(N, C)` with N at least 1.
            decoding: how words are chosen; the default is greedy.
            on_text: called with each new piece of text as soon as it is certain.

        Raises:
            ModelError: prompt and answer together do not fit in the context.
        """
        decoding = decoding or Decoding()
        prompt = prefix.length + embeddings.shape[0]
        self.check_fits(prompt, decoding=decoding)
        started = time.perf_counter()
        cache = copy.deepcopy(prefix.cache)
        logits = self._step(embeddings, cache=cache, start=prefix.length)
        prefilled = time.perf_counter()
        choose = _Chooser(decoding, device=logits.device)
        stream = _TextStream(self.decode, on_text)
        ids: list[int] = []
        while True:
            token = choose(logits, ids)
            ids.append(token)
            if token in self._end_ids or len(ids) == decoding.max_new_tokens:
                break
            stream.push(ids)
            logits = self._step(self.embed([token]), cache=cache, start=prompt + len(ids) - 1)
        ended = ids[-1] in self._end_ids
        text = stream.close(ids[:-1] if ended else ids)
        return Generation(
            token_ids=tuple(ids),
            text=text.strip(),
            finished="end" if ended else "length",
            prefill_s=prefilled - started,
            generate_s=time.perf_counter() - prefilled,
        )

    def check_fits(self, prompt: int, *, decoding: Decoding) -> None:
        """Raise `ModelError` when a prompt of so many tokens and its answer do not fit in the context."""
        if (needed := prompt + decoding.max_new_tokens) > self.context:
            raise ModelError(
                f"The prompt has {prompt} tokens and the answer may take {decoding.max_new_tokens}: {needed} in all, "
                f"and {self.name} has room for {self.context}",
                remedy="Ask a shorter question, or use fewer frames or a lower max_new_tokens.",
            )

    @torch.inference_mode()
    def attention(self, prefix: Prefix, embeddings: torch.Tensor, *, layers: Sequence[int]) -> torch.Tensor:
        """Where a stretch of prompt looks, behind `prefix`, which stays as it is.

        Args:
            prefix: from `prefill`.
            embeddings: `(N, C)`.
            layers: at least one.

        Returns:
            `(N, prefix.length + N)` float32 on the CPU, averaged over heads and layers; each row sums to 1.
        """
        cache = copy.deepcopy(prefix.cache)
        output = self._forward(embeddings, cache=cache, start=prefix.length, output_hidden_states=True)
        inputs = torch.stack([output.hidden_states[layer][0] for layer in layers])  # (L, N, C)
        return attention_rows(self.model, cache, inputs=inputs, layers=layers)

    def _step(self, embeddings: torch.Tensor, *, cache: DynamicCache, start: int) -> torch.Tensor:
        """Run `(N, C)` through the model behind `cache`; the last position's logits `(V,)` float32."""
        logits: torch.Tensor = self._forward(embeddings, cache=cache, start=start).logits
        return logits[0, -1].float()

    def _forward(self, embeddings: torch.Tensor, *, cache: DynamicCache, start: int, **options: bool) -> Any:
        return self.model(
            inputs_embeds=embeddings[None],
            position_ids=torch.arange(start, start + embeddings.shape[0], device=embeddings.device)[None],  # (1, N)
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **options,
        )


class _Chooser:
    """Picks the next token from scores."""

    def __init__(self, decoding: Decoding, *, device: torch.device) -> None:
        self._decoding = decoding
        self._random = torch.Generator(device=device).manual_seed(decoding.seed)

    def __call__(self, logits: torch.Tensor, so_far: Sequence[int]) -> int:
        if self._decoding.repetition_penalty != 1.0 and so_far:
            seen = torch.tensor(sorted(set(so_far)), device=logits.device)
            score, penalty = logits[seen], self._decoding.repetition_penalty
            logits = logits.index_put((seen,), torch.where(score > 0, score / penalty, score * penalty))
        if (size := self._decoding.no_repeat_ngram) and (banned := _continuations(so_far, size=size)):
            logits = logits.index_fill(0, torch.tensor(sorted(banned), device=logits.device), float("-inf"))
        if self._decoding.temperature == 0.0:
            return int(logits.argmax())
        probabilities = (logits / self._decoding.temperature).softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def _continuations(ids: Sequence[int], *, size: int) -> set[int]:
    """The tokens that would write a run of `size` tokens which `ids` already has."""
    tail = tuple(ids[len(ids) - size + 1 :])
    return {ids[end] for end in range(size - 1, len(ids)) if tuple(ids[end - size + 1 : end]) == tail}


class _TextStream:
    """Hands out text as it grows, never half a character."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None] | None) -> None:
        self._decode = decode
        self._on_text = on_text
        self._sent = 0

    def push(self, ids: Sequence[int]) -> None:
        # The last character may still be made of bytes to come; it is then decoded as a replacement character.
        if self._on_text is not None and not (text := self._decode(ids)).endswith("\ufffd"):
            self._send(text)

    def close(self, ids: Sequence[int]) -> str:
        text = self._decode(ids)
        if self._on_text is not None:
            self._send(text)
        return text

    def _send(self, text: str) -> None:
        if self._on_text is not None and len(text) > self._sent:
            self._on_text(text[self._sent :])
            self._sent = len(text)
