from __future__ import annotations

import torch

from trifocal.chat.attention import frame_shares

FRAME_OF = torch.tensor([-1, 1, 1, 0, 2, -1])


def test_what_counts_is_more_than_a_neutral_question_pays() -> None:
    attention = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.05, 0.15])
    neutral = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, 0.0])
    shares = frame_shares(attention, neutral=neutral, frame_of=FRAME_OF, frames=3)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.5, 0.25]) / 1.25)


def test_the_neutral_question_itself_tells_no_frame_apart() -> None:
    attention = torch.rand(6, generator=torch.Generator().manual_seed(0))
    shares = frame_shares(attention, neutral=attention, frame_of=FRAME_OF, frames=3)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3))


def test_no_attention_is_shared_evenly() -> None:
    shares = frame_shares(torch.zeros(6), neutral=torch.zeros(6), frame_of=FRAME_OF, frames=3)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3))
