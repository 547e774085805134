from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trifocal import video as reader
from trifocal.errors import EncoderMismatch, InvalidInput
from trifocal.library import Library, LibrarySettings, Query
from trifocal.library.query import encode_query
from trifocal.retrieval import DocumentEncoder, FrameTextEncoder, TrainedEncoder, load_encoder, similarity
from trifocal.retrieval.data import (
    RetrievalData,
    encode_words,
    extract_features,
    read_own,
    with_durations,
    write_own_csv,
)
from trifocal.retrieval.data.captions import Caption, CaptionSet
from trifocal.retrieval.evaluation import evaluate
from trifocal.retrieval.model import PrototypeRetriever, preset
from trifocal.retrieval.train import find_config, train_find
from trifocal.retrieval.trained import ENCODER_FILE, write_encoder_file
from trifocal.video import write_mp4

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (220, 220, 220)}
SECONDS = 3


class Scrambled:
    """Frames as mean colours, texts as counts of words: two spaces that have nothing to do with each other."""

    id = "scrambled"
    dim = 4
    frame_size = (8, 8)

    def encode_frames(self, frames: Any) -> Any:
        means = np.concatenate([frames.mean(axis=(1, 2)) / 255 - 0.4, np.full((len(frames), 1), 0.2)], axis=1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def encode_query(self, texts: Sequence[str]) -> Any:
        counts = np.array([[0.1 + text.count(name) for name in reversed(COLOURS)] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def make_collection(folder: Path, *, count: int = 12) -> Path:
    """Videos of two colours each, three seconds a colour, and a table of captions."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    captions: list[Caption] = []
    pairs = [(one, other) for one in COLOURS for other in COLOURS if one != other]
    for number in range(count):
        first, second = pairs[number % len(pairs)]
        name = f"{number}.mp4"
        base = np.array([COLOURS[first]] * (10 * SECONDS) + [COLOURS[second]] * (10 * SECONDS))
        noise = rng.integers(-8, 8, size=(len(base), 32, 32, 3))
        write_mp4(folder / name, (base[:, None, None] + noise).clip(0, 255).astype(np.uint8), fps=10)
        for k, colour in enumerate((first, second)):
            moment = (float(SECONDS * k), SECONDS * (k + 1.0))
            captions.append(Caption(f"{name}#{k}", name, f"the screen is {colour}", (moment,)))
    table = folder / "captions.csv"
    write_own_csv(table, {"train": CaptionSet(tuple(captions))})
    return table


def own_data(table: Path, cache: Path) -> RetrievalData:
    """The collection, its frames encoded four times a second."""
    encoder, splits = Scrambled(), read_own(table)
    videos = {video: table.parent / video for video in splits["train"].videos()}
    features = extract_features(videos, encoder, cache=cache, frames_per_second=4)
    words = encode_words(encoder, {one.id: one.text for one in splits["train"]})
    return RetrievalData("own", features, words, with_durations(splits, features))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The table, and the folder of a model trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    table = make_collection(folder / "videos")
    encoder = Scrambled()
    data = own_data(table, folder / "cache")
    small = {"hidden": 16, "clips": 12, "window_max": 6, "prototypes": 6, "heads": 2}
    config = replace(find_config(changes=small, epochs=15, device="cpu"), stop_on="nothing", batch_videos=6)
    _, model = train_find(data, config, folder=folder / "run")
    write_encoder_file(folder / "run" / "model", base="default", base_id=encoder.id)
    report = evaluate(model, data, split="train")
    assert report.moments.peak_inside > 90
    return table, folder / "run" / "model"


def test_it_is_an_encoder_of_documents(trained: tuple[Path, Path]) -> None:
    encoder = TrainedEncoder(trained[1], base=Scrambled())
    assert isinstance(encoder, FrameTextEncoder)
    assert isinstance(encoder, DocumentEncoder)
    assert not isinstance(Scrambled(), DocumentEncoder)
    assert (encoder.dim, encoder.frame_dim, encoder.frame_size) == (16, 4, (8, 8))
    assert encoder.id.startswith("trained-")
    assert encoder.id.endswith("+scrambled")
    queries = encoder.encode_query(["the screen is red", "blue"])
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_query(["blue"])[0], queries[1], atol=1e-6)
    assert encoder.encode_query([]).shape == (0, 16)
    frames = np.full((8, 8, 8, 3), 200, np.uint8)
    made = encoder.encode_document(encoder.encode_frames(frames), times_s=np.arange(8) / 4, end_s=2.0)
    assert (made.dim, len(made)) == (16, 6)


def test_a_library_finds_by_it_at_the_right_place(trained: tuple[Path, Path], tmp_path: Path) -> None:
    table, folder = trained
    encoder = TrainedEncoder(folder, base=Scrambled())
    kept = LibrarySettings(clip_tokens="int8")
    with Library.create(tmp_path / "library", encoder=encoder, settings=kept) as library:
        report = library.add([str(table.parent)])
        assert len(report.failed) == 0
        names = {record.id: Path(record.paths[0]).name for record in library.videos()}
        truth = {(one.video, one.text.split()[-1]): one.moments_s[0] for one in read_own(table)["train"]}
        for colour in COLOURS:
            found = library.find(f"the screen is {colour}", top=6)
            right = [truth.get((names[one.video], colour)) for one in found]
            assert all(right)  # six videos have the colour, and they come first
            for one, moment in zip(found, right, strict=True):
                assert moment is not None
                np.testing.assert_allclose((one.start_s, one.end_s), moment, atol=0.3)  # a frame is half a second
        tokens = library.tokens(library.videos()[0].id)
        assert tokens is not None
        assert tokens.rows.dtype == np.int8
        assert tokens.rows.shape == (12, 16)
        for change in ({"prototypes": 8}, {"prototype_method": "uniform"}):
            with pytest.raises(InvalidInput, match="makes its own prototypes"):
                library.reindex(settings=replace(kept, **change))


def test_another_encoder_below_is_refused(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Scrambled):
        id = "other"

    with pytest.raises(EncoderMismatch, match="was trained on scrambled, and default is other"):
        TrainedEncoder(trained[1], base=Other())
    monkeypatch.setattr("trifocal.retrieval.semantic.SemanticEncoder", lambda **_: Scrambled())
    assert isinstance(load_encoder(str(trained[1])), TrainedEncoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.json": None}, "there is no .*encoder.json"),
        ({"encoder.json": "{"}, r"encoder\.json is not JSON"),
        ({"encoder.json": "[]"}, r"encoder\.json is None"),
        ({"encoder.json": '{"format": "trifocal-find-encoder", "version": 2}'}, "expected"),
        ({"model.safetensors": None}, r"there is no .*model\.safetensors"),
    ],
)
def test_broken_folders_are_told(
    trained: tuple[Path, Path], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    for path in trained[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name, content in change.items():
        (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=message):
        TrainedEncoder(tmp_path, base=Scrambled())


def test_the_id_changes_with_the_weights(trained: tuple[Path, Path], tmp_path: Path) -> None:
    for path in trained[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    assert TrainedEncoder(tmp_path, base=Scrambled()).id == TrainedEncoder(trained[1], base=Scrambled()).id
    (tmp_path / "config.json").write_text(json.dumps(config | {"margin": 0.3}))
    assert TrainedEncoder(tmp_path, base=Scrambled()).id != TrainedEncoder(trained[1], base=Scrambled()).id
    assert (tmp_path / ENCODER_FILE).is_file()


@pytest.mark.parametrize(("model", "hidden"), [("default", 4), ("default", 16), ("paper", 16)])
def test_pictures_and_clips_are_looked_for_in_the_space_of_the_queries(
    model: str, hidden: int, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    data = own_data(trained[0], trained[0].parent / "cache")
    torch.manual_seed(0)
    small = {"hidden": hidden, "clips": 12, "window_max": 6, "prototypes": 6, "heads": 2}
    PrototypeRetriever(preset(model, video_dim=4, text_dim=4, **small)).save_pretrained(tmp_path / "model")
    write_encoder_file(tmp_path / "model", base="default", base_id=Scrambled.id)
    encoder = TrainedEncoder(tmp_path / "model", base=Scrambled())
    holds: dict[str, set[str]] = {colour: set() for colour in COLOURS}
    for one in data.split("train"):
        holds[one.text.split()[-1]].add(one.video)
    videos = sorted(data.split("train").videos())
    made = [encoder.encode_document(data.features.read(name), times_s=np.arange(24) / 4, end_s=6.0) for name in videos]

    def vector(**parts: Any) -> Any:
        return encode_query(
            Query(**parts), encoder=encoder, reader=reader, limits=reader.Limits(), settings=LibrarySettings()
        )

    for colour, rgb in COLOURS.items():
        Image.new("RGB", (32, 32), rgb).save(tmp_path / "frame.png")
        write_mp4(tmp_path / "clip.mp4", np.full((10, 32, 32, 3), rgb, np.uint8), fps=10)
        picture, clip = vector(images=(tmp_path / "frame.png",)), vector(clips=(tmp_path / "clip.mp4",))
        both = vector(texts=(f"the screen is {colour}",), images=(tmp_path / "frame.png",))
        assert picture.shape == clip.shape == both.shape == (hidden,)
        np.testing.assert_allclose(picture, clip, atol=0.05)
        for query in (picture, clip):
            scores = similarity(query[None], made)[0]
            right = np.array([name in holds[colour] for name in videos])
            assert scores[right].min() > scores[~right].max()
