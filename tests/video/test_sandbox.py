"""The decoding process: it crashes, hangs and babbles without harm, obeys its limits, and dies with its parent."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal import video
from trifocal.errors import DecoderFailed, InvalidInput, TrifocalError, VideoLimitExceeded
from trifocal.video import Limits, Sampling
from trifocal.video.reader import Video
from trifocal.video.sandbox import Sandbox
from trifocal.video.source import duplicate


def gone(pid: int, *, within_s: float) -> bool:
    """Whether a process that is not ours ends in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("how", "limits", "error", "words"),
    [
        ("crash", Limits(), DecoderFailed, r"crashed on h264\.bin \(signal SIGSEGV\)"),
        ("exit", Limits(), DecoderFailed, r"crashed on h264\.bin \(exit status 7\)"),
        ("hang", Limits(stall_s=0.5), DecoderFailed, r"no sign of life for 0\.5 s on h264\.bin and was stopped"),
        ("hang", Limits(wall_s=0.5), VideoLimitExceeded, r"decoding h264\.bin took more than 0\.5 s"),
        ("spin", Limits(cpu_s=1), VideoLimitExceeded, r"decoding h264\.bin took more than 1 CPU seconds"),
        ("babble", Limits(), DecoderFailed, r"nonsense on h264\.bin"),
        ("memory", Limits(), VideoLimitExceeded, "needs more memory than allowed"),
        ("error", Limits(), DecoderFailed, r"failed with RuntimeError at _worker\.py:\d+"),
    ],
)
@pytest.mark.parametrize("after", [0, 10])
def test_07_a_failing_decoder_is_one_failed_video(
    workshop: Any, how: str, limits: Limits, error: type[TrifocalError], words: str, after: int
) -> None:
    with Video(workshop.make("h264"), limits=Limits(), isolated=True, threads=1) as bystander:
        with (
            pytest.raises(error, match=words) as caught,
            Video(
                workshop.make("h264"), limits=limits, isolated=True, threads=1, fault={"how": how, "after": after}
            ) as opened,
        ):
            opened.read(Sampling.every())
        assert type(caught.value) is error
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert len(bystander.read(Sampling.every())) == 40


def test_07_too_little_memory_is_told(workshop: Any, tmp_path: Path) -> None:
    path = workshop.recipe(frames=2, height=1080, width=1920).write(tmp_path / "large.mp4")
    with (
        pytest.raises((VideoLimitExceeded, DecoderFailed)) as caught,
        video.open(path, limits=Limits(memory_bytes=230 * 1024**2)) as opened,
    ):
        opened.read(Sampling.every())
    assert "memory" in str(caught.value)


def test_07_the_process_has_given_up_its_rights(workshop: Any) -> None:
    limits = Limits(memory_bytes=1024**3, cpu_s=77)
    with video.open(workshop.make("h264"), limits=limits) as opened:
        box = opened._idle
        assert isinstance(box, Sandbox)
        proc = Path(f"/proc/{box.pid}")
        held = {line[:25].strip(): line[25:].split()[:2] for line in (proc / "limits").read_text().splitlines()[1:]}
        assert held["Max address space"] == [str(1024**3)] * 2
        assert held["Max cpu time"] == ["77", "78"]
        assert held["Max file size"] == held["Max core file size"] == ["0", "0"]
        assert int(held["Max open files"][1]) <= 24
        assert "NoNewPrivs:\t1" in (proc / "status").read_text()
        if box.network_closed:
            interfaces = (proc / "net" / "dev").read_text().splitlines()[2:]
            assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_07_it_can_open_and_reach_nothing(workshop: Any) -> None:
    with video.open(workshop.make("h264"), threads=2) as opened:
        box = opened._idle
        assert isinstance(box, Sandbox)
        if not box.filtered:
            pytest.skip("this kernel filters no system calls")
        assert "Seccomp:\t2" in Path(f"/proc/{box.pid}/status").read_text()
        # Threads of the decoder are still allowed.
        assert len(opened.read(Sampling.every())) == 40
    # A file, a socket, a process, a signal to another by each way there is, another's limits, priority and processors,
    # a file's times and attributes: all are refused.
    with (
        pytest.raises(DecoderFailed, match=r"exit status 51"),
        Video(
            workshop.make("h264"), limits=Limits(), isolated=True, threads=1, fault={"how": "break out", "after": 0}
        ) as opened,
    ):
        opened.read(Sampling.every())


