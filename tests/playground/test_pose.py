"""Poses and figures: finite, on the ground, in motion, and reaching what they reach for."""

from __future__ import annotations

import numpy as np
import pytest

from trifocal.playground.actions import ACTION_INDEX, ACTIONS, ATTEND, CONTEXT, GESTURES, MOVES
from trifocal.playground.figure import joints
from trifocal.playground.pose import (
    CHANNELS,
    CRANK,
    CRANK_LENGTH,
    GESTURE_POSES,
    MOVE_POSES,
    STRIDE,
    Clock,
    gesture_pose,
    move_pose,
)

T = np.linspace(0, 3, 61)
CLOCK = Clock(T, T / 3, T / 1.2)


def test_the_vocabulary_is_whole() -> None:
    assert set(MOVE_POSES) == set(MOVES)
    assert set(GESTURE_POSES) | {ATTEND} == set(GESTURES)
    assert len(ACTION_INDEX) == len(ACTIONS) >= 16
    context = {action.name for action in ACTIONS if action.kind == "context"}
    assert set(CONTEXT.values()) == context
    body = {action.name for action in ACTIONS if action.kind == "body"}
    assert body == set(MOVES) | set(GESTURES) - {ATTEND}


@pytest.mark.parametrize("name", MOVES)
def test_a_move_is_finite_and_stands_on_the_ground(name: str) -> None:
    pose = move_pose(name, CLOCK)
    assert pose.shape == (61, len(CHANNELS))
    j = joints(pose)
    lowest = np.min([j.near_ankle[:, 1], j.far_ankle[:, 1], j.pelvis[:, 1], j.head[:, 1]], axis=0)
    assert np.isfinite(pose).all()
    assert (lowest > -0.02).all()
    if name not in ("jump", "ride"):
        assert lowest.max() < 0.15


@pytest.mark.parametrize("name", sorted(set(MOVES) - {"stand", "sit", "lie", "crouch", "ride"}))
def test_a_move_moves(name: str) -> None:
    j = joints(move_pose(name, CLOCK))
    travelled = np.abs(np.diff(j.near_hand - j.pelvis, axis=0)).sum() + np.abs(np.diff(j.near_ankle, axis=0)).sum()
    assert travelled > 0.3


@pytest.mark.parametrize("name", sorted(GESTURE_POSES))
def test_a_gesture_leaves_the_legs_alone(name: str) -> None:
    rest = move_pose("stand", CLOCK)
    pose = gesture_pose(rest, name, CLOCK, np.ones(61))
    moved = {CHANNELS[i] for i in np.flatnonzero(np.abs(pose - rest).max(axis=0) > 1e-9)}
    assert moved
    assert not {channel for channel in moved if channel.endswith(("thigh", "knee"))}
    np.testing.assert_array_equal(gesture_pose(rest, name, CLOCK, np.zeros(61)), rest)


def test_the_feet_of_a_walker_do_not_slide() -> None:
    """Over its time on the ground a foot ends where it began, although the body goes on by half a stride."""
    cycles = np.linspace(0, 1, 401)
    j = joints(move_pose("walk", Clock(cycles, cycles, cycles)))
    ankle = j.near_ankle[:, 0] + cycles * STRIDE["walk"]
    stance = (cycles >= 0.25) & (cycles <= 0.75)
    assert abs(ankle[stance][-1] - ankle[stance][0]) < 0.08
    assert j.near_ankle[stance, 1].max() < 0.1
    assert ankle[-1] - ankle[0] > 0.75


def test_the_rider_s_feet_are_on_the_pedals_and_the_hands_on_the_bar() -> None:
    cycles = np.linspace(0, 1, 25)
    j = joints(move_pose("ride", Clock(cycles, cycles, cycles)))
    turn = 2 * np.pi * cycles
    np.testing.assert_allclose(j.near_ankle[:, 0], CRANK[0] + CRANK_LENGTH * np.sin(turn), atol=0.02)
    np.testing.assert_allclose(j.near_ankle[:, 1], CRANK[1] + CRANK_LENGTH * np.cos(turn) + 0.035, atol=0.02)
    assert np.ptp(j.near_hand, axis=0).max() < 0.01


@pytest.mark.parametrize(("movement", "target"), sorted(CONTEXT))
def test_context_changes_no_pose(movement: str, target: str) -> None:
    """What decides a context action is outside the body: the pose functions do not even see it."""
    meaning = CONTEXT[movement, target]
    assert ACTIONS[ACTION_INDEX[meaning]].kind == "context"
    assert movement == ATTEND or ACTIONS[ACTION_INDEX[movement]].kind == "body"
