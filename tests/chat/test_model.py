from __future__ import annotations

import subprocess
import sys

import pytest

from trifocal.chat import load_chat
from trifocal.chat.model import checked_question
from trifocal.errors import InvalidInput, ModelError


@pytest.mark.parametrize("reference", ["", "Default", "a/b/c", "hf:name"])
def test_an_unsupported_reference_says_what_is_supported(reference: str) -> None:
    with pytest.raises(ModelError, match="Give 'default', the path of a folder that exists, or hf:org/name"):
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


@pytest.mark.parametrize(("given", "there", "used"), [(None, True, True), (None, False, False), (False, True, False)])
def test_trained_weights_are_used_where_they_come_with_the_package(
    given: bool | None, there: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trifocal.chat import small_chat
    from trifocal.chat.small import trained

    seen = []
    monkeypatch.setattr(trained, "has_shipped", lambda: there)
    monkeypatch.setattr(small_chat, "load_small_chat", lambda **options: seen.append(options["trained"]))
    load_chat(**({} if given is None else {"trained": given}))
    assert seen == [used]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, trifocal.chat; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("question", ["", " \n", "what is \udcff?"])
def test_a_question_must_be_text(question: str) -> None:
    with pytest.raises(InvalidInput):
        checked_question(question)