def test_17_nothing_of_the_environment_reaches_it(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "secret")
    with video.open(workshop.make("h264")) as opened:
        assert isinstance(opened._idle, Sandbox)
        path = Path(f"/proc/{opened._idle.pid}/environ")
        if os.geteuid() != 0:  # it hides its memory even from its own user
            with pytest.raises(PermissionError):
                path.read_bytes()
            return
        names = {entry.split(b"=")[0] for entry in path.read_bytes().split(b"\0") if entry}
        assert names <= {b"PYTHONPATH", b"OPENBLAS_NUM_THREADS", b"OMP_NUM_THREADS", b"LC_CTYPE"}


def test_everything_is_loaded_before_nothing_can_be_opened() -> None:
    script = (
        "import pkgutil, sys, av, trifocal.video._worker\n"
        "names = [m.name for m in pkgutil.walk_packages(av.__path__, 'av.')]\n"
        "print(*[n for n in names if n.split('.')[-1] in ('stream', 'codeccontext') and n not in sys.modules])\n"
    )
    missing = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert missing.strip() == ""


@pytest.mark.parametrize("state", ["idle", "hang", "spin"])
def test_07_it_dies_with_its_parent(workshop: Any, state: str) -> None:
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from trifocal.video import Limits, Sampling\n"
        "from trifocal.video.reader import Video\n"
        "fault = None if sys.argv[2] == 'idle' else {'how': sys.argv[2], 'after': 5}\n"
        "made = []\n"
        # Opened in a thread that ends at once: the process must survive that, and not the end of the program.
        "def begin(): made.append(Video(Path(sys.argv[1]), limits=Limits(), isolated=True, threads=1, fault=fault))\n"
        "thread = threading.Thread(target=begin); thread.start(); thread.join()\n"
        "print(made[0]._idle.pid, flush=True)\n"
        "if fault: made[0].read(Sampling.every())\n"
        "print(len(made[0].read(Sampling.every())), flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(workshop.make("h264")), state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        if state == "idle":
            assert parent.stdout.readline() == "40\n"
        else:
            time.sleep(0.3)
        assert not gone(pid, within_s=0.05)
        os.kill(parent.pid, signal.SIGKILL)
        assert gone(pid, within_s=5)


def test_07_no_process_and_no_descriptor_is_left(workshop: Any) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    video.probe(workshop.make("h264"))
    before = descriptors()
    pids = []
    for _ in range(3):
        with video.open(workshop.make("h264")) as opened:
            assert isinstance(opened._idle, Sandbox)
            pids.append(opened._idle.pid)
            stream = opened.stream(Sampling.every(), batch_size=2)
            next(stream)
            stream.close()  # left early: its process is thrown away and the next walk has another
            assert len(opened.read(Sampling.every())) == 40
            assert isinstance(opened._idle, Sandbox)
            pids.append(opened._idle.pid)
    with pytest.raises(DecoderFailed):
        Video(workshop.make("h264"), limits=Limits(), isolated=True, threads=1, fault={"how": "exit", "after": 0})
    assert descriptors() == before
    assert len(set(pids)) == 6
    assert all(gone(pid, within_s=2) for pid in pids)


def test_walks_of_one_video_may_overlap(workshop: Any) -> None:
    with video.open(workshop.make("h264")) as opened:
        whole = opened.read(Sampling.every())
        first, second = opened.stream(Sampling.every(), batch_size=4), opened.stream(Sampling.every(), batch_size=4)
        pairs = list(zip(first, second, strict=True))
        assert all(np.array_equal(a.images, b.images) for a, b in pairs)
        results: list[bool] = []

        def work() -> None:
            results.append(np.array_equal(opened.read(Sampling.every()).images, whole.images))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 3


