from __future__ import annotations

from typing import Any

import pytest

from trifocal.chat import Decoding
from trifocal.errors import InvalidInput


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"repetition_penalty": 0.9},
        {"max_new_tokens": -5},
        {"no_repeat_ngram": -1},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        Decoding(**options)


def test_the_default_is_deterministic() -> None:
    assert Decoding().temperature == 0.0
