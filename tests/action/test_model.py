"""A model's folder: names and numbers of its classes, also of folders that older versions wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trifocal.action import ActionModel, Detector, DetectorConfig, load_action_model
from trifocal.errors import InvalidInput, WeightsCorrupt


@pytest.fixture
def detector(tiny: DetectorConfig) -> Detector:
    torch.manual_seed(0)
    return Detector(tiny).eval()


def test_the_numbers_of_the_classes_are_kept(detector: Detector, tmp_path: Path) -> None:
    folder = ActionModel(detector, ("walk", "watch"), 30.0, ids=(12, 80)).save(tmp_path)
    assert load_action_model(folder).ids == (12, 80)
    with pytest.raises(InvalidInput, match=r"numbers of 2 classes are \[12\]"):
        ActionModel(detector, ("walk", "watch"), 30.0, ids=(12,))
    with pytest.raises(InvalidInput, match=r"\[80, 12\]"):
        ActionModel(detector, ("walk", "watch"), 30.0, ids=(80, 12))


def test_a_folder_without_numbers_counts_from_one_and_a_later_format_is_refused(
    detector: Detector, tmp_path: Path
) -> None:
    ActionModel(detector, ("walk", "watch"), 30.0).save(tmp_path)
    path = tmp_path / "labels.json"
    labels = json.loads(path.read_text())
    assert labels["format"] == 2
    old = {name: value for name, value in labels.items() if name not in ("ids", "format")}
    path.write_text(json.dumps(old))
    assert load_action_model(tmp_path).ids == (1, 2)
    path.write_text(json.dumps(labels | {"format": 3}))
    with pytest.raises(WeightsCorrupt, match="format 3"):
        load_action_model(tmp_path)