def test_frames_do_not_change_when_more_arrive(workshop: Any) -> None:
    with video.open(workshop.make("h264")) as opened:
        batches = list(opened.stream(Sampling.every(), batch_size=3))
        assert [len(batch) for batch in batches] == [3] * 13 + [1]
        numbers = [n for batch in batches for n in workshop.numbers_of(batch.images)]
        assert numbers == list(range(40))


def test_a_slow_consumer_is_not_a_stall(workshop: Any) -> None:
    with video.open(workshop.make("h264"), limits=Limits(stall_s=2)) as opened:
        stream = opened.stream(Sampling.every(), batch_size=4)
        first = next(stream)
        time.sleep(2.2)
        assert len(first) + sum(len(batch) for batch in stream) == 40


def test_the_file_may_vanish_after_opening(workshop: Any, tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    path.write_bytes(workshop.bytes("h264"))
    with video.open(path) as opened:
        path.unlink()
        assert len(opened.read(Sampling.every())) == 40


def test_06_waiting_is_counted_anew_for_each_request(workshop: Any) -> None:
    with video.open(workshop.make("h264"), limits=Limits(wall_s=5)) as opened:
        assert isinstance(opened._idle, Sandbox)
        opened._idle._waited_s = 5.0  # as after many requests
        assert len(opened.read(Sampling.every())) == 40


@pytest.mark.parametrize("isolated", [True, False])
def test_closing_ends_the_walks_that_are_going_on(workshop: Any, isolated: bool) -> None:
    opened = video.open(workshop.make("h264"), isolated=isolated)
    box = opened._idle
    stream = opened.stream(Sampling.every(), batch_size=2)
    next(stream)
    opened.close()
    if isinstance(box, Sandbox):
        assert not Path(f"/proc/{box.pid}").exists()  # not even a zombie, though the walk is still held
    with pytest.raises(InvalidInput, match=r"h264\.bin is closed"):
        list(stream)


def test_closing_from_another_thread_frees_a_walk_that_hangs(workshop: Any) -> None:
    opened = Video(workshop.make("h264"), limits=Limits(), isolated=True, threads=1, fault={"how": "hang", "after": 5})
    caught: list[BaseException] = []

    def work() -> None:
        try:
            opened.read(Sampling.every())
        except InvalidInput as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    opened.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert "is closed" in str(caught[0])


def test_a_video_that_is_dropped_is_closed_with_a_warning(workshop: Any) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = video.open(workshop.make("h264"))
    assert isinstance(opened._idle, Sandbox)
    pid = opened._idle.pid
    with pytest.warns(ResourceWarning, match=r"h264\.bin was not closed"):
        del opened
    assert not Path(f"/proc/{pid}").exists()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_16_no_descriptors_left_is_told(workshop: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    path, taken = workshop.make("h264"), []
    with video.open(path) as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            with pytest.raises(DecoderFailed, match="Too many open files"):
                duplicate(0)
            with pytest.raises(DecoderFailed, match="shared memory cannot be had: Too many open files"):
                opened.read(Sampling.every())
            for _ in range(2):  # one for the file, one more for the next round
                os.close(taken.pop())
                with pytest.raises(DecoderFailed, match="cannot be started: Too many open files"):
                    video.probe(path)
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(opened.read(Sampling.every())) == 40


def test_a_signal_without_a_name_is_told(workshop: Any) -> None:
    with video.open(workshop.make("h264")) as opened:
        assert isinstance(opened._idle, Sandbox)
        os.kill(opened._idle.pid, signal.SIGRTMIN + 1)
        with pytest.raises(DecoderFailed, match=rf"crashed on h264\.bin \(signal {signal.SIGRTMIN + 1}\)"):
            opened.read(Sampling.every())
