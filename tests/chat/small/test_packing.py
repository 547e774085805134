from __future__ import annotations

import pytest
import torch

from trifocal.chat.language_model import LanguageModel
from trifocal.chat.prompt import PromptStyle
from trifocal.chat.small.asking import answer_scores, prefix_of
from trifocal.chat.small.packing import Stretch, last_states, score
from trifocal.errors import InvalidInput

STYLE = PromptStyle(system="")
QUESTIONS = ("Is it a fox?", "What is it, then?", "Where?")
ANSWERS = (("yes", "no"), ("a red fox", "a blue whale", "lawn"), ("on the lawn",))


def pieces(model: LanguageModel, *counts: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(count, model.embeddings.shape[1]) for count in counts]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_pack_equals_separate_passes(language_model: LanguageModel, attention: str) -> None:
    model = language_model.model
    video, one, two, deep = pieces(language_model, 5, 3, 4, 2)
    model.set_attn_implementation(attention)
    try:
        packed = last_states(
            model, [Stretch(video), Stretch(one, after=0), Stretch(two, after=0), Stretch(deep, after=2)]
        )
        for parts, number in (([video], 0), ([video, one], 1), ([video, two], 2), ([video, two, deep], 3)):
            whole = model.model(inputs_embeds=torch.cat(parts)[None], use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(packed[number], whole[-len(parts[-1]) :], atol=1e-5, rtol=1e-4)
    finally:
        model.set_attn_implementation("sdpa")


def test_behind_a_prefix_it_is_the_same(language_model: LanguageModel) -> None:
    video = pieces(language_model, 6)[0]
    fresh = answer_scores(language_model, video, style=STYLE, questions=QUESTIONS, answers=ANSWERS)
    entry = language_model.prefill(video)
    before = [tuple(keys.shape) for keys, _ in entry.layers]
    with torch.inference_mode():
        cached = answer_scores(language_model, entry, style=STYLE, questions=QUESTIONS, answers=ANSWERS)
    for row, other in zip(fresh, cached, strict=True):
        torch.testing.assert_close(row, other, atol=1e-5, rtol=1e-4)
    assert [tuple(keys.shape) for keys, _ in entry.layers] == before


def test_scores_are_log_probabilities_of_the_answer_and_its_end(language_model: LanguageModel) -> None:
    prefix = prefix_of(language_model, style=STYLE, video=())
    scores = answer_scores(language_model, prefix.embeddings, style=STYLE, questions=["Who?"], answers=[["a red fox"]])[
        0
    ][0]
    ids = [*language_model.token_ids("a red fox"), language_model.end_id]
    text = language_model.render([{"role": "user", "content": "\nWho?"}])
    whole = language_model.embed([*language_model.token_ids(text), *ids])
    logits = language_model.model(inputs_embeds=whole[None], use_cache=False).logits[0].float()
    expected = logits.log_softmax(-1)[-len(ids) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0]
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    assert len(scores) == len(ids)


def test_gradients_reach_the_video(language_model: LanguageModel) -> None:
    video = pieces(language_model, 4)[0].requires_grad_()
    scores = answer_scores(language_model, video, style=STYLE, questions=QUESTIONS, answers=ANSWERS)
    torch.autograd.backward(torch.stack([each.sum() for row in scores for each in row]).sum())
    assert video.grad is not None
    assert torch.all(video.grad.abs().sum(-1) > 0)


def test_what_is_not_a_tree_is_refused(language_model: LanguageModel) -> None:
    one, two, none = pieces(language_model, 2, 2, 0)
    for stretches in ([Stretch(one, after=0)], [Stretch(one), Stretch(two, after=2)], [Stretch(none)]):
        with pytest.raises(InvalidInput, match="not empty"):
            last_states(language_model.model, stretches)
    with pytest.raises(InvalidInput, match="follows on none"):
        score(language_model.model, [Stretch(one, targets=torch.tensor([1, 2]))])
    assert score(language_model.model, [Stretch(one)]) == []
