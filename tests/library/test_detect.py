"""`detect` on a library: tubes are kept, whole or not at all, and go with their videos (SECURITY 13 and 17)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.action import ActionModel, DetectConfig, Detector, DetectorConfig, VitConfig, WatchConfig, detect
from trifocal.errors import InvalidInput, LibraryDamaged, NotInLibrary
from trifocal.library import DetectProgress, Library, LibrarySettings
from trifocal.library.catalogue import CATALOGUE_NAME
from trifocal.library.looker import ModelLooker, fingerprint
from trifocal.library.schema import MIGRATIONS

SCRIPT = Path(__file__).with_name("ingest_process.py")
TABLES = ("detections", "tubes", "tube_actions")


@pytest.fixture
def library(lab: Any) -> Library:
    for number in range(4):
        lab.video(f"{number}.mp4", seed=number)
    made: Library = lab.create()
    made.add(lab.home)
    return made


def counts(library: Library) -> list[int]:
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        found = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]
    connection.close()
    return found


def sql(library: Library, *statements: str) -> None:
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def named(library: Library, name: str) -> str:
    return next(record.id for record in library.videos() if Path(record.paths[0]).name == name)


def test_tubes_come_back_as_they_were(library: Library, lab: Any, make_looker: Any) -> None:
    looker = make_looker()
    told: list[DetectProgress] = []
    report = library.detect(model=looker, progress=told.append)
    assert (len(report.detected), report.unchanged, report.failed, report.model) == (4, (), (), looker.id)
    assert looker.looked == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert (told[-1].done_videos, told[-1].total_videos, told[-1].video) == (4, 4, "")
    assert max(one.at_s for one in told) == 3.5
    library.close()
    library = lab.open()
    for record in library.videos():
        seen = looker.look(record.paths[0], video=record.id, limits=None, progress=lambda *_: None)
        (kept,) = library.detected(record.id)
        assert (kept.model, kept.caveat, kept.warnings) == ("fake", seen.caveat, ("it is dark",))
        assert (kept.width, kept.height, kept.moments, kept.end_s) == (64, 48, 8, 3.5)
        tubes = library.tubes(record.id)
        assert [tube.actor for tube in tubes] == [1, 2]
        for tube, old in zip(tubes, seen.tubes, strict=True):
            assert tube.video == record.id
            assert list(tube.actions) == list(old.actions)
            np.testing.assert_array_equal(tube.times_s, old.times_s)
            np.testing.assert_array_equal(tube.boxes_xyxy, old.boxes_xyxy)
            for name, scores in tube.actions.items():
                np.testing.assert_array_equal(scores, old.actions[name])
    assert library.verify(sources=True).ok
    assert json.loads(json.dumps(report.to_dict()))["detected"][0]["tubes"] == 2


def test_what_was_seen_is_not_looked_at_again(library: Library, make_looker: Any) -> None:
    looker = make_looker()
    first = library.detect(named(library, "1.mp4"), model=looker)
    assert len(first.detected) == 1
    second = library.detect(model=looker)
    assert (len(second.detected), second.unchanged) == (3, first.detected)
    dump = library.dump()
    assert library.detect(model=make_looker()).detected == ()
    assert len(library.detect(model=make_looker(), again=True).detected) == 4
    assert library.dump() == dump
    # In another way: what was seen is replaced.
    other = library.detect(model=make_looker(config='{"every": 1}'))
    assert len(other.detected) == 4
    assert counts(library) == [4, 8, 12]
    assert library.dump() != dump
    # Another detector: beside it.
    library.detect(model=make_looker("other", classes=("run", "jump")))
    assert [one.name for one in library.detections(named(library, "1.mp4"))] == ["fake", "other"]
    assert len(library.tubes(named(library, "1.mp4"))) == 4
    assert len(library.tubes(named(library, "1.mp4"), model="other")) == 2
    assert library.actions() == ["jump", "run", "walk", "wave"]
    assert library.forget_detector("other") == 4
    assert counts(library) == [4, 8, 12]
    with pytest.raises(InvalidInput, match="Those that have: fake"):
        library.forget_detector("other")


def test_copies_and_reindexing_keep_tubes(library: Library, lab: Any, make_looker: Any) -> None:
    library.detect(model=make_looker())
    before = [library.tubes(record.id)[0].boxes_xyxy.tobytes() for record in library.videos()]
    shutil.copy(lab.home / "0.mp4", lab.home / "copy.mp4")
    library.add(lab.home)
    assert library.reindex(settings=LibrarySettings(prototypes=2, batch_size=4, thumbnail_size=16)).swapped
    assert [library.tubes(record.id)[0].boxes_xyxy.tobytes() for record in library.videos()] == before
    assert library.detect(model=make_looker()).detected == ()
    assert library.verify().ok


def test_files_that_cannot_be_looked_at(library: Library, lab: Any, make_looker: Any) -> None:
    (lab.home / "0.mp4").unlink()
    (lab.home / "1.mp4").write_text("FAKE 4 99\n")
    looker = make_looker()
    honest = looker.look

    def look(path: str, **options: Any) -> Any:
        if path.endswith("2.mp4"):
            Path(path).write_text("BAD unreadable\n")
        seen = honest(path, **options)
        if path.endswith("3.mp4"):
            Path(path).write_text("FAKE 9 9\n")
        return seen

    looker.look = look
    report = library.detect(model=looker)
    assert report.detected == ()
    codes = [failure.code for failure in report.failed]
    assert codes == ["video_not_found", "video_not_found", "video_unreadable", "changed_while_read"]
    assert counts(library) == [0, 0, 0]
    with pytest.raises(NotInLibrary):
        library.detect("nothing", model=looker)
    with pytest.raises(InvalidInput, match="beside a looker"):
        library.detect(model=looker, config=DetectConfig())


def test_17_tubes_go_with_their_video(library: Library, make_looker: Any) -> None:
    library.detect(model=make_looker())
    record = library.videos()[0]
    secrets = [
        part.tobytes() for tube in library.tubes(record.id) for part in (tube.boxes_xyxy, *tube.actions.values())
    ]
    library.remove(record.id)
    assert counts(library) == [3, 6, 9]
    library.close()
    left = b"".join(path.read_bytes() for path in library.folder.rglob("*") if path.is_file())
    assert record.id.encode() not in left
    others = [secret for secret in secrets if secret in left]
    assert others == []


def test_17_what_is_replaced_or_forgotten_is_gone(library: Library, make_looker: Any) -> None:
    library.detect(model=make_looker())
    secret = library.tubes(named(library, "2.mp4"))[0].boxes_xyxy.tobytes()
    library.detect(model=make_looker(config='{"every": 1}'))
    replaced = library.tubes(named(library, "2.mp4"))[0].boxes_xyxy.tobytes()
    assert replaced != secret
    library.forget_detector("fake")
    library.close()
    left = b"".join(path.read_bytes() for path in library.folder.rglob("*") if path.is_file())
    assert secret not in left
    assert replaced not in left


def test_an_older_library_opens(library: Library, lab: Any, make_looker: Any) -> None:
    """A catalogue of the version before tubes, to the statement, is brought to this one."""
    expected = library.find("x")
    library.close()
    sql(library, *(f"DROP TABLE {table}" for table in reversed(TABLES)), "PRAGMA user_version = 2")
    library = lab.open()
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()
    assert library.find("x") == expected
    assert library.detections() == []
    assert len(library.detect(model=make_looker()).detected) == 4
    assert library.verify().ok


DAMAGE: dict[str, str] = {
    "a score": "UPDATE tube_actions SET scores = zeroblob(32) WHERE number = 0 AND place = 0",
    "scores cut": "UPDATE tube_actions SET scores = x'00' WHERE number = 0 AND place = 0",
    "boxes cut": "UPDATE tubes SET boxes = x'0000' WHERE number = 1",
    "times fall": "UPDATE tubes SET times = zeroblob(64) WHERE number = 1",
    "a tube gone": "DELETE FROM tube_actions WHERE number = 1; DELETE FROM tubes WHERE number = 1",
    "an action gone": "DELETE FROM tube_actions WHERE number = 1",
    "an actor renamed": "UPDATE tubes SET actor = 7 WHERE number = 1",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_13_damaged_tubes_are_found_and_made_again(library: Library, make_looker: Any, name: str) -> None:
    library.detect(model=make_looker())
    before, video = library.dump(), named(library, "3.mp4")
    sql(
        library,
        *(f"{part} {'AND' if 'WHERE' in part else 'WHERE'} video = '{video}'" for part in DAMAGE[name].split(";")),
    )
    found = library.verify()
    assert [(finding.kind, finding.subject.split("/")[0]) for finding in found.problems] == [("tubes", video)]
    with pytest.raises(LibraryDamaged, match="repair"):
        library.tubes(video)
    report = library.repair()
    assert report.after.ok
    assert any(f"trifocal detect {video}" in line for line in report.lost)
    assert library.tubes(video) == []
    assert len(library.detect(model=make_looker()).detected) == 1
    assert library.dump() == before


@pytest.mark.parametrize("table", ["videos", "detections", "tubes"])
def test_13_rows_without_their_counterpart(library: Library, lab: Any, make_looker: Any, table: str) -> None:
    library.detect(model=make_looker())
    before, key = library.dump(), "id" if table == "videos" else "video"
    sql(library, f"DELETE FROM {table} WHERE {key} = '{named(library, '0.mp4')}'")
    assert not library.verify().ok
    library.close()
    library = lab.open(damaged=True)
    assert library.repair().after.ok
    library.add(lab.home)
    assert len(library.detect(model=make_looker()).detected) == 1
    assert library.dump() == before


def test_salvage_brings_tubes_along(library: Library, lab: Any, make_looker: Any) -> None:
    library.detect(model=make_looker())
    before = library.dump()
    library.close()
    (library.folder / CATALOGUE_NAME).rename(library.folder / f"{CATALOGUE_NAME}.damaged")
    library = lab.open(damaged=True)
    assert library.repair().after.ok
    assert library.dump() == before
    assert counts(library) == [4, 8, 12]


@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replaced"])
def test_13_detect_killed_at_every_write_point(library: Library, lab: Any, make_looker: Any, replaced: bool) -> None:
    """Each video has the old tubes, or the new ones, or none; run again, the end is as if nothing had happened."""
    library.remove([named(library, "2.mp4"), named(library, "3.mp4")])
    if replaced:
        library.detect(model=make_looker())
    library.close()
    library.folder.rename(lab.folder / "base")
    shutil.copytree(lab.folder / "base", lab.folder / "count")
    steps: list[str] = []
    whole = lab.open("count", trace=steps.append)
    whole.detect(model=make_looker(config='{"every": 1}'))
    own = [name for name in steps if name.startswith("detect.")]
    assert own == ["detect.video", "detect.video.committed", "detect.video.logged"] * 2
    job = {
        "verb": "kill_points", "base": str(lab.folder / "base"), "scratch": str(lab.folder),
        "detect": '{"every": 1}', "steps": [*range(len(steps)), 10_000],
    }  # fmt: skip
    done = subprocess.run([sys.executable, str(SCRIPT), json.dumps(job)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for result in json.loads(done.stdout):
        where = f"killed at step {result['step']}"
        assert result["killed"] is (result["step"] < len(steps)), where
        assert result["dump"] == whole.dump(), where
        assert result["problems"] == [], where


@pytest.fixture(scope="module")
def model() -> ActionModel:
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone=VitConfig(width=48, depth=1, heads=4, grid=14, drop_path=0.0),
        frames=4, frame_stride=2, short_side=32, classes=2, actors=2, width=32, heads=4, feedforward=32,
        encoder_layers=1, decoder_layers=1, points=2,
    )  # fmt: skip
    detector = Detector(config).eval()
    with torch.no_grad():
        for name, one in detector.named_parameters():
            if "person" in name and name.endswith("bias"):
                one.copy_(torch.tensor([-5.0, 5.0, -5.0]))  # everything is somebody
    return ActionModel(detector, ("walk", "wave"), fps=10.0, name="tiny", caveat="It knows nothing.")


def test_a_real_detector(lab: Any, model: ActionModel, real_videos: Path, make_reader: Callable[..., Any]) -> None:
    library = lab.create(reader=None)
    library.add(sorted(real_videos.iterdir())[:2])
    config = DetectConfig(watch=WatchConfig(every=4))
    report = library.detect(model=model, config=config)
    assert len(report.detected) == 2
    assert report.model == fingerprint(model)
    for record in library.videos():
        seen = detect(record.paths[0], model=model, name=record.id, config=config)
        assert len(seen.tubes) >= 1
        (kept,) = library.detected(record.id, model="tiny")
        assert kept.to_dict() == seen.to_dict()
    assert library.detect(model=model, config=config).detected == ()
    assert len(library.detect(model=model).detected) == 2


def test_a_detector_is_known_by_what_it_is_made_of(model: ActionModel, tmp_path: Path) -> None:
    loaded = ActionModel.load(model.save(tmp_path / "same"))
    assert fingerprint(loaded) == fingerprint(model) == ModelLooker(model).id
    renamed = ActionModel(model.detector, ("run", "wave"), fps=10.0)
    assert fingerprint(renamed) != fingerprint(model)
    with torch.no_grad():
        loaded.detector.level_code[0, 0] += 1
    assert fingerprint(loaded) != fingerprint(model)
    assert ModelLooker(model).config == ModelLooker(model, config=DetectConfig()).config
    assert ModelLooker(model).config != ModelLooker(model, config=DetectConfig(linker="online")).config
