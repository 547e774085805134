"""Small batches with a planted answer: a caption is a linear map of the mean of a stretch of its video."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trifocal.retrieval.model import RetrievalBatch

MakeBatch = Callable[..., RetrievalBatch]


@pytest.fixture
def make_batch() -> MakeBatch:
    def make(
        videos: int = 4,
        *,
        captions: int = 3,
        clips: int = 8,
        video_dim: int = 12,
        text_dim: int = 10,
        frames: int = 0,
        seed: int = 0,
        world: int = 0,
    ) -> RetrievalBatch:
        draw = torch.Generator().manual_seed(seed)
        to_text = torch.randn(video_dim, text_dim, generator=torch.Generator().manual_seed(world))
        rows = torch.randn(videos, clips, video_dim, generator=draw)
        owner = torch.arange(videos).repeat_interleave(captions)
        start = torch.randint(0, clips - 1, (len(owner),), generator=draw)
        moment = torch.stack([rows[v, s : s + 2].mean(0) for v, s in zip(owner.tolist(), start.tolist(), strict=True)])
        words = torch.randn(len(owner), 4, text_dim, generator=draw)
        words[:, 2] = moment @ to_text  # the third word is the sentence; the fourth is padding for odd captions
        mask = torch.ones(len(owner), 4, dtype=torch.bool)
        mask[:, 3] = False
        words[:, 3] = 0.0
        shots = torch.randn(videos, frames, video_dim, generator=draw) if frames else None
        seen = torch.ones(videos, frames, dtype=torch.bool) if frames else None
        if seen is not None:
            seen[0, frames // 2 :] = False
        return RetrievalBatch(clips=rows, words=words, word_mask=mask, owner=owner, frames=shots, frame_mask=seen)

    return make
