"""Names of encoders."""

from __future__ import annotations

from typing import Any

import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval import SemanticConfig, SemanticEncoder, load_encoder


def test_the_default_takes_a_config() -> None:
    config = SemanticConfig(top_k=7)
    loaded = load_encoder("default", config=config)
    assert isinstance(loaded, SemanticEncoder)
    assert loaded.config == config


@pytest.mark.parametrize("name", ["", "clip", None, 3])
def test_an_unknown_name_lists_what_is_valid(name: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_encoder(name)
    for valid in ("default", "org/name", ".npy", ".h5"):
        assert valid in caught.value.remedy


def test_an_option_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="fps"):
        load_encoder("default", fps=2)
