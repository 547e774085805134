"""Polygons: extents inside a window against a fine sampling of the same polygons."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from trifocal.playground.shapes import Part, blob, capsule, extent, points


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-30, 130),
    y=st.floats(-30, 110),
    rx=st.floats(4, 60),
    ry=st.floats(4, 60),
    angle=st.floats(-3, 3),
)
def test_extent_is_that_of_the_painted_pixels(x: float, y: float, rx: float, ry: float, angle: float) -> None:
    part = Part((0, 0, 0), blob(points(x, y), rx, ry, angle=angle))
    box = extent([part], width=100, height=80)[0]
    big = 8
    ink = Image.new("L", (100 * big, 80 * big))
    ImageDraw.Draw(ink).polygon((part.outline[0] * big).ravel().tolist(), fill=255)
    painted = ink.getbbox()
    if painted is None:
        assert np.isnan(box).all() or (box[2:] - box[:2]).min() < 0.5
    elif not np.isnan(box).any():
        # At a corner of the window the two cuts are made apart, so the box may be larger there, never smaller.
        got = np.array(painted) / big
        assert (box[:2] <= got[:2] + 0.8).all()
        assert (box[2:] >= got[2:] - 0.8).all()
        cut = np.array([x - max(rx, ry) < 0 or x + max(rx, ry) > 100, y - max(rx, ry) < 0 or y + max(rx, ry) > 80])
        if cut.sum() < 2:
            np.testing.assert_allclose(box, got, atol=0.8)


def test_a_capsule_of_no_length_is_a_disc() -> None:
    outline = capsule(points(3, 4), points(3, 4), 2, 2)[0]
    np.testing.assert_allclose(np.hypot(*(outline - [3, 4]).T), 2)


def test_nothing_inside_is_nan_and_glass_does_not_count() -> None:
    far = Part((0, 0, 0), blob(points(500, 500), 5, 5))
    glass = Part((0, 0, 0), blob(points(50, 40), 30, 30), alpha=0.5)
    solid = Part((0, 0, 0), blob(points(50, 40), 10, 10))
    assert np.isnan(extent([far], width=100, height=80)).all()
    np.testing.assert_allclose(extent([glass, solid], width=100, height=80)[0], [40, 30, 60, 50], atol=0.3)
