"""Who runs the stages. An `Executor` turns tasks into encoded videos or failures, in any order; it writes nothing.

`LocalExecutor` is the default: a thread for each of the next videos pulls frames from its sandboxed decoder into a
short queue, while this process encodes the present one, so decoding and encoding overlap and memory stays bounded. An
executor for a cluster implements the same method over the same functions of `stages`: a task is small and picklable,
an `EncodedVideo` is a few hundred kilobytes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from trifocal.errors import DecoderFailed, ModelError, VideoError, VideoNotFound
from trifocal.library.stages import StageFailure, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trifocal.library.plan import IngestTask
    from trifocal.library.settings import LibrarySettings
    from trifocal.library.stages import Batch, EncodedVideo, VideoReader
    from trifocal.retrieval import FrameTextEncoder
    from trifocal.video import Limits, VideoInfo

__all__ = ["Executor", "ExecutorFactory", "LocalExecutor"]

# Batches that wait between the decoder and the encoder: two for each of the two consumers.
_QUEUE = 4


class Executor(Protocol):
    """Runs `decode` and `encode` for every task."""

    def run(
        self, tasks: Iterable[IngestTask], /, *, on_seconds: Callable[[IngestTask, VideoInfo, float], None]
    ) -> Iterator[EncodedVideo | StageFailure]:
        """One result for each task, in any order.

        Args:
            tasks: pulled one by one as capacity allows; a task counts as begun when it is pulled.
            on_seconds: told how far in a video the work is.
        """


class ExecutorFactory(Protocol):
    """Makes the executor of an `add`; `LocalExecutor` is one."""

    def __call__(
        self,
        *,
        reader: VideoReader,
        encoder: FrameTextEncoder,
        settings: LibrarySettings,
        limits: Limits,
        workers: int,
    ) -> Executor:
        """An executor with these parts."""


class LocalExecutor:
    """Decoding ahead in threads, encoding here.

    Args:
        reader: opens videos.
        encoder: frames to vectors.
        settings: the library's.
        limits: what a video may cost.
        workers: how many videos are decoded ahead of the one that is encoded.
    """

    def __init__(
        self,
        *,
        reader: VideoReader,
        encoder: FrameTextEncoder,
        settings: LibrarySettings,
        limits: Limits,
        workers: int = 1,
    ) -> None:
        """Nothing is started before `run`."""
        self._reader = reader
        self._encoder = encoder
        self._settings = settings
        self._limits = limits
        self._workers = workers

    def run(
        self, tasks: Iterable[IngestTask], /, *, on_seconds: Callable[[IngestTask, VideoInfo, float], None]
    ) -> Iterator[EncodedVideo | StageFailure]:
        """See `Executor.run`; results come in the order of the tasks."""
        ahead: deque[_Decoding] = deque()
        source = iter(tasks)
        try:
            while True:
                while len(ahead) <= self._workers and (task := next(source, None)) is not None:
                    ahead.append(_Decoding(task, self._reader, self._encoder.frame_size, self._settings, self._limits))
                if not ahead:
                    return
                decoding = ahead.popleft()
                try:
                    result = self._finish(decoding, on_seconds)
                finally:
                    decoding.stop()
                yield result
        finally:
            for decoding in ahead:
                decoding.stop()

    def _finish(
        self, decoding: _Decoding, on_seconds: Callable[[IngestTask, VideoInfo, float], None]
    ) -> EncodedVideo | StageFailure:
        task = decoding.task
        try:
            info = decoding.info()
            encoded = encode(
                task,
                info,
                decoding.batches(),
                encoder=self._encoder,
                settings=self._settings,
                on_seconds=lambda seconds: on_seconds(task, info, seconds),
            )
            return replace(encoded, decode_s=decoding.spent_s)
        except VideoError as error:
            # What is not there or not readable may be there tomorrow; the rest lies in the bytes.
            lasting = not isinstance(error, VideoNotFound)
            return StageFailure(task=task, code=error.code, message=error.message, remedy=error.remedy, lasting=lasting)
        except ModelError as error:
            return StageFailure(task=task, code=error.code, message=error.message, remedy=error.remedy, lasting=False)
        except (MemoryError, OSError, RuntimeError) as error:
            # The decoder could not be started, or the encoder ran out of memory: this video goes, the others go on.
            return StageFailure(
                task=task,
                code=DecoderFailed.code if isinstance(error, OSError) else ModelError.code,
                message=f"{type(error).__name__}: {error}",
                remedy="Close other programs or use a smaller encoder, then run the command again.",
                lasting=False,
            )


class _Decoding:
    """One video being decoded in a thread of its own."""

    def __init__(
        self,
        task: IngestTask,
        reader: VideoReader,
        frame_size: tuple[int, int],
        settings: LibrarySettings,
        limits: Limits,
    ) -> None:
        self.task = task
        self.spent_s = 0.0
        self._queue: queue.Queue[VideoInfo | Batch | BaseException | None] = queue.Queue(_QUEUE)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(reader, frame_size, settings, limits), name="trifocal-decode", daemon=True
        )
        self._thread.start()

    def info(self) -> VideoInfo:
        """What the header says, as soon as the video is open."""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[return-value] # the thread puts the info before anything else

    def batches(self) -> Iterator[Batch]:
        """The frames, as they come."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc] # after the info there are only batches

    def stop(self) -> None:
        """Let the thread end, and wait for it; the decoding process ends with it."""
        self._stopped.set()
        self._thread.join()

    def _work(
        self, reader: VideoReader, frame_size: tuple[int, int], settings: LibrarySettings, limits: Limits
    ) -> None:
        try:
            started = time.perf_counter()
            with reader.open(self.task.path, limits=limits) as video:
                self.spent_s += time.perf_counter() - started
                if not self._put(video.info):
                    return
                batches = decode(video, frame_size=frame_size, settings=settings)
                while True:
                    started = time.perf_counter()
                    batch = next(batches, None)
                    self.spent_s += time.perf_counter() - started
                    if not self._put(batch) or batch is None:
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self._put(error)

    def _put(self, item: VideoInfo | Batch | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False
