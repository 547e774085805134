from __future__ import annotations

import subprocess
import sys

import pytest

from trifocal.chat import load_chat
from trifocal.chat.model import checked_question
from trifocal.errors import InvalidInput, ModelError


@pytest.mark.parametrize("reference", ["", "Default", "a/b/c", "hf:name"])
def test_an_unsupported_reference_says_what_is_supported(reference: str) -> None:
    with pytest.raises(
        ModelError, match="Give 'default', 'playground', the path of a folder that exists, or hf:org/name"
    ):
        load_chat(reference)


def test_options_that_the_default_has_not_are_named() -> None:
    with pytest.raises(InvalidInput, match="no option budget"):
        load_chat(budget=0.3)
    with pytest.raises(InvalidInput, match="sttm has no option bugdet"):
        load_chat(method="sttm", bugdet=0.3)
    with pytest.raises(InvalidInput, match="layer is 2"):
        load_chat(method="sttm", budget=0.3, layer=2)


@pytest.mark.weights
def test_the_default_merges_as_it_is_told() -> None:
    from trifocal.chat.small_chat import SmallChat
    from trifocal.merging import SttmConfig

    chat = load_chat(method="sttm", budget=0.3, layer=0)
    assert isinstance(chat, SmallChat)
    assert chat.config.merge == SttmConfig(budget=0.3)
    assert load_chat().config.merge is None  # type: ignore[attr-defined]


@pytest.mark.weights
def test_the_playground_model_is_the_default_with_trained_weights() -> None:
    from trifocal.chat.small_chat import SmallChat

    chat, plain = load_chat("playground"), load_chat()
    assert isinstance(chat, SmallChat)
    assert isinstance(plain, SmallChat)
    assert (chat.trained is not None, plain.trained is None) == (True, True)
    assert (chat.config.frames, chat.config.grid) == (16, 4)
    assert "drawn videos" in chat.caveat


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, trifocal.chat; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("question", ["", " \n", "what is \udcff?"])
def test_a_question_must_be_text(question: str) -> None:
    with pytest.raises(InvalidInput):
        checked_question(question)
