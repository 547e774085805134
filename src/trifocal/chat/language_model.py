"""The language model: text and embeddings in, text out, with a prefix that is computed once and forked per answer.

`LanguageModel` wraps a causal llama-shaped transformer and its tokenizer. `prefill` turns embeddings into a `Prefix`
(the keys and values of every layer); `generate` forks it, so a prefix serves any number of questions, also at the same
time. Inputs are embeddings and positions are given, because tokens of a video have no number in the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trifocal.chat.attention import attention_rows
from trifocal.chat.decoding import Decoding
from trifocal.chat.prefix.entry import PrefixEntry
from trifocal.chat.scores import last_scores
from trifocal.chat.writing import write
from trifocal.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import DynamicCache, LlamaForCausalLM

__all__ = ["Generation", "LanguageModel", "Prefix"]

Prefix = PrefixEntry
"""A prompt's beginning that has been run through the model; never changed once made."""


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
    def end_id(self) -> int:
        """The token that ends an answer; the lowest where there are several."""
        return int(min(self._end_ids))

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
        return PrefixEntry.of(cache, length=embeddings.shape[0])

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
        cache = prefix.fork()
        logits = self._step(embeddings, cache=cache, start=prefix.length)
        prefilled = time.perf_counter()
        written = write(
            logits,
            step=lambda token, place: self._step(self.embed([token]), cache=cache, start=prompt + place),
            decode=self.decode,
            end_ids=self._end_ids,
            decoding=decoding,
            on_text=on_text,
        )
        return Generation(
            token_ids=written.token_ids,
            text=written.text,
            finished=written.finished,
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
        cache = prefix.fork()
        output = self._forward(embeddings, cache=cache, start=prefix.length, output_hidden_states=True)
        inputs = torch.stack([output.hidden_states[layer][0] for layer in layers])  # (L, N, C)
        return attention_rows(self.model, cache, inputs=inputs, layers=layers)

    def _step(self, embeddings: torch.Tensor, *, cache: DynamicCache, start: int) -> torch.Tensor:
        """Run `(N, C)` through the model behind `cache`; the last position's logits `(V,)` float32."""
        return last_scores(self.model, self._forward(embeddings, cache=cache, start=start).last_hidden_state)

    def _forward(self, embeddings: torch.Tensor, *, cache: DynamicCache, start: int, **options: bool) -> Any:
        return self.model.model(
            inputs_embeds=embeddings[None],
            position_ids=torch.arange(start, start + embeddings.shape[0], device=embeddings.device)[None],  # (1, N)
            past_key_values=cache,
            use_cache=True,
            **options,
        )
