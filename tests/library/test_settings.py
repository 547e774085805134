"""`trifocal.json`, and what is checked when a library is made or opened."""

from __future__ import annotations

import json
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from trifocal.errors import (
    EncoderMismatch,
    InvalidInput,
    LibraryDamaged,
    LibraryError,
    LibraryNotFound,
    ModelError,
)
from trifocal.library import EncoderIdentity, Library, LibrarySettings
from trifocal.library.catalogue import CATALOGUE_NAME
from trifocal.library.settings import MANIFEST_NAME, Manifest

GOOD = Manifest(library="ab", encoder=EncoderIdentity(id="e", dim=3, reference="default"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames_per_second", 0),
        ("frames_per_second", float("nan")),
        ("frames_per_second", 61),
        ("frames_per_second", True),
        ("max_frames", 0),
        ("max_frames", 1.5),
        ("prototypes", 1025),
        ("prototype_method", "magic"),
        ("clip_tokens", "some"),
        ("thumbnail_size", 8),
        ("batch_size", False),
    ],
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=name) as caught:
        LibrarySettings(**{name: value})
    assert caught.value.remedy


@pytest.mark.parametrize("values", [{"id": ""}, {"id": 3}, {"dim": 0}, {"dim": True}, {"reference": 3}])
def test_identity_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        EncoderIdentity(**{"id": "e", "dim": 3, **values})


def test_round_trip() -> None:
    assert Manifest.from_json(GOOD.to_json()) == GOOD
    assert list(json.loads(GOOD.to_json())) == sorted(json.loads(GOOD.to_json()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 2', '"format": 0'),
        ('"format": 2', '"format": "2"'),
        ('"dim": 3', '"dim": -3'),
        ('"library": "ab"', '"library": ""'),
        ('"prototypes": 32', '"prototypes": 0'),
        ('"prototypes"', '"prototype"'),
        ('"encoder": {', '"encoder": 3, "other": {'),
        ("{", "[", ),
        ('"format": 2,', ""),
        ('"revision": 0', '"revision": -1'),
        ('"revision": 0,', ""),
        ('"clip_tokens": "none"', '"clip_tokens": "all"'),
    ],
)  # fmt: skip
def test_a_damaged_manifest(old: str, new: str) -> None:
    assert old in GOOD.to_json()
    with pytest.raises(LibraryDamaged, match="repair"):
        Manifest.from_json(GOOD.to_json().replace(old, new, 1))


@pytest.mark.parametrize("method", ["adjacent", "coverage"])
def test_a_library_keeps_the_method_that_it_was_made_with(
    lab: Any, monkeypatch: pytest.MonkeyPatch, method: Literal["adjacent", "coverage"]
) -> None:
    """Whatever the default is when it is opened, and in a manifest of format 1 as well."""
    lab.video("a.mp4", seconds=20.0)
    library = lab.create(settings=LibrarySettings(prototypes=2, prototype_method=method))
    library.close()
    path = library.folder / MANIFEST_NAME
    assert json.loads(path.read_text())["settings"]["prototype_method"] == method
    monkeypatch.setattr(LibrarySettings.__init__, "__kwdefaults__", {
        **(LibrarySettings.__init__.__kwdefaults__ or {}), "prototype_method": "uniform",
    })  # fmt: skip
    assert LibrarySettings().prototype_method == "uniform"
    with lab.open() as opened:
        assert opened.settings.prototype_method == method
    old = json.loads(path.read_text())
    del old["revision"], old["settings"]["clip_tokens"]
    assert Manifest.from_json(json.dumps({**old, "format": 1})).settings.prototype_method == method


def test_a_later_format() -> None:
    with pytest.raises(LibraryError, match="Upgrade"):
        Manifest.from_json(GOOD.to_json().replace('"format": 2', '"format": 3'))


def test_a_manifest_of_format_1_has_no_tokens_and_no_revision() -> None:
    old = json.loads(GOOD.to_json())
    del old["revision"], old["settings"]["clip_tokens"]
    read = Manifest.from_json(json.dumps({**old, "format": 1}))
    assert read == replace(GOOD, format=1)
    assert (read.revision, read.settings.clip_tokens) == (0, "none")


def test_create_open(lab: Any) -> None:
    library = lab.create(settings=LibrarySettings(prototypes=7))
    assert stat.S_IMODE(library.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in library.folder.iterdir() if path.is_dir()) == [
        "cache",
        "index",
        "logs",
        "prototypes",
        "spaces",
        "thumbnails",
        "tmp",
        "tokens",
    ]
    assert (library.settings.prototypes, library.encoder_identity.id, library.read_only) == (7, "fake-1", False)
    assert "fake-1" in repr(library)
    assert lab.open().settings == library.settings
    with pytest.raises(InvalidInput, match="a library already"):
        lab.create()


