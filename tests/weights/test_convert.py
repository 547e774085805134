"""Checkpoints become safetensors, the same bytes each time; anything else is refused without being run."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from trifocal.errors import WeightsCorrupt
from trifocal.weights.convert import checkpoint_to_safetensors

if TYPE_CHECKING:
    from pathlib import Path


def test_keeps_names_values_and_types(tmp_path: Path) -> None:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    state = {"b": base.T, "a": base, "count": torch.tensor(7), "half": base.half()}
    torch.save(state, tmp_path / "x.pth")
    first = checkpoint_to_safetensors(tmp_path / "x.pth", target=tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    torch.save(dict(reversed(state.items())), tmp_path / "y.pth")
    assert checkpoint_to_safetensors(tmp_path / "y.pth", target=tmp_path / "y.safetensors", sha256=first) == first


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("kind", ["evil", "random", "empty", "text", "nested", "list"])
def test_10_anything_but_tensors_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    match kind:
        case "evil":
            torch.save({"a": _Evil()}, path)
        case "random":
            path.write_bytes(bytes(range(1, 255)) * 9)
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(pickle.dumps("text", protocol=2))
        case "nested":
            torch.save({"model": {"a": torch.zeros(1)}}, path)
        case _:
            torch.save([torch.zeros(1)], path)
    with pytest.raises(WeightsCorrupt):
        checkpoint_to_safetensors(path, target=tmp_path / "x.safetensors")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.pth"]


def test_another_hash_leaves_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="instead of"):
        checkpoint_to_safetensors(tmp_path / "x.pth", target=tmp_path / "x.safetensors", sha256="0" * 64)
    assert not (tmp_path / "x.safetensors").exists()
