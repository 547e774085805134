"""What the bench of the small detector's tubes measures, on two short videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trifocal.action import WatchConfig, load_action_model
from trifocal.bench.small_detect_tubes import labels_of, measure
from trifocal.playground import ACTIONS, compose, truth

WAYS = {"as it comes": WatchConfig(every=4), "nobody is sure enough": WatchConfig(every=4, keep_above=0.9999)}


def test_labels_say_what_is_true_of_the_drawing() -> None:
    spec = compose(3_000_000, duration_s=2.0, size=(240, 320), fps=25.0)
    labels, facts = labels_of(spec, "0000"), truth(spec)
    assert labels.looked_at.tolist() == list(range(0, facts.frame_count, 4))
    for index in labels.looked_at.tolist():
        now = sorted(facts.at(index), key=lambda actor: [one.id for one in facts.actors].index(actor.id))
        rows = labels.at(index)
        assert len(rows) == len(now)
        for row, actor in zip(rows, now, strict=True):
            assert labels.boxes_xyxy[row] == pytest.approx(np.clip(actor.box_xyxy, 0, [320, 240, 320, 240]), abs=1e-3)
            named = tuple(action.name for action, on in zip(ACTIONS, labels.actions[row], strict=True) if on)
            assert named == actor.actions


def test_ways_of_watching_are_compared_on_the_same_videos(tmp_path: Path) -> None:
    found = measure(tmp_path, model=load_action_model(), videos=1, duration_s=2.0, ways=WAYS)
    plain, pruned = (found["ways"][way] for way in WAYS)
    assert plain["tubes"] > 0
    assert plain["figures"]["frame_map@.5"] > pruned["figures"]["frame_map@.5"]
    assert plain["figures"]["video_map@.2"] > 0
    assert set(plain["by_kind"]) == {"body", "context"}
    assert plain["cpu_s_per_minute"] > 0
