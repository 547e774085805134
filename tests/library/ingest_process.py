"""Processes that add, and are killed. Run by the tests as `python ingest_process.py JOB`, where JOB is JSON.

    {"verb": "add", "library": ..., "paths": ..., "delay_s": ..., "real": true}
        one `add`.
    {"verb": "kill_points", "base": ..., "paths": ..., "scratch": ..., "steps": [0, 5, ...]}
        for each step: copy the base library, let a forked child work on it until `trace` tells that step for the n-th
        time, where the child kills itself; then finish the work (or do what `then` says) in another child. Prints what
        came out, as JSON. With `"remove": [...]` the work is a removal, with
        `"detect": CONFIG` a fake detector looks at all videos.
    {"verb": "random_kills", "base": ..., "paths": ..., "scratch": ..., "seed": 20, "kills": 10, "real": true}
        add to copies of the base library in forked children, each killed after a random time within what a whole run
        takes, until that many were killed at work; a copy that gets finished makes place for another. Then finish.
    {"verb": "poison", "library": ..., "paths": ..., "name": ..., "times": 10}
        add in forked children whose decoder kills the process when it opens the file of that name; then once more.

Children are forks, so that nothing but the work itself lies between start and kill.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from trifocal.library import Library

_spec = importlib.util.spec_from_file_location("library_fakes", Path(__file__).with_name("conftest.py"))
assert _spec is not None
assert _spec.loader is not None
fakes: Any = importlib.util.module_from_spec(_spec)
sys.modules["library_fakes"] = fakes
_spec.loader.exec_module(fakes)


def work(library: Path, job: dict[str, Any], *, trace: Any = None) -> None:
    reader = None if job.get("real") else fakes.FakeReader(delay_s=job.get("delay_s", 0.0))
    with Library.open(library, encoder=fakes.FakeEncoder(), reader=reader, trace=trace) as opened:
        if job.get("remove"):
            opened.remove(job["remove"])
        elif job.get("detect"):
            opened.detect(model=fakes.FakeLooker(config=job["detect"]))
        else:
            opened.add(job["paths"])


def in_child(act: Any) -> int:
    """Run in a fork; returns the signal that ended it, 0 when it ended by itself."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001 - told, and the child ends whatever it was
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "the child failed"
    return 0


def outcome(library: Path) -> dict[str, Any]:
    with Library.open(library, encoder=fakes.FakeEncoder(), reader=fakes.FakeReader()) as opened:
        files = fakes.state_of(library)
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        problems = [finding.message for finding in opened.verify().problems]
        everything = [str(path.relative_to(library)) for path in sorted(library.rglob("*"))]
        log = library / "logs" / "ingest.jsonl"
        return {
            "dump": opened.dump(),
            "files": digest,
            "names": sorted(files),
            "problems": problems,
            "everything": everything,
            "log": log.read_text(encoding="utf-8") if log.exists() else "",
        }


def kill_points(job: dict[str, Any]) -> None:
    if job.get("detect"):
        import trifocal.action  # noqa: F401 - once here, not in each child
    scratch = Path(job["scratch"])
    results = []
    for step in job["steps"]:
        library = scratch / f"step-{step}"
        shutil.copytree(job["base"], library)
        seen: list[str] = []

        def trace(name: str, *, at: int = step, seen: list[str] = seen) -> None:
            seen.append(name)
            if len(seen) == at + 1:
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        killed = in_child(lambda library=library, trace=trace: work(library, job, trace=trace))
        assert killed in (0, signal.SIGKILL)
        in_child(lambda library=library: work(library, job.get("then", job)))
        results.append({"step": step, "killed": bool(killed), **outcome(library)})
        shutil.rmtree(library)
    json.dump(results, sys.stdout)


def random_kills(job: dict[str, Any]) -> None:
    scratch, seeded = Path(job["scratch"]), random.Random(job["seed"])
    whole, library = scratch / "whole", scratch / "killed"
    shutil.copytree(job["base"], whole)
    began = time.monotonic()
    in_child(lambda: work(whole, job))
    took = time.monotonic() - began
    shutil.copytree(job["base"], library)
    held: list[int] = []
    finished = 0
    while len(held) < job["kills"]:
        pid = os.fork()
        if pid == 0:
            work(library, job)
            os._exit(0)
        time.sleep(seeded.uniform(0, 0.6 * took))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            with Library.open(library, encoder=fakes.FakeEncoder(), reader=fakes.FakeReader()) as opened:
                held.append(len(opened.videos()))
                opened.find("anything")
        else:
            finished += 1
            shutil.rmtree(library)
            shutil.copytree(job["base"], library)
    in_child(lambda: work(library, job))
    json.dump({"held": held, "finished": finished, "killed": outcome(library), "whole": outcome(whole)}, sys.stdout)


def poison(job: dict[str, Any]) -> None:
    whole = fakes.FakeReader.open

    def deadly(self: Any, path: Any, **options: Any) -> Any:
        if Path(path).name == job["name"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, path, **options)

    fakes.FakeReader.open = deadly
    json.dump([in_child(lambda: work(Path(job["library"]), job)) for _ in range(job["times"] + 1)], sys.stdout)


if __name__ == "__main__":
    JOB = json.loads(sys.argv[1])
    VERBS = {"kill_points": kill_points, "random_kills": random_kills, "poison": poison}
    if JOB["verb"] == "add":
        work(Path(JOB["library"]), JOB)
    else:
        VERBS[JOB["verb"]](JOB)
