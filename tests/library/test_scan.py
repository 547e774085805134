"""Which files an `add` means: folders, globs, links and names, and which roots the library keeps of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.library.conftest import names

from trifocal.errors import InvalidInput


def test_a_name_that_is_not_utf8(lab: Any) -> None:
    lab.video("good.mp4", seed=1)
    odd = os.fsencode(lab.home) + b"/b\xff.mp4"
    Path(os.fsdecode(odd)).write_bytes(b"FAKE 4 2")
    library = lab.create()
    for paths in (lab.home, os.fsdecode(odd)):
        report = library.add(paths)
        assert [failure.code for failure in report.failed] == ["video_unsupported"]
        assert "Rename" in report.failed[0].remedy
        json.dumps(report.to_dict()).encode()
    assert len(library.videos()) == 1


@pytest.mark.parametrize(
    ("paths", "options", "expected"),
    [
        (["."], {}, ["a.mp4", "b.MKV", "c.mp4"]),
        (["."], {"recursive": False}, ["a.mp4"]),
        (["."], {"pattern": "c*"}, ["c.mp4"]),
        (["."], {"pattern": "*.dat"}, ["d.dat"]),
        (["."], {"pattern": "deep/*"}, ["b.MKV", "c.mp4"]),
        (["*.mp4"], {}, ["a.mp4"]),
        (["**/*.mp4"], {}, ["a.mp4", "c.mp4"]),
        (["*.dat"], {}, ["d.dat"]),
        (["*"], {}, ["a.mp4", "b.MKV", "c.mp4"]),
        (["*"], {"recursive": False}, ["a.mp4"]),
        (["d.dat"], {}, ["d.dat"]),
        (["deep", "deep/c.mp4", "deep/../deep"], {}, ["b.MKV", "c.mp4"]),
    ],
)
def test_which_files_are_meant(lab: Any, paths: list[str], options: dict[str, Any], expected: list[str]) -> None:
    lab.video("a.mp4", seed=1)
    lab.video("deep/b.MKV", seed=2)
    lab.video("deep/c.mp4", seed=3)
    lab.video("d.dat", seed=4)
    report = lab.create().add([lab.home / path for path in paths], **options)
    assert (names(report.added), report.failed) == (expected, ())


def test_a_file_named_like_a_glob_is_a_file(lab: Any) -> None:
    lab.video("[ab].mp4", seed=1)
    lab.video("a.mp4", seed=2)
    assert names(lab.create().add(lab.home / "[ab].mp4").added) == ["[ab].mp4"]


def test_the_library_inside_the_folder_is_passed_over(lab: Any) -> None:
    lab.video("a.mp4")
    library = lab.create("videos/library")
    library.folder.joinpath("cache", "clip.mp4").write_text("FAKE 4 9")
    assert names(library.add(lab.home).added) == ["a.mp4"]


def test_links(lab: Any) -> None:
    lab.video("in/a.mp4", seed=1)
    outside = lab.video("../outside/b.mp4", seed=2).resolve()
    (lab.home / "in" / "loop").symlink_to(lab.home)
    (lab.home / "in" / "self").symlink_to("self")
    (lab.home / "in" / "dangling.mp4").symlink_to("nowhere.mp4")
    (lab.home / "in" / "out").symlink_to(outside.parent)
    (lab.home / "in" / "file.mp4").symlink_to(outside)
    library = lab.create()
    assert names(library.add(lab.home).added) == ["a.mp4"]
    assert library.roots() == [str(lab.home)]
    report = library.add(lab.home, follow_symlinks=True)
    assert ([change.path for change in report.added], report.failed) == ([str(outside)], ())
    assert library.roots() == sorted([str(lab.home), str(outside.parent)])
    named = lab.create("other")
    assert [change.path for change in named.add(lab.home / "in" / "file.mp4").added] == [str(outside)]
    assert [failure.code for failure in named.add(lab.home / "in" / "self").failed] == ["video_not_found"]


def test_roots_are_the_widest_of_what_was_given(lab: Any) -> None:
    path = lab.video("one/a.mp4", seed=1)
    lab.video("one/b.mp4", seed=2)
    lab.video("one1/c.mp4", seed=3)
    library = lab.create()
    library.add(path)
    assert library.roots() == [str(path)]
    library.add(lab.home / "one")
    assert library.roots() == [str(lab.home / "one")]
    library.add([lab.home / "one1", lab.home / "one" / "b.mp4"])
    assert library.roots() == [str(lab.home / "one"), str(lab.home / "one1")]
    library.add(lab.home)
    assert library.roots() == [str(lab.home)]
    other = lab.create("other")
    other.add(lab.home)
    assert library.dump() == other.dump()


@pytest.mark.parametrize("kind", ["missing", "fifo", "device", "nothing matches"])
def test_paths_that_are_no_files(lab: Any, kind: str) -> None:
    path = {"missing": "no.mp4", "fifo": "pipe.mp4", "device": "/dev/null", "nothing matches": "*.nope"}[kind]
    if kind == "fifo":
        os.mkfifo(lab.home / path)
    library = lab.create()
    before = library.dump()
    report = library.add(lab.home / path)
    assert [failure.code for failure in report.failed] == ["video_not_found"]
    assert library.dump() == before


@pytest.mark.parametrize("paths", [[], "", ["a", ""], "a\0b"])
def test_no_path_at_all(lab: Any, paths: Any) -> None:
    with pytest.raises(InvalidInput):
        lab.create().add(paths)
