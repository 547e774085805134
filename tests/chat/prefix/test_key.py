"""A prefix is another one as soon as anything that shaped it is another (checklist, item 11)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from trifocal.chat.prefix import PrefixKey, frames_id
from trifocal.errors import InvalidInput
from trifocal.video import Frames

CHANGES: dict[str, Any] = {
    "content": "ef" * 32,
    "stream": 1,
    "sampling": {"kind": "uniform", "n": 5},
    "processor": {"size": [8, 16]},
    "model": "tiny@2",
    "dtype": "bfloat16",
    "method": {"method": "sttm", "budget": 0.3, "layer": 0},
    "prompt": "01" * 32,
    "software": {"trifocal": "2"},
    "salt": "another library",
    "int8": True,
}


def test_security_11_the_table_of_changes_names_every_part() -> None:
    assert set(CHANGES) == {field.name for field in fields(PrefixKey)}


@pytest.mark.parametrize("name", CHANGES)
def test_security_11_every_part_changes_the_digest(key: PrefixKey, name: str) -> None:
    assert replace(key, **{name: CHANGES[name]}).digest != key.digest


def test_equal_keys_have_equal_digests_whatever_the_order(key: PrefixKey) -> None:
    turned = replace(key, sampling={"n": 4, "kind": "uniform"})
    assert turned.digest == key.digest
    assert len(key.digest) == 64


def test_parts_do_not_run_into_each_other(key: PrefixKey) -> None:
    assert replace(key, model="a", salt="bc").digest != replace(key, model="ab", salt="c").digest


@pytest.mark.parametrize(
    "change",
    [
        {"content": "short"},
        {"content": "G" * 64},
        {"prompt": ""},
        {"model": ""},
        {"dtype": ""},
        {"sampling": {"rate": float("nan")}},
        {"method": {"x": object()}},
    ],
)
def test_what_is_no_key_is_refused(key: PrefixKey, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        replace(key, **change)


def test_frames_are_known_by_pixels_shape_and_times() -> None:
    images = np.arange(2 * 2 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 3)
    times = np.array([0.0, 1.0])
    same = frames_id(Frames(images=images, times_s=times))
    other = images.copy()
    other[0, 0, 0, 0] ^= 1
    assert same == frames_id(Frames(images=images.copy(), times_s=times))
    assert same == frames_id(Frames(images=images[:, ::-1][:, ::-1], times_s=times))
    assert same != frames_id(Frames(images=other, times_s=times))
    assert same != frames_id(Frames(images=images, times_s=times + 1))
    assert same != frames_id(Frames(images=images.reshape(2, 4, 2, 3), times_s=times))
