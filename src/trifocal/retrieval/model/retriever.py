"""The trained retriever in use: numpy in, unit vectors out, and models that are saved and loaded.

`PrototypeRetriever` is the network of `network` with what an index needs of it: queries (`encode_query`), prototypes
with their time (`encode_clips`, `encode_video`, `encode_document`) and clip tokens (`encode_tokens`). All of it runs in
eval mode and without gradient, whatever mode the model is in.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trifocal.errors import InvalidInput
from trifocal.retrieval.document import Document
from trifocal.retrieval.model import saving
from trifocal.retrieval.model.attention import AttentionGenerator
from trifocal.retrieval.model.batch import uniform_clips
from trifocal.retrieval.model.network import RetrieverNetwork, RetrieverOutput
from trifocal.retrieval.model.timing import attended_spans, clip_times
from trifocal.retrieval.prototypes import Prototypes
from trifocal.retrieval.tokens import ClipTokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from trifocal.retrieval.tokens import TokenKind

__all__ = ["EncodedVideos", "PrototypeRetriever", "RetrieverOutput"]

# Captions scored or videos encoded at once where the caller gives all.
_AT_ONCE = 64
_NO_DIRECTION = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class EncodedVideos:
    """Videos ready for an index.

    Args:
        vectors: float16 (B, K, D), unit vectors.
        spans: float32 (B, K, 2), start and end as shares of the video, 0 to 1.
        peaks: float32 (B, K), the middle of the clip each looks at most, as a share of the video.
        attention: float32 (B, K, M), what each takes from each clip, rows of sum 1.
        frames: float16 (B, D), the frame branch's unit vectors; None without that branch.
    """

    vectors: NDArray[np.float16]
    spans: NDArray[np.float32]
    peaks: NDArray[np.float32]
    attention: NDArray[np.float32]
    frames: NDArray[np.float16] | None = None


class PrototypeRetriever(RetrieverNetwork):
    """Text encoder, clip encoder and prototype generator, with the heads that train them.

    Weights are drawn from torch's global generator; seed it first.

    Args:
        config: everything about the model.
    """

    def encode_query(self, words: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Captions' word features, each (L, text_dim), to unit vectors float32 (N, D); N may be zero.

        Raises:
            InvalidInput: a caption without words, of another width, or with values that are not finite.
        """
        D, width = self.config.hidden, self.config.text_dim
        out = np.zeros((len(words), D), dtype=np.float32)
        rows = [np.asarray(one, dtype=np.float32) for one in words]
        for index, one in enumerate(rows):
            if one.ndim != 2 or one.shape[1] != width or not len(one) or not np.isfinite(one).all():
                raise InvalidInput(
                    f"words at index {index} have the shape {one.shape}, or values that are not finite",
                    remedy=f"Give finite (L, {width}) with at least one word.",
                )
        with self._in_use():
            for start in range(0, len(rows), _AT_ONCE):
                part = [torch.from_numpy(self._cut(one)) for one in rows[start : start + _AT_ONCE]]
                padded = nn.utils.rnn.pad_sequence(part, batch_first=True)
                lengths = torch.tensor([len(one) for one in part])
                mask = torch.arange(padded.shape[1]) < lengths[:, None]
                device = self.log_scale.device
                made = F.normalize(self.text(padded.to(device), mask.to(device)).float(), dim=-1)
                out[start : start + len(part)] = made.cpu().numpy()
        return out

    def encode_clips(
        self, clips: NDArray[Any], *, frames: NDArray[Any] | None = None, frame_mask: NDArray[np.bool_] | None = None
    ) -> EncodedVideos:
        """Uniform clips float32 (B, M, video_dim) to prototypes with the time each attends to.

        Args:
            clips: what `uniform_clips` gives, B videos of them, at least one.
            frames: float32 (B, F, video_dim), for models that look at frames.
            frame_mask: bool (B, F).
        """
        rows = torch.as_tensor(np.asarray(clips, dtype=np.float32))
        if rows.dim() != 3 or not len(rows) or not bool(rows.isfinite().all()):
            raise InvalidInput(
                f"clips have the shape {tuple(rows.shape)}, or values that are not finite",
                remedy=f"Give finite (B, {self.config.clips}, {self.config.video_dim}) with at least one video.",
            )
        shots = None if frames is None else torch.as_tensor(np.asarray(frames, dtype=np.float32))
        seen = None if frame_mask is None else torch.as_tensor(frame_mask)
        parts: list[EncodedVideos] = []
        with self._in_use():
            for start in range(0, len(rows), _AT_ONCE):
                chosen = slice(start, start + _AT_ONCE)
                parts.append(
                    self._encode_part(
                        rows[chosen],
                        None if shots is None else shots[chosen],
                        None if seen is None else seen[chosen],
                    )
                )
        joined = {
            field.name: None
            if getattr(parts[0], field.name) is None
            else np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(EncodedVideos)
        }
        return EncodedVideos(**joined)  # type: ignore[arg-type]

    def encode_video(self, features: ArrayLike, *, times_s: ArrayLike, end_s: float, start_s: float = 0.0) -> Document:
        """One video's frame features to all that is scored of it, the frame branch's vector too: what is measured.

        Args:
            features: (T, video_dim), a row per frame.
            times_s: (T,), seconds, never falling.
            end_s: where the video ends.
            start_s: where it starts.

        Raises:
            InvalidInput: shapes that do not fit, times that fall or lie outside.
        """
        edges, rows = self._clips_of(features, times_s, start_s=start_s, end_s=end_s)
        shots = seen = None
        if self.frames is not None:
            shots = np.asarray(features, dtype=np.float32)
            if len(shots) > self.config.max_frames:
                shots = uniform_clips(shots, count=self.config.max_frames)
            shots, seen = shots[None], np.ones((1, len(shots)), dtype=np.bool_)
        made = self.encode_clips(rows[None], frames=shots, frame_mask=seen)
        place = np.linspace(0.0, 1.0, len(edges))
        spans = np.interp(made.spans[0], place, edges).astype(np.float32)
        attends = self.config.generator in ("attention", "slots")
        return Document(
            Prototypes(vectors=made.vectors[0], spans_s=np.maximum.accumulate(spans, axis=1)),
            peaks_s=np.interp(made.peaks[0], place, edges).astype(np.float32) if attends else None,
            whole=None if made.frames is None else made.frames[0],
            whole_share=self.config.frame_weight,
        )

    def encode_document(
        self, features: ArrayLike, *, times_s: ArrayLike, end_s: float, start_s: float = 0.0
    ) -> Prototypes:
        """One video's frame features to prototypes with spans in seconds: what an index takes; see `encode_video`.

        Raises:
            InvalidInput: as there, or a model with a frame branch, whose second score no index holds.
        """
        if self.config.frame_branch:
            raise InvalidInput(
                "this model scores a vector of the frames too, which an index of prototypes cannot hold",
                remedy="Train with frame_branch=False, or use encode_video.",
            )
        return self.encode_video(features, times_s=times_s, end_s=end_s, start_s=start_s).prototypes

    def encode_tokens(
        self,
        features: ArrayLike,
        *,
        times_s: ArrayLike,
        end_s: float,
        start_s: float = 0.0,
        kind: TokenKind = "half",
    ) -> ClipTokens:
        """One video's clip tokens in the space of the queries, to place moments by and to look for by example.

        A linear encoder maps every frame by itself, so there is a token a frame. A transformer knows M clips and their
        places, so there is one a clip, at its middle. Where prototypes attend, a token is what a prototype would be
        that looks at this clip alone. A token without direction (a black frame) takes that of the whole video.

        Args:
            features: (T, video_dim), a row per frame.
            times_s: (T,), seconds, never falling.
            end_s: where the video ends.
            start_s: where it starts.
            kind: see `ClipTokens.pack`.

        Raises:
            InvalidInput: shapes that do not fit, times that fall or lie outside.
        """
        edges, rows = self._clips_of(features, times_s, start_s=start_s, end_s=end_s)
        at_s = (edges[1:] + edges[:-1]) / 2
        if self.config.encoder == "linear":
            rows, at_s = np.asarray(features, dtype=np.float32), np.asarray(times_s, dtype=np.float64)
        with self._in_use():
            encoded = self.video.contextualise(self.video.embed(torch.from_numpy(rows[None]).to(self.log_scale.device)))
            alone = self.generator.alone(encoded) if isinstance(self.generator, AttentionGenerator) else encoded
            tokens = F.normalize(self._in_context(alone, encoded)[0].float(), dim=-1)
            lost = tokens.norm(dim=-1) < _NO_DIRECTION
            tokens[lost] = F.normalize(tokens.mean(dim=0), dim=-1)
            vectors = tokens.cpu().numpy()
        return ClipTokens.pack(vectors, times_s=at_s, end_s=end_s, kind=kind)

    @staticmethod
    def similarity(queries: NDArray[Any], prototypes: NDArray[Any]) -> NDArray[np.float32]:
        """Unit queries (N, D) and unit prototypes (B, K, D) to the highest cosine of each pair, float32 (N, B)."""
        from trifocal.retrieval.prototypes import similarity

        return similarity(np.asarray(queries, np.float32), np.asarray(prototypes, np.float32))

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write `model.safetensors` and `config.json` into the folder, made where it is not there."""
        saving.save(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str], *, device: str = "cpu") -> PrototypeRetriever:
        """The model that `save_pretrained` wrote, for use (eval mode).

        Raises:
            InvalidInput: no such folder or files, or a configuration that cannot be used.
            WeightsCorrupt: the weights do not fit the configuration.
        """
        return saving.load(cls, folder, device=device)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _clips_of(
        self, features: ArrayLike, times_s: ArrayLike, *, start_s: float, end_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """When the uniform clips begin and the last one ends, (M + 1,), and the clips (M, video_dim)."""
        edges = clip_times(times_s, count=self.config.clips, start_s=start_s, end_s=end_s)
        rows = uniform_clips(features, count=self.config.clips)
        if len(np.asarray(times_s)) != len(np.asarray(features)):
            raise InvalidInput(
                f"{len(np.asarray(features))} features with {len(np.asarray(times_s))} times",
                remedy="Give one time a frame.",
            )
        if rows.shape[1] != self.config.video_dim:
            raise InvalidInput(f"features have the width {rows.shape[1]}", remedy=f"Give (T, {self.config.video_dim}).")
        return edges, rows

    def _cut(self, words: NDArray[np.float32]) -> NDArray[np.float32]:
        """At most `max_words` words; the last one stays the last, because it may stand for the sentence."""
        most = self.config.max_words
        return words if len(words) <= most else np.concatenate([words[: most - 1], words[-1:]])

    def _encode_part(self, clips: Tensor, frames: Tensor | None, mask: Tensor | None) -> EncodedVideos:
        device = self.log_scale.device
        clips = clips.to(device)
        frames, mask = (None if x is None else x.to(device) for x in (frames, mask))
        video = self.video_tokens(clips, frames, mask)
        made = self.prototypes_of(video)
        spans, peaks, attention = attended_spans(made, video, clips=self.config.clips)
        whole = self._frame_vectors(frames, mask)
        return EncodedVideos(
            vectors=F.normalize(made.vectors.float(), dim=-1).cpu().numpy().astype(np.float16),
            spans=spans.cpu().numpy().astype(np.float32),
            peaks=peaks.cpu().numpy().astype(np.float32),
            attention=attention.cpu().numpy().astype(np.float32),
            frames=None if whole is None else F.normalize(whole.float(), dim=-1).cpu().numpy().astype(np.float16),
        )

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Eval mode and no gradient; the mode is put back."""
        before = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(before)
