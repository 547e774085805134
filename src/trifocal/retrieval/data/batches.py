"""From a split to the batches of the model: videos as uniform clips, captions as padded words, kept where they fit.

A batch is some videos with all their captions (or at most `captions_per_video`, drawn anew each time). Clips and words
are kept in memory up to `memory` bytes each; beyond, they are read from the memory-mapped files whenever needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from trifocal.errors import InvalidInput
from trifocal.retrieval.model import RetrievalBatch, uniform_clips

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.data.captions import CaptionSet
    from trifocal.retrieval.data.collection import RetrievalData

__all__ = ["SplitBatches"]


class SplitBatches:
    """Makes the batches of one split.

    Args:
        data: the set.
        captions: of the split.
        clips: M, uniform clips a video.
        max_words: words kept of a caption; where there are more, the last (which may stand for the sentence) stays.
        max_frames: give also at most so many frames a video, evenly averaged; None gives none.
        captions_per_video: at most so many in a batch, drawn by numpy's global generator; None gives all.
        memory: bytes of clips, and of words, that may be kept.

    Raises:
        InvalidInput: no captions, or videos or captions without rows (the first few are named).
    """

    def __init__(
        self,
        data: RetrievalData,
        captions: CaptionSet,
        *,
        clips: int = 32,
        max_words: int = 77,
        max_frames: int | None = None,
        captions_per_video: int | None = None,
        memory: int = 4 << 30,
    ) -> None:
        """Check that everything is there."""
        self.videos = captions.videos()
        self.captions = captions.by_video()
        if not self.videos:
            raise InvalidInput("the split has no captions", remedy="Choose another one.")
        for source, ids, what in (
            (data.features, self.videos, "videos have no features"),
            (data.words, [one.id for one in captions], "captions have no words"),
        ):
            missing = [name for name in ids if name not in source]
            if missing:
                raise InvalidInput(
                    f"{len(missing)} of {len(ids)} {what}: {', '.join(missing[:3])}", remedy="Look with --check."
                )
        self._features, self._words = data.features, data.words
        self.clip_count, self.max_words, self.max_frames = clips, max_words, max_frames
        self.captions_per_video = captions_per_video
        self._keep_clips = len(self.videos) * clips * data.features.dim * 4 <= memory
        words = sum(min(max_words, data.words.count(one.id)) for one in captions)
        self._keep_words = words * data.words.dim * 4 <= memory
        self._kept_clips: dict[str, NDArray[np.float32]] = {}
        self._kept_words: dict[str, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        """Videos of the split."""
        return len(self.videos)

    def clips(self, video: str) -> NDArray[np.float32]:
        """A video's uniform clips, (M, d_v)."""
        found = self._kept_clips.get(video)
        if found is None:
            found = uniform_clips(self._features.read(video), count=self.clip_count)
            if self._keep_clips:
                self._kept_clips[video] = found
        return found

    def words(self, caption: str) -> NDArray[np.float32]:
        """A caption's words, (L, d_t), at most `max_words`."""
        found = self._kept_words.get(caption)
        if found is None:
            rows = self._words.read(caption)
            found = rows if len(rows) <= self.max_words else np.concatenate([rows[: self.max_words - 1], rows[-1:]])
            if self._keep_words:
                self._kept_words[caption] = found
        return found

    def make(self, items: Sequence[int]) -> RetrievalBatch:
        """The batch of the videos at these places of `videos`."""
        names = [self.videos[item] for item in items]
        chosen: list[NDArray[np.float32]] = []
        owner: list[int] = []
        for place, name in enumerate(names):
            ones = self.captions[name]
            if self.captions_per_video is not None and len(ones) > self.captions_per_video:
                # The training loop seeds the global generator before every batch.
                drawn = np.random.permutation(len(ones))[: self.captions_per_video]  # noqa: NPY002
                ones = [ones[index] for index in sorted(drawn)]
            chosen.extend(self.words(one.id) for one in ones)
            owner.extend([place] * len(ones))
        words, mask = _padded(chosen)
        frames = frame_mask = None
        if self.max_frames is not None:
            frames, frame_mask = _padded([self._frames(name, self.max_frames) for name in names])
        return RetrievalBatch(
            clips=torch.from_numpy(np.stack([self.clips(name) for name in names])),
            words=words,
            word_mask=mask,
            owner=torch.tensor(owner),
            frames=frames,
            frame_mask=frame_mask,
        )

    def each(self, batch: int) -> Iterator[RetrievalBatch]:
        """All videos in order, some at a time."""
        for start in range(0, len(self), batch):
            yield self.make(range(start, min(start + batch, len(self))))

    def _frames(self, video: str, most: int) -> NDArray[np.float32]:
        rows = self._features.read(video)
        return rows if len(rows) <= most else uniform_clips(rows, count=most)


def _padded(rows: Sequence[NDArray[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of several lengths as (N, L, d) with zeros after the last, and (N, L) that is True where a row is."""
    lengths = np.array([len(one) for one in rows])
    filled = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), dtype=np.float32)
    for index, one in enumerate(rows):
        filled[index, : len(one)] = one
    return torch.from_numpy(filled), torch.from_numpy(np.arange(filled.shape[1]) < lengths[:, None])
