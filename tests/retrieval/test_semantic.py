"""The offline default: its arithmetic by hand, its id, and (with the pinned files) what it sees in real clips."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trifocal import video, weights
from trifocal.errors import InvalidInput
from trifocal.retrieval import (
    FrameTextEncoder,
    Prototypes,
    SemanticConfig,
    SemanticEncoder,
    build_prototypes,
    load_encoder,
    similarity,
)
from trifocal.retrieval import semantic as module
from trifocal.retrieval.semantic import ClassSpace, class_weights

Units = Callable[..., NDArray[np.float32]]


def test_class_weights_by_hand() -> None:
    logits = np.log(np.array([[4.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 5.0]], dtype=np.float32))
    assert np.allclose(
        class_weights(logits, temperature=1.0, top_k=4), [[0.5, 0.25, 0.125, 0.125], [0.125, 0.125, 0.125, 0.625]]
    )
    assert np.allclose(class_weights(logits, temperature=1.0, top_k=2)[0], [2 / 3, 1 / 3, 0, 0])
    assert np.allclose(class_weights(logits, temperature=1.0, top_k=1), [[1, 0, 0, 0], [0, 0, 0, 1]])
    assert np.allclose(class_weights(logits, temperature=1.0, top_k=3)[0], [0.5, 0.25, 0.125, 0.125])  # the tie stays
    halved = class_weights(logits, temperature=2.0, top_k=4)[0]
    assert np.allclose(halved, np.sqrt([4, 2, 1, 1]) / np.sqrt([4, 2, 1, 1]).sum())


def test_class_weights_survive_large_logits() -> None:
    weight = class_weights(np.array([[1e4, -1e4, 9.99e3]], dtype=np.float32), temperature=0.1, top_k=2)
    assert np.isfinite(weight).all()
    assert np.allclose(weight.sum(axis=1), 1)


def test_the_space_mixes_centred_classes(units: Units) -> None:
    classes = units(6, 4)
    space = ClassSpace(classes, centred=True)
    centred = classes - classes.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    weight = np.array([[0.75, 0.25, 0, 0, 0, 0]], dtype=np.float32)
    expected = 0.75 * centred[0] + 0.25 * centred[1]
    assert np.allclose(space.frames(weight)[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert np.allclose(space.queries(classes), centred, atol=1e-6)
    plain = ClassSpace(classes, centred=False)
    assert np.allclose(plain.queries(classes), classes, atol=1e-6)


def test_what_cancels_out_still_has_a_direction() -> None:
    space = ClassSpace(np.array([[1, 0], [-1, 0]], dtype=np.float32), centred=False)
    assert space.frames(np.array([[0.5, 0.5]], dtype=np.float32)).tolist() == [[1, 0]]
    centred = ClassSpace(np.array([[1, 0], [1, 0]], dtype=np.float32), centred=True)
    assert centred.queries(np.array([[1, 0]], dtype=np.float32)).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "options",
    [
        {"class_templates": ()},
        {"class_templates": ("a photo",)},
        {"class_templates": "a photo of a {name}"},
        {"query_templates": ("a photo",)},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_k": 1001},
        {"top_k": 10.0},
    ],
)
def test_a_config_refuses_what_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SemanticConfig(**options)


def test_the_id_changes_with_every_setting_and_with_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SemanticEncoder()
    assert plain.id == SemanticEncoder(batch_size=1).id == load_encoder().id
    assert isinstance(plain, FrameTextEncoder)
    others = [
        SemanticConfig(class_templates=("{name}",)),
        SemanticConfig(query_templates=("a photo of {query}",)),
        SemanticConfig(temperature=1.0),
        SemanticConfig(top_k=1000),
        SemanticConfig(centred=False),
    ]
    ids = {plain.id, *(SemanticEncoder(config).id for config in others)}
    assert len(ids) == len(others) + 1
    monkeypatch.setattr(weights, "KNOWN", {**weights.KNOWN, "minilm-l6-v2": weights.KNOWN["smollm2-135m"]})
    assert SemanticEncoder().id not in ids
    monkeypatch.undo()
    monkeypatch.setattr(module, "_METHOD", 99)
    assert SemanticEncoder().id not in ids


def test_bad_frames_and_texts_are_refused_before_anything_is_loaded() -> None:
    encoder = SemanticEncoder()
    bad_frames: list[Any] = [
        np.zeros((2, 8, 8, 3), dtype=np.float32),
        np.zeros((8, 8, 3), dtype=np.uint8),
        np.zeros((2, 8, 8, 4), dtype=np.uint8),
        np.zeros((2, 0, 8, 3), dtype=np.uint8),
        [[1]],
    ]
    for frames in bad_frames:
        with pytest.raises(InvalidInput):
            encoder.encode_frames(frames)
    bad_texts: list[Any] = ["a dog", ["a dog", " "], [None]]
    for texts in bad_texts:
        with pytest.raises(InvalidInput):
            encoder.encode_query(texts)
    assert encoder.encode_query([]).shape == (0, 384)
    with pytest.raises(InvalidInput):
        SemanticEncoder(batch_size=0)


def test_importing_and_naming_an_encoder_brings_in_no_torch() -> None:
    script = "import sys; from trifocal import retrieval; retrieval.load_encoder().id; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture(scope="module")
def encoder() -> SemanticEncoder:
    return SemanticEncoder()


@pytest.mark.weights
def test_vectors_are_unit_and_do_not_depend_on_the_batch(encoder: SemanticEncoder) -> None:
    frames = np.random.default_rng(0).integers(0, 256, size=(5, 48, 64, 3), dtype=np.uint8)
    vectors = encoder.encode_frames(frames)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, SemanticEncoder(batch_size=2).encode_frames(frames), atol=1e-4)
    assert np.allclose(vectors[3:4], encoder.encode_frames(frames[3:4]), atol=1e-4)
    assert encoder.encode_frames(frames[:0]).shape == (0, 384)
    texts = ["a dog", "a red car in the rain"]
    queries = encoder.encode_query(texts)
    assert queries.dtype == np.float32
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    assert np.allclose(queries[1:], encoder.encode_query([" a red car in the rain "]), atol=1e-5)


@pytest.mark.weights
def test_query_templates_are_averaged() -> None:
    both = SemanticEncoder(SemanticConfig(query_templates=("{query}", "a video of {query}"), centred=False))
    one = SemanticEncoder(SemanticConfig(centred=False))
    mean = one.encode_query(["a dog", "a video of a dog"]).mean(axis=0)
    assert np.allclose(both.encode_query(["a dog"])[0], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.weights
def test_class_embeddings_are_kept_and_damage_is_repaired(
    encoder: SemanticEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = encoder.encode_query(["a dog"])  # the networks are loaded by now, from the real cache
    classes = encoder._class_embeddings()
    sentences = encoder._sentences
    names = module.embed_classes(sentences.encode, ("{name}",))
    monkeypatch.setattr(weights, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(module, "embed_classes", lambda *_, **__: classes)

    def fresh() -> NDArray[np.float32]:
        another = SemanticEncoder()
        another.__dict__["_sentences"] = sentences
        return another.encode_query(["a dog"])

    assert np.allclose(fresh(), query, atol=1e-6)
    (kept,) = (tmp_path / "retrieval").iterdir()
    assert np.allclose(np.load(kept, allow_pickle=False), classes)
    for damage in (b"", b"nonsense", kept.read_bytes()[:-9]):
        kept.write_bytes(damage)
        assert np.allclose(fresh(), query, atol=1e-6)
        assert np.allclose(np.load(kept, allow_pickle=False), classes)
    np.save(kept, names * 2)
    assert np.allclose(fresh(), query, atol=1e-6)


@pytest.mark.weights
def test_a_cache_that_cannot_be_written_is_done_without(
    encoder: SemanticEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences, classes = encoder._sentences, encoder._class_embeddings()
    (tmp_path / "retrieval").write_text("a file where a folder should be")
    monkeypatch.setattr(weights, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(module, "embed_classes", lambda *_, **__: classes)
    another = SemanticEncoder()
    another.__dict__["_sentences"] = sentences
    assert another.encode_query(["a dog"]).shape == (1, 384)


def prototypes_of(path: Path, encoder: SemanticEncoder) -> Prototypes:
    with video.open(path, isolated=False) as opened:
        frames = opened.read(video.Sampling.at_fps(2.0))
        return build_prototypes(
            encoder.encode_frames(frames.images),
            times_s=frames.times_s,
            end_s=max(opened.info.duration_s or 0.0, float(frames.times_s[-1])),
        )


@pytest.mark.weights
def test_real_clips_answer_to_their_names(shared: Path, encoder: SemanticEncoder) -> None:
    paths = sorted((shared / "clips").glob("*.mp4"))
    videos = [prototypes_of(path, encoder) for path in paths]
    wanted = {
        "a person playing basketball": "basketball",
        "a cartoon rabbit in the grass": "bigbuckbunny",
        "a man with a bow tie in a car": "carphone_pristine",
        "cars and bicycles in a street": "bikes",
    }
    scores = similarity(encoder.encode_query(list(wanted)), videos)
    names = [path.stem for path in paths]
    ranks = {
        query: 1 + int((row > row[names.index(clip)]).sum())
        for (query, clip), row in zip(wanted.items(), scores, strict=True)
    }
    assert all(rank <= 2 for rank in ranks.values()), ranks
