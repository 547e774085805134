from __future__ import annotations

import subprocess
import sys

import pytest

from trifocal.chat import load_chat
from trifocal.chat.model import checked_question
from trifocal.errors import InvalidInput, ModelError


@pytest.mark.parametrize("reference", ["Qwen/Qwen2-VL-2B-Instruct", "hf:org/name@main", "", "Default"])
def test_an_unsupported_reference_says_what_is_supported(reference: str) -> None:
    with pytest.raises(ModelError, match="supported ones are: 'default'"):
        load_chat(reference)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, trifocal.chat; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("question", ["", " \n", "what is \udcff?"])
def test_a_question_must_be_text(question: str) -> None:
    with pytest.raises(InvalidInput):
        checked_question(question)
