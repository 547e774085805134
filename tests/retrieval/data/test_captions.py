from __future__ import annotations

import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.data import Caption, CaptionSet
from trifocal.retrieval.data.captions import tidy_moments


def many(count: int = 10) -> CaptionSet:
    ones = tuple(Caption(f"{n}#{k}", f"v{n}", f"text {k}") for n in range(count) for k in range(2))
    return CaptionSet(ones, {f"v{n}": 1.0 + n for n in range(count)})


def test_a_share_is_held_out_by_video() -> None:
    kept, held = many().hold_out(0.3, seed=1)
    assert len(held.videos()) == 3
    assert set(kept.videos()) | set(held.videos()) == set(many().videos())
    assert not set(kept.videos()) & set(held.videos())
    assert len(held) == 6
    assert set(held.durations_s) == set(held.videos())
    assert many().hold_out(0.3, seed=1) == (kept, held)
    assert many().hold_out(0.3, seed=2)[1].videos() != held.videos()


def test_what_is_held_out_does_not_depend_on_the_order() -> None:
    backwards = CaptionSet(many().captions[::-1])
    assert set(backwards.hold_out(0.3, seed=1)[1].videos()) == set(many().hold_out(0.3, seed=1)[1].videos())


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_must_leave_something(share: float) -> None:
    with pytest.raises(InvalidInput, match="the share held out is"):
        many().hold_out(share)


def test_at_least_one_video_stays_and_one_goes() -> None:
    assert [len(part.videos()) for part in many(2).hold_out(0.01)] == [1, 1]
    assert [len(part.videos()) for part in many(2).hold_out(0.99)] == [1, 1]
    with pytest.raises(InvalidInput, match="1 videos cannot be parted"):
        many(1).hold_out(0.5)


def test_moments_are_matched_by_id_then_by_words() -> None:
    bare = CaptionSet((Caption("a", "v", "The dog, runs!"), Caption("b", "v", "else"), Caption("c", "w", "third")))
    other = CaptionSet(
        (
            Caption("x", "v", "the dog runs", ((1.0, 2.0),)),
            Caption("b", "v", "other words", ((3.0, 4.0),)),
            Caption("c", "other video", "third", ((5.0, 6.0),)),
        ),
        {"v": 9.0, "elsewhere": 3.0},
    )
    found = bare.with_moments(other)
    assert [one.moments_s for one in found] == [((1.0, 2.0),), ((3.0, 4.0),), ()]
    assert found.durations_s == {"v": 9.0}


def test_odd_moments_are_put_right() -> None:
    assert tidy_moments([(3.0, 1.0), (-1.0, 20.0)], duration_s=10.0) == (((1.0, 3.0), (0.0, 10.0)), True)
    assert tidy_moments([(1.0, 3.0)], duration_s=None) == (((1.0, 3.0),), False)
    assert tidy_moments([], duration_s=1.0) == ((), False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", "v", "t"), "empty id"),
        (("i", "", "t"), "empty video"),
        (("i", "v", ""), "empty text"),
        (("i", "v", "t", ((2.0, 1.0),)), "from 2.0 s to 1.0 s"),
        (("i", "v", "t", ((0.0, float("inf")),)), "to inf s"),
    ],
)
def test_a_caption_must_be_whole(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Caption(*values)  # type: ignore[arg-type]


def test_a_set_must_be_whole() -> None:
    with pytest.raises(InvalidInput, match="two captions have the id 'i'"):
        CaptionSet((Caption("i", "v", "t"), Caption("i", "w", "t")))
    with pytest.raises(InvalidInput, match="lasts 0 s"):
        CaptionSet((), {"v": 0})
