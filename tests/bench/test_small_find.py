"""The rule for shipping a retriever that was trained on drawn videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trifocal.bench import small_find
from trifocal.errors import InvalidInput

KEPT = Path(__file__).parents[2] / "bench" / "small_find"


def report(sum_r: float) -> dict[str, Any]:
    moments = {"peak_inside": 40.0, "mean_iou": 0.2}
    sizes = {"videos": 9, "queries": 20, "chance_sum_r": 150.0, "bytes_per_video": 24_576, "prototypes_per_video": 32}
    return {"sum_r": sum_r, "moments": moments, **sizes}


def write(folder: Path, *, trained: tuple[float, ...], clips: tuple[tuple[float, float], ...]) -> Path:
    for seed, sum_r in enumerate(trained):
        document = {"trained": report(sum_r), "untrained": report(240.0)}
        (folder / f"held-{seed}.json").write_text(json.dumps(document))
    rows = {
        name: {"mrr": mrr, "recall_1": recall, "better": 1, "worse": 2}
        for name, (mrr, recall) in zip(("default", "a", "b"), ((0.8, 0.7), *clips), strict=False)
    }
    (folder / "clips.json").write_text(json.dumps(rows))
    return folder


@pytest.mark.parametrize(
    ("trained", "clips", "ships"),
    [
        ((300.0, 290.0), ((0.8, 0.7), (0.9, 0.8)), True),
        ((300.0, 240.0), ((0.8, 0.7), (0.9, 0.8)), False),  # one seed does not beat the untrained prototypes
        ((300.0, 290.0), ((0.8, 0.7), (0.9, 0.6)), False),  # one seed has a lower recall on the clips
        ((300.0, 290.0), ((0.7, 0.9), (0.9, 0.8)), False),  # or a lower reciprocal rank
    ],
)
def test_it_ships_when_every_seed_wins_and_none_loses(
    trained: tuple[float, ...], clips: tuple[tuple[float, float], ...], ships: bool, tmp_path: Path
) -> None:
    found = small_find.decide(write(tmp_path, trained=trained, clips=clips))
    assert found["ships"] is ships
    assert found["held_out_drawn_videos"]["trained"]["sum_r"]["most"] == 300


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no held-"):
        small_find.decide(tmp_path)
    with pytest.raises(InvalidInput, match=r"1 evaluations and 2 encoders"):
        small_find.decide(write(tmp_path, trained=(300.0,), clips=((0.8, 0.7), (0.9, 0.8))))


def test_the_decision_is_kept_beside_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_find.main([str(write(tmp_path, trained=(300.0,), clips=((0.8, 0.7),)))])
    assert json.loads((tmp_path / "decision.json").read_text()) == json.loads(capsys.readouterr().out)


def test_the_kept_figures_give_the_kept_decision_and_the_package_follows_it() -> None:
    kept = json.loads((KEPT / "decision.json").read_text())
    assert {**small_find.decide(KEPT), "machine": kept["machine"]} == kept
    package = Path(small_find.__file__).parents[1]
    assert (package / "retrieval" / "small").is_dir() is kept["ships"]
