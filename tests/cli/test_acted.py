"""How a tube's actions are said in a line."""

from __future__ import annotations

import numpy as np

from trifocal.action import Tube
from trifocal.cli.acted import actions_of


def test_a_mean_below_what_was_asked_for_is_explained() -> None:
    scores = {"walk": [0.9, 0.7], "wave": [0.0, 0.6], "sit": [0.1, 0.2]}
    tube = Tube(
        video="v",
        actor=1,
        times_s=np.array([0.0, 1.0]),
        boxes_xyxy=np.array([[0, 0, 1, 1]] * 2, np.float32),
        actions={name: np.array(values, np.float32) for name, values in scores.items()},
    )
    assert actions_of(tube, least=0.5) == "walk 0.80, wave 0.30 (up to 0.60)"
    assert actions_of(tube, least=0.95) == "no sure action"
