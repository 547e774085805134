"""Files: JSON and mp4 written whole, read again, regenerated alike; collections resumed and repeatable."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal import video
from trifocal.errors import InvalidInput
from trifocal.playground import (
    collection_specs,
    compose,
    load,
    make_collection,
    regenerate,
    render,
    to_json,
    truth,
    truth_to_json,
    write,
)


def test_write_and_load(tmp_path: Path) -> None:
    spec = compose(4, duration_s=3, size=(64, 96), fps=8)
    path = write(spec, tmp_path / "new" / "folder", name="clip")
    record = load(path)
    assert path.name == "clip.json"
    assert record.spec == spec
    assert record.video.name == "clip.mp4"
    assert record.video.stat().st_size > 1000
    assert truth_to_json(record.truth) == truth_to_json(truth(spec))
    assert sorted(p.name for p in path.parent.iterdir()) == ["clip.json", "clip.mp4"]
    data = json.loads(path.read_text())
    assert (data["format"], data["version"], data["seed"]) == ("trifocal-playground", 1, 4)


@pytest.mark.parametrize("size", [(64, 96), (63, 95)])
def test_the_mp4_shows_the_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    spec = compose(4, duration_s=2, size=size, fps=8)
    record = load(write(spec, tmp_path))
    with video.open(record.video, isolated=False) as clip:
        frames = clip.read(video.Sampling.every())
    assert len(frames.times_s) == spec.frame_count == 16
    np.testing.assert_allclose(frames.times_s, np.arange(16) / 8, atol=1e-3)
    height, width = size  # H.264 wants even sides: the writer adds a row or a column at the end
    assert frames.images.shape[1:3] == (height + height % 2, width + width % 2)
    drawn = np.stack(list(render(spec))).astype(int)
    assert np.abs(frames.images[:, :height, :width].astype(int) - drawn).mean() < 8


def test_regenerate_writes_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Any]] = []
    real = video.write_mp4

    def spy(path: Path, frames: Any, *, fps: float) -> int:
        kept = list(frames)
        seen.append(kept)
        return real(path, kept, fps=fps)

    monkeypatch.setattr(video, "write_mp4", spy)
    path = write(compose(4, duration_s=2, size=(64, 64), fps=8), tmp_path)
    path.with_suffix(".mp4").unlink()
    assert regenerate(path) == path.with_suffix(".mp4")
    assert regenerate(path, target=tmp_path / "copy.mp4") == tmp_path / "copy.mp4"
    assert path.with_suffix(".mp4").stat().st_size > 500
    assert len(seen) == 3
    for again in seen[1:]:
        np.testing.assert_array_equal(np.stack(again), np.stack(seen[0]))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../evil"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="name is"):
        write(compose(1, duration_s=1, size=(32, 32), fps=2), tmp_path, name=name)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, "cannot be read"),
        ("not json", "is not JSON"),
        ("[1]", "is not the JSON of a playground video"),
        ('{"format": "other"}', "is not the JSON of a playground video"),
        ('{"format": "trifocal-playground", "version": 7}', "has version 7"),
        ('{"format": "trifocal-playground", "version": 1}', "lacks spec or truth"),
    ],
)
def test_files_that_are_not_ours(tmp_path: Path, text: str | None, names: str) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match=names):
        load(path)


def test_a_damaged_truth_is_named(tmp_path: Path) -> None:
    path = write(compose(4, duration_s=1, size=(32, 32), fps=4), tmp_path)
    data = json.loads(path.read_text())
    del data["truth"]["captions"]
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInput, match="is damaged"):
        load(path)


def test_a_collection_is_complete_and_resumed(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "count": 3, "seed": 5, "duration_s": (2.0, 4.0), "size": (48, 64), "fps": 6, "themes": (None, "cyclist"),
    }  # fmt: skip
    calls: list[tuple[int, int, str]] = []
    videos = make_collection(
        tmp_path, **arguments, progress=lambda done, total, name: calls.append((done, total, name))
    )
    assert [path.name for path in videos] == ["000-mixed.mp4", "001-cyclist.mp4", "002-mixed.mp4"]
    assert [call[:2] for call in calls] == [(1, 3), (2, 3), (3, 3)]
    index = json.loads((tmp_path / "index.json").read_text())
    assert [entry["video"] for entry in index["videos"]] == [path.name for path in videos]
    with (tmp_path / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", "start_s", "end_s", "caption"]
    assert {row["video"] for row in rows} == {path.name for path in videos}
    assert all(float(row["start_s"]) < float(row["end_s"]) for row in rows)
    questions = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    assert all(q["answer"] in q["choices"] for q in questions)

    # An encoder may choose other bytes for the same frames, so only what we write ourselves is compared.
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".mp4"}
    times = {path.name: path.stat().st_mtime_ns for path in videos}
    videos[0].write_bytes(videos[0].read_bytes()[:100])  # cut short
    videos[1].with_suffix(".json").unlink()  # killed between mp4 and JSON
    (tmp_path / "index.json").unlink()
    make_collection(tmp_path, **arguments)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".mp4"} == before
    for path in videos:
        with video.open(path, isolated=False) as clip:
            assert len(clip.read(video.Sampling.every()).times_s) == load(path.with_suffix(".json")).spec.frame_count
    assert videos[2].stat().st_mtime_ns == times["002-mixed.mp4"]


def test_collections_of_neighbouring_seeds_share_no_video() -> None:
    one = collection_specs(count=20, seed=0, size=(32, 32))
    two = collection_specs(count=20, seed=1, size=(32, 32))
    assert not {spec.seed for _, spec in one} & {spec.seed for _, spec in two}
    longer = collection_specs(count=25, seed=0, size=(32, 32))
    assert [to_json(spec) for _, spec in longer[:20]] == [to_json(spec) for _, spec in one]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"count": 0}, "count is 0"),
        ({"seed": -3}, "seed is -3"),
        ({"duration_s": (5.0, 2.0)}, "duration_s"),
        ({"themes": ()}, "themes is empty"),
        ({"themes": ("lava",)}, "lava"),
        ({"size": (8, 8)}, "size"),
    ],
)
def test_wrong_arguments_of_a_collection(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        make_collection(tmp_path, **({"count": 1, "seed": 0} | change))
    assert not list(tmp_path.iterdir())


def test_the_same_description_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = compose(7, duration_s=10, size=(120, 214), fps=25, theme="cows in the meadow")
    made = {load(write(spec, tmp_path / str(run))).video.read_bytes() for run in range(4)}
    assert len(made) == 1
