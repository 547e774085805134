"""Indexing again: beside, resumable, swapped at once; two spaces never meet; killed at every write (SECURITY 15)."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trifocal.errors import EncoderMismatch, InvalidInput
from trifocal.library import Library


def filled(lab: Any, count: int = 3) -> Library:
    for number in range(count):
        lab.video(f"{number}.mp4", seconds=4, seed=number)
    library: Library = lab.create()
    library.add(lab.home)
    return library


def as_it_is(folder: Path, lab: Any, make_encoder: Any, **options: Any) -> tuple[Library, str]:
    """The library in `folder`, opened with whichever of the two encoders it has now."""
    for name, dim in (("fake-1", 24), ("fake-2", 12)):
        try:
            opened = Library.open(folder, encoder=make_encoder(name, dim=dim), reader=lab.reader, **options)
        except EncoderMismatch:
            continue
        return opened, name
    raise AssertionError("the library has neither encoder")


def test_another_encoder(lab: Any, make_encoder: Any, contents_of: Any) -> None:
    library = filled(lab)
    ids = [record.id for record in library.videos()]
    other = lab.open()
    assert other.find("x")
    report = library.reindex(encoder=make_encoder("fake-2", dim=12))
    assert (report.swapped, report.videos, report.kept, report.failed) == (True, 3, 0, ())
    assert library.encoder_identity.id == "fake-2"
    assert [record.id for record in library.videos()] == ids
    assert library.prototypes(ids[0]).dim == 12
    assert len(library.find("x")) == 3
    assert library.verify().findings == ()
    # One that was open is told so, for reading and for writing.
    with pytest.raises(EncoderMismatch, match="again"):
        other.find("x")
    with pytest.raises(EncoderMismatch, match="again"):
        other.add(lab.home)
    with pytest.raises(EncoderMismatch, match="again"):
        other.remove(ids[0])
    with pytest.raises(EncoderMismatch):
        lab.open()
    # What there was is gone from the disk; what comes later goes to the new place.
    files = contents_of(library.folder)
    assert not [name for name in files if not name.startswith("cache")]
    assert len(list((library.folder / "spaces" / "1" / "prototypes").iterdir())) == 3
    lab.video("new.mp4", seconds=3, seed=9)
    library.add(lab.home)
    library.remove(ids[1])
    assert len(library.find("x")) == 3
    assert library.verify().findings == ()
    assert library.reindex(encoder=make_encoder("fake-3")).swapped
    assert [path.name for path in (library.folder / "spaces").iterdir()] == ["2"]
    library.close()
    again = Library.open(library.folder, encoder=make_encoder("fake-3"), reader=lab.reader)
    assert len(again.find("x")) == 3
    again.close()


def test_other_settings(lab: Any) -> None:
    library = filled(lab)
    with pytest.raises(InvalidInput, match="already"):
        library.reindex()
    library.reindex(settings=replace(library.settings, prototypes=2, prototype_method="kmeans", clip_tokens="int8"))
    assert all(record.prototypes == 2 for record in library.videos())
    tokens = library.tokens(library.videos()[0].id)
    assert tokens is not None
    assert len(tokens) == 8
    assert len(library.find("x", moments_per_video=2)) == 6
    assert library.verify().findings == ()
    assert lab.open().settings == library.settings


def test_what_cannot_be_encoded_stops_the_swap(lab: Any, make_encoder: Any) -> None:
    library = filled(lab)
    (lab.home / "1.mp4").unlink()
    before = library.dump()
    report = library.reindex(encoder=make_encoder("fake-2", dim=12))
    assert not report.swapped
    assert report.videos == 2
    assert [Path(failure.path).name for failure in report.failed] == ["1.mp4"]
    assert library.dump() == before
    assert len(library.find("x", include_missing=True)) == 3
    assert all(not finding.problem or finding.kind == "file_missing" for finding in library.verify().findings)
    assert "reindex" in str(library.verify().findings)
    report = library.reindex(encoder=make_encoder("fake-2", dim=12), leave_out=True)
    assert (report.swapped, report.videos, report.kept) == (True, 0, 2)
    assert len(library.videos()) == len(library.find("x")) == 2
    assert library.verify().findings == ()


def test_another_aim_starts_over(lab: Any, make_encoder: Any) -> None:
    library = filled(lab)
    (lab.home / "1.mp4").unlink()
    library.reindex(encoder=make_encoder("fake-2", dim=12))
    lab.video("1.mp4", seconds=4, seed=1)
    library.add(lab.home)
    report = library.reindex(encoder=make_encoder("fake-3", dim=6))
    assert (report.swapped, report.videos, report.kept) == (True, 3, 0)
    assert library.prototypes(library.videos()[0].id).dim == 6
    assert library.verify().findings == ()


def test_15_killed_at_every_write_point(lab: Any, make_encoder: Any) -> None:
    base = filled(lab, 2)
    base.find("x")
    old = base.dump()
    base.close()
    whole = lab.folder / "whole"
    shutil.copytree(base.folder, whole)
    steps: list[str] = []
    with Library.open(whole, encoder=make_encoder(), reader=lab.reader, trace=steps.append) as library:
        library.reindex(encoder=make_encoder("fake-2", dim=12))
        new, files = library.dump(), listing(whole)
    told = {"reindex.begun", "reindex.video.committed", "reindex.swapping", "reindex.swapped", "manifest.renamed"}
    assert told < set(steps)
    swapped = []
    for at, step in enumerate(steps):
        folder = lab.folder / f"step-{at}"
        shutil.copytree(base.folder, folder)
        kill_at(folder, at, lab, make_encoder)
        left, name = as_it_is(folder, lab, make_encoder)
        swapped.append(name == "fake-2")
        assert left.dump() == (new if swapped[-1] else old), step
        assert len(left.find("x")) == 2, step
        left_over = {finding.kind for finding in left.verify().problems}
        assert left_over <= {"stray", "unfinished", "settings"}, step
        if swapped[-1]:
            left.add(lab.home)  # any writer tidies up
        else:
            assert left.reindex(encoder=make_encoder("fake-2", dim=12)).swapped, step
        assert left.dump() == new, step
        assert left.verify().findings == (), step
        assert len(left.find("x")) == 2
        left.close()
        assert listing(folder) == files, step
        shutil.rmtree(folder)
    assert swapped == sorted(swapped)
    assert swapped[-1]
    assert not swapped[steps.index("reindex.swapping")]
    assert swapped[steps.index("reindex.swapped")]


def listing(folder: Path) -> list[str]:
    """Names and sizes of what has to be equal, but for the index, the log and the catalogue."""
    skipped = ("index", "logs", "catalogue")
    found = (path for path in folder.rglob("*") if not str(path.relative_to(folder)).startswith(skipped))
    return sorted(f"{path.relative_to(folder)} {path.stat().st_size if path.is_file() else ''}" for path in found)


def kill_at(folder: Path, at: int, lab: Any, make_encoder: Any) -> None:
    pid = os.fork()
    if pid == 0:
        seen = 0

        def trace(_: str) -> None:
            nonlocal seen
            seen += 1
            if seen == at + 1:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with Library.open(folder, encoder=make_encoder(), reader=lab.reader, trace=trace) as library:
                library.reindex(encoder=make_encoder("fake-2", dim=12))
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