@pytest.mark.parametrize("name", ["nowhere", "videos", "file"])
def test_no_library_there(lab: Any, name: str) -> None:
    (lab.folder / "file").write_text("x")
    with pytest.raises(LibraryNotFound):
        lab.open(name)


def test_a_file_is_no_place_for_a_library(lab: Any) -> None:
    (lab.folder / "library").write_text("x")
    with pytest.raises(InvalidInput, match="not a folder"):
        lab.create()


def test_killed_while_being_made(lab: Any) -> None:
    """Without `trifocal.json` it is none yet, and is made anew; but not over videos."""
    library = lab.create()
    library.close()
    (library.folder / MANIFEST_NAME).unlink()
    library = lab.create()
    lab.video("a.mp4")
    library.add(lab.home)
    library.close()
    (library.folder / MANIFEST_NAME).unlink()
    with pytest.raises(LibraryDamaged, match="repair"):
        lab.create()
    assert len(lab.open(damaged=True).videos()) == 1


@pytest.mark.parametrize("where", ["Lease.acquire", "contents.set_meta", "Store.write_file"])
def test_13_making_it_killed_at_every_write_point(lab: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Until it is made, `open` finds none there, and `create` makes it."""

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"trifocal.library.library.{where}", die)
        with pytest.raises(Killed):
            lab.create()
    assert (lab.folder / "library" / CATALOGUE_NAME).exists()
    with pytest.raises(LibraryNotFound):
        lab.open()
    assert lab.create().videos() == []


def test_two_make_it_at_once(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second does not write over the library of who was first, however long loading the encoder took."""
    first: list[str] = []

    def slow(_: str, *, device: str) -> Any:
        first.append(lab.create().dump())
        return lab.encoder

    monkeypatch.setattr("trifocal.library.library.load_named_encoder", slow)
    with pytest.raises(InvalidInput, match="a library already"):
        lab.create(encoder="default")
    assert lab.open().dump() == first[0]


def test_manifest_of_another_library(lab: Any) -> None:
    one, two = lab.create("one"), lab.create("two")
    one.close()
    (one.folder / MANIFEST_NAME).write_bytes((two.folder / MANIFEST_NAME).read_bytes())
    with pytest.raises(LibraryDamaged, match="do not belong together"):
        lab.open("one")


def test_15_another_encoder_is_refused(lab: Any, make_encoder: Any) -> None:
    lab.create()
    for other in (make_encoder("fake-2"), "default", "openai/clip-vit-base-patch32"):
        with pytest.raises(EncoderMismatch, match="fake-1") as caught:
            lab.open(encoder=other)
        assert "new library" in caught.value.remedy
    with pytest.raises(ModelError, match="dimensions"):
        lab.open(encoder=make_encoder("fake-1", dim=8))


def test_the_recorded_encoder_is_loaded_at_the_first_need(
    lab: Any, make_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trifocal.retrieval

    asked: list[str] = []

    def load(name: str, *, device: str = "cpu") -> Any:
        asked.append(name)
        return make_encoder("fake-1" if len(asked) < 4 else "fake-2")

    monkeypatch.setattr(trifocal.retrieval, "load_encoder", load)
    lab.video("a.mp4")
    library = lab.create(encoder="org/model")
    assert asked == ["org/model"]
    library.close()
    library = lab.open(encoder=None)
    library.add(lab.home / "nothing")
    library.videos()
    assert asked == ["org/model"]
    library.add(lab.home)
    library.find("x")
    library.find("y")
    assert asked == ["org/model"] * 2
    assert lab.open(encoder="org/model").find("x") == library.find("x")
    with pytest.raises(EncoderMismatch, match="fake-2"):
        lab.open(encoder=None).find("x")


def test_an_encoder_object_must_be_given_again(lab: Any) -> None:
    lab.video("a.mp4")
    lab.create().add(lab.home)
    library: Library = lab.open(encoder=None)
    assert len(library.videos()) == 1
    with pytest.raises(EncoderMismatch, match="no name") as caught:
        library.find("x")
    assert "encoder=" in caught.value.remedy


def test_a_catalogue_of_a_later_version_that_may_not_be_written(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    library = lab.create()
    library.close()
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(LibraryError, match="version 99"):
        lab.open()


def test_a_catalogue_of_a_later_version(lab: Any) -> None:
    import sqlite3

    library = lab.create()
    library.close()
    with sqlite3.connect(library.folder / CATALOGUE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LibraryError, match="Upgrade"):
        lab.open()
    with pytest.raises(LibraryError, match="Upgrade"):
        lab.open(damaged=True)
    assert Path(library.folder / CATALOGUE_NAME).exists()
