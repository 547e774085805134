from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from trifocal.chat import Decoding
from trifocal.chat.language_model import LanguageModel
from trifocal.chat.writing import continuations
from trifocal.errors import ModelError

PLAIN = Decoding(max_new_tokens=16, repetition_penalty=1.0, no_repeat_ngram=0)
TEXT = "<|im_start|>user\nI see a red fox in the video.<|im_end|>\n<|im_start|>assistant\n"


def split(model: LanguageModel, at: int) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = model.embed(model.token_ids(TEXT))
    return embeddings[:at], embeddings[at:]


def test_greedy_answers_equal_those_of_transformers(language_model: LanguageModel) -> None:
    before, after = split(language_model, 7)
    made = language_model.generate(language_model.prefill(before), after, decoding=PLAIN)
    ids = torch.tensor([language_model.token_ids(TEXT)])
    expected = language_model.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, use_cache=False
    )
    assert list(made.token_ids) == expected[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(("penalty", "ngram"), [(1.5, 0), (1.0, 1), (1.1, 1)])
def test_penalised_answers_equal_those_of_transformers(
    language_model: LanguageModel, penalty: float, ngram: int
) -> None:
    before, after = split(language_model, 7)
    decoding = Decoding(max_new_tokens=40, repetition_penalty=penalty, no_repeat_ngram=ngram)
    made = language_model.generate(language_model.prefill(before), after, decoding=decoding)
    # Given embeddings, transformers too counts only what was generated.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*only to newly generated tokens")
        expected = language_model.model.generate(
            inputs_embeds=torch.cat([before, after])[None],
            attention_mask=torch.ones(1, len(before) + len(after), dtype=torch.long),
            max_new_tokens=40,
            do_sample=False,
            repetition_penalty=penalty,
            no_repeat_ngram_size=ngram,
        )
    assert list(made.token_ids) == expected[0].tolist()
    plain = language_model.generate(language_model.prefill(before), after, decoding=replace(PLAIN, max_new_tokens=40))
    assert made.token_ids != plain.token_ids


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_runs_are_banned_as_transformers_bans_them(size: int) -> None:
    from transformers import NoRepeatNGramLogitsProcessor

    random = torch.Generator().manual_seed(size)
    for length in range(40):
        ids = torch.randint(0, 3, (length,), generator=random)
        scores = NoRepeatNGramLogitsProcessor(size)(ids[None], torch.zeros(1, 3))
        assert continuations(ids.tolist(), size=size) == set(torch.nonzero(scores[0].isinf())[:, 0].tolist())


@pytest.mark.parametrize("at", [1, 5, 20])
def test_where_the_prompt_is_cut_changes_nothing(language_model: LanguageModel, at: int) -> None:
    answers = []
    for cut in (1, at):
        before, after = split(language_model, cut)
        answers.append(language_model.generate(language_model.prefill(before), after, decoding=PLAIN).token_ids)
    assert answers[0] == answers[1]


def test_a_prefix_stays_as_it_is(language_model: LanguageModel) -> None:
    before, after = split(language_model, 12)
    prefix = language_model.prefill(before)
    kept = [(keys.clone(), values.clone()) for keys, values in prefix.layers]
    first = language_model.generate(prefix, after, decoding=PLAIN)
    other = language_model.generate(prefix, language_model.embed(language_model.token_ids("Who?")), decoding=PLAIN)
    again = language_model.generate(prefix, after, decoding=PLAIN)
    assert first.token_ids == again.token_ids != other.token_ids
    assert prefix.lengths == (12,) * 4
    assert prefix.length == 12
    for (keys, values), (keys_before, values_before) in zip(prefix.layers, kept, strict=True):
        assert torch.equal(keys, keys_before)
        assert torch.equal(values, values_before)


def test_one_prefix_answers_many_threads(language_model: LanguageModel) -> None:
    before, _ = split(language_model, 12)
    prefix = language_model.prefill(before)
    rests = [language_model.embed(language_model.token_ids(f"What is {n}?")) for n in range(8)]
    alone = [language_model.generate(prefix, rest, decoding=PLAIN).token_ids for rest in rests]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda rest: language_model.generate(prefix, rest, decoding=PLAIN).token_ids, rests))
    assert together == alone


def test_the_stream_is_the_text_in_whole_characters(language_model: LanguageModel) -> None:
    before, after = split(language_model, 12)
    pieces: list[str] = []
    made = language_model.generate(
        language_model.prefill(before), after, decoding=Decoding(max_new_tokens=40), on_text=pieces.append
    )
    assert "".join(pieces).strip() == made.text
    assert all(pieces)
    assert len(pieces) > 1


def test_sampling_repeats_with_its_seed(language_model: LanguageModel) -> None:
    before, after = split(language_model, 12)
    prefix = language_model.prefill(before)

    def sample(seed: int) -> tuple[int, ...]:
        decoding = Decoding(max_new_tokens=20, temperature=1.5, seed=seed)
        return language_model.generate(prefix, after, decoding=decoding).token_ids

    assert sample(3) == sample(3)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_the_end_mark_ends_the_answer(language_model: LanguageModel) -> None:
    before, after = split(language_model, 12)
    whole = language_model.generate(language_model.prefill(before), after, decoding=PLAIN)
    assert whole.finished == "length"
    assert len(whole.token_ids) == 16
    ending = LanguageModel(
        language_model.model, tokenizer=language_model.tokenizer, chat_template="", name="ends where the other went on"
    )
    end = next(
        token for place, token in enumerate(whole.token_ids) if place >= 3 and token not in whole.token_ids[:place]
    )
    ending._end_ids = frozenset({end})
    cut = ending.generate(ending.prefill(before), after, decoding=PLAIN)
    assert cut.finished == "end"
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(end) + 1]
    assert cut.text == ending.decode(cut.token_ids[:-1]).strip()


def test_what_does_not_fit_is_refused_with_numbers(language_model: LanguageModel) -> None:
    prefix = language_model.prefill(language_model.embed([5] * 500))
    with pytest.raises(ModelError, match=r"503 tokens .* 10: 513 in all, and tiny has room for 512"):
        language_model.generate(prefix, language_model.embed([5] * 3), decoding=Decoding(max_new_tokens=10))
    language_model.generate(prefix, language_model.embed([5] * 2), decoding=Decoding(max_new_tokens=10))


def test_the_attention_equals_that_of_eager_attention(language_model: LanguageModel) -> None:
    from transformers import LlamaForCausalLM

    before, after = split(language_model, 12)
    layers = (1, 3)
    prefix = language_model.prefill(before)
    rows = language_model.attention(prefix, after, layers=layers)
    assert prefix.lengths == (12,) * 4
    model = language_model.model
    eager = LlamaForCausalLM._from_config(model.config, attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    with torch.inference_mode():
        attentions = eager(inputs_embeds=torch.cat([before, after])[None], output_attentions=True).attentions
    expected = torch.stack([attentions[layer][0].mean(0)[12:] for layer in layers]).mean(0)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rows.sum(1), torch.ones(len(after)))
