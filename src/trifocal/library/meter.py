"""How far `add` is, how fast, and how long it will take.

The work is counted in seconds of video. What is known of a video that was opened is its length; that of the others is
estimated from their bytes, at the seconds per byte of those opened so far, so the estimate settles as it goes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trifocal.library.records import AddProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from trifocal.library.plan import IngestTask
    from trifocal.library.records import Phase
    from trifocal.video import VideoInfo

__all__ = ["Meter"]


class Meter:
    """Counts, and tells the callback.

    Args:
        tell: called in the thread that called `add`; what it raises ends `add` in good order.
        clock: seconds that only grow; for tests.
    """

    def __init__(
        self, tell: Callable[[AddProgress], None] | None = None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """The clock starts."""
        self._tell = tell
        self._clock = clock
        self._phase: Phase = "scan"
        self._video = ""
        self._done = self._total = 0
        self._began = clock()
        self._done_s = self._at_s = 0.0
        self._bytes_left = 0
        self._current = (0.0, 0)  # seconds and bytes of the video under way
        self._opened = (0.0, 0)  # of all that were opened, with the one under way

    def phase(self, name: Phase, *, total: int = 0, total_bytes: int = 0) -> None:
        """A new phase begins."""
        self._phase, self._video = name, ""
        if name != "done":
            self._done, self._total = 0, total
            self._bytes_left = total_bytes
            self._began = self._clock()
        self._report()

    def video(self, path: str) -> None:
        """Work on a file begins."""
        self._video = path
        self._report()

    def seconds(self, task: IngestTask, info: VideoInfo, at_s: float) -> None:
        """A video was encoded up to `at_s`."""
        if self._video != task.path or not self._current[1]:
            self._video = task.path
            self._current = (info.duration_s, task.files[0].size)
            self._opened = (self._opened[0] + info.duration_s, self._opened[1] + task.files[0].size)
        self._at_s = min(at_s, info.duration_s) if info.duration_s > 0 else at_s
        self._report()

    def finished(self, *, size: int = 0) -> None:
        """A file of `size` bytes is done, one way or the other."""
        self._done += 1
        self._bytes_left = max(0, self._bytes_left - size)
        self._done_s += self._current[0]
        self._at_s, self._current = 0.0, (0.0, 0)
        self._report()

    def _report(self) -> None:
        if self._tell is None:
            return
        done_s = self._done_s + self._at_s
        elapsed = self._clock() - self._began
        rate = done_s / elapsed if self._phase == "ingest" and elapsed > 0 else 0.0
        total_s = self._total_s()
        known = rate > 0 and total_s > 0
        self._tell(
            AddProgress(
                phase=self._phase,
                video=self._video,
                done_videos=self._done,
                total_videos=self._total,
                done_s=done_s,
                total_s=total_s,
                rate=rate,
                eta_s=max(0.0, total_s - done_s) / rate if known else None,
            )
        )

    def _total_s(self) -> float:
        opened_s, opened_bytes = self._opened
        if not opened_bytes:
            return 0.0
        ahead = max(0, self._bytes_left - self._current[1])
        return self._done_s + self._current[0] + ahead * opened_s / opened_bytes
