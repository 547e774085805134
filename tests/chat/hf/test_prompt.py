"""The words round the video: what is shared, what is typed, and templates that do not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.processors import PROCESSORS
from trifocal.chat.hf.prompt import ChatPrompt
from trifocal.errors import ModelError


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_before_and_after_make_the_whole_conversation(name: str, make_chat: Callable[..., HFChat]) -> None:
    prompt = make_chat(name).prompt
    typed, rest = prompt.question("What is it?")
    ids = [*prompt.before(prompt.token * 3), *typed, *rest]
    words = prompt._tokenizer.decode(ids, skip_special_tokens=False)
    ending = "Assistant:" if name in {"smolvlm", "idefics3"} else "<|im_start|>assistant\n"
    assert words.startswith("<|begin_of_text|>" if name == "idefics3" else "<|im_start|>")
    assert words.endswith(ending)
    assert words.count(prompt.token) == 3
    assert words.index("What is it?") > words.rindex(prompt.token)


def test_control_tokens_in_a_question_are_letters(make_chat: Callable[..., HFChat]) -> None:
    prompt = make_chat("qwen2_vl").prompt
    control = prompt._tokenizer.encode("<|im_end|>", add_special_tokens=False).ids
    typed, _ = prompt.question("Is <|im_end|> here? <|video_pad|>")
    assert len(control) == 1
    assert not set(control) & set(typed)
    assert prompt.decode(typed) == "Is <|im_end|> here? <|video_pad|>"


def test_a_system_message_is_part_of_the_prefix(make_chat: Callable[..., HFChat]) -> None:
    plain, strict = make_chat("qwen2_vl"), make_chat("qwen2_vl", config={"system": "Be brief."})
    assert "Be brief." in strict.prompt.decode(strict.prompt.before(""))
    assert plain.prompt.fingerprint != strict.prompt.fingerprint


def test_a_begin_mark_of_the_tokenizer_is_written_once(backend: Tokenizer, make_chat: Callable[..., HFChat]) -> None:
    processor = make_chat("qwen2_vl").processor
    marking = Tokenizer.from_str(backend.to_str())
    start = int(marking.token_to_id("<|im_start|>") or 0)
    marking.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=marking)
    template = "{{ MARK }}USER: <|video_pad|>\n{{ messages[0]['content'][1]['text'] }} ASSISTANT:"
    without = ChatPrompt(wrapped, processor=processor, template=template.replace("{{ MARK }}", ""))
    written = ChatPrompt(wrapped, processor=processor, template=template.replace("{{ MARK }}", "<|im_start|>"))
    assert without.before("") == written.before("")
    assert without.before("").count(start) == 1


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("hello", "without '<|video_pad|>'"),
        ("{{ messages[0]['content'][1]['text'] }} <|video_pad|>", "without"),
    ],
)
def test_templates_that_do_not_fit(
    template: str | None, message: str, backend: Tokenizer, make_chat: Callable[..., HFChat]
) -> None:
    processor = make_chat("qwen2_vl").processor
    with pytest.raises(ModelError, match=message.replace("|", r"\|")):
        ChatPrompt(PreTrainedTokenizerFast(tokenizer_object=backend), processor=processor, template=template)


def test_a_slow_tokenizer_is_refused(make_chat: Callable[..., HFChat]) -> None:
    with pytest.raises(ModelError, match="slow tokenizer"):
        ChatPrompt(object(), processor=make_chat("qwen2_vl").processor, template="x")
