"""The checker of end-to-end goldens finds what is wrong, and copes with files that it was not written for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.bench.goldens import check
from trifocal.bench.goldens.case import Case
from trifocal.bench.goldens.chat import BACKENDS, llm_cases
from trifocal.errors import InvalidInput

NAME = "llm_qwen2_L2.npz"


def changed(shared: Path, folder: Path, *, meta: dict[str, Any] | None = None, part: str = "meta_json") -> Path:
    """A copy of a golden file with other settings, or with one part a little off."""
    with np.load(shared / "goldens" / "sttm" / NAME) as stored:
        arrays = {key: stored[key] for key in stored.files}
    old = json.loads(bytes(arrays["meta_json"]))
    arrays["meta_json"] = np.frombuffer(json.dumps({**old, **(meta or {})}).encode(), np.uint8)
    if part != "meta_json":
        arrays[part] = arrays[part] + 1
    path = folder / NAME
    np.savez(path, **arrays)
    return path


def verdicts(path: Path) -> list[Case]:
    found = list(llm_cases(path))
    assert len(found) == len(BACKENDS)
    return found


@pytest.mark.parametrize(
    "part",
    [
        "prefill.last_hidden",
        "prefill.seq_per_layer",
        "prefill.pos_layer0",
        "prefill.pos_layer_last",
        "prefill.k_last_layer",
        "prefill.cos_last",
        "decode.tokens",
        "decode.pos_per_layer",
        "decode.kv_len_per_layer",
    ],
)
def test_a_changed_part_is_named(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr("trifocal.bench.goldens.chat.BACKENDS", ("sdpa",))
    (case,) = llm_cases(changed(shared, tmp_path, part=part))
    assert case.wrong is not None
    assert [name.split(" by ")[0] for name in case.wrong] == [part]


@pytest.mark.parametrize(
    "meta", [{"pos": "merged"}, {"tau_t": -1.0}, {"pos": "survived", "tau_s": 0.75}, {"layer": 1}], ids=str
)
def test_another_setting_is_another_result(shared: Path, tmp_path: Path, meta: dict[str, Any]) -> None:
    for case in verdicts(changed(shared, tmp_path, meta=meta)):
        assert case.wrong
        assert "prefill.k_last_layer" in " ".join(case.wrong)


def test_names_of_positions(shared: Path, tmp_path: Path) -> None:
    assert all(case.wrong == () for case in verdicts(changed(shared, tmp_path, meta={"pos": "reassign0"})))
    with pytest.raises(InvalidInput, match="pos is 'shuffled'"):
        verdicts(changed(shared, tmp_path, meta={"pos": "shuffled"}))


def test_weights_must_be_there(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trifocal.bench.goldens.chat._SHARED", tmp_path / "absent")
    (case,) = check(changed(shared, tmp_path))
    assert case.wrong is not None
    assert "llm_qwen2_none.npz, which holds the weights, is not beside llm_qwen2_L2.npz" in case.wrong[0]
