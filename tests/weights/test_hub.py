"""Repositories from the Hub: what is asked of its client, and its failures in our words. No network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from trifocal.errors import WeightsCorrupt, WeightsUnavailable
from trifocal.weights import HubRepository, fetch

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_hub_cache(cache: Path, *, names: tuple[str, ...]) -> Path:
    """A repository as the Hub's client keeps it."""
    repository = cache / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in names:
        (snapshot / name).write_bytes(b"{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_offline_finds_what_is_cached(tmp_path: Path) -> None:
    snapshot = fill_hub_cache(tmp_path, names=("config.json", "model.safetensors"))
    assert fetch("org/name", offline=True, cache=tmp_path) == snapshot
    assert fetch(f"hf:org/name@{COMMIT}", offline=True, cache=tmp_path) == snapshot


def test_offline_says_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="hf:org/name@v2 is not in the local"):
        fetch("hf:org/name@v2", offline=True, cache=tmp_path)


def test_no_safetensors_is_said(tmp_path: Path) -> None:
    fill_hub_cache(tmp_path, names=("config.json", "pytorch_model.bin"))
    with pytest.raises(WeightsCorrupt, match="no safetensors"):
        fetch("org/name", offline=True, cache=tmp_path)


def test_10_only_safe_formats_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(repo: str, **options: Any) -> str:
        asked.update(repo=repo, **options)
        (tmp_path / "model.safetensors").touch()
        with options["tqdm_class"](total=3, desc="quiet") as bar:
            bar.update(1)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch(str(HubRepository("org/name", "v1"))) == tmp_path
    assert (asked["repo"], asked["revision"], asked["local_files_only"]) == ("org/name", "v1", False)
    assert asked["cache_dir"] is None
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in asked["allow_patterns"])


def test_quiet_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    test_10_only_safe_formats_are_asked_for(tmp_path, monkeypatch)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no route to host\nmore"),
        hub_errors.LocalEntryNotFoundError("no route to host\nmore"),
        hub_errors.HFValidationError("no route to host\nmore"),
        hub_errors.HTTPError("no route to host\nmore"),  # type: ignore[attr-defined]
    ],
)
def test_failures_are_ours(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsUnavailable, match="could not be fetched: no route to host") as caught:
        fetch("org/name")
    assert "more" not in caught.value.message
