"""The network of the retriever: words and videos to one space, prototypes of videos, and the losses that train it.

    clips (B, M, d_v) → clip encoder → windows (B, V, D) → generator → prototypes (B, K, D) ┐
    words (N, L, d_t) → text encoder → pooled query (N, D) ──────────────────────────────────┴→ max cosine (N, B)

`RetrieverNetwork.forward` gives the parts, `loss` the weighted sum with every term beside it. The heads that only
training needs are submodules of their own and are left out of `parameters_in_use`. `retriever` makes it ready for use.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from trifocal.errors import InvalidInput
from trifocal.retrieval import losses as L
from trifocal.retrieval.model.attention import AttentionGenerator
from trifocal.retrieval.model.coverage import CoverageGenerator
from trifocal.retrieval.model.encoders import AttentionPool, TextEncoder, build_sequence_encoder
from trifocal.retrieval.model.heads import VideoDecoder, WordDecoder
from trifocal.retrieval.model.merged import MergedGenerator
from trifocal.retrieval.model.tokens import PrototypeSet, VideoTokens
from trifocal.retrieval.model.windows import span_means, window_spans

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.retrieval.model.batch import RetrievalBatch
    from trifocal.retrieval.model.config import RetrieverConfig

__all__ = ["RetrieverNetwork", "RetrieverOutput"]


@dataclass(frozen=True, slots=True, eq=False)
class RetrieverOutput:
    """What `forward` gives.

    Args:
        queries: (N, D), unit vectors.
        prototypes: (B, K, D), unit vectors.
        scores: (N, B), the highest cosine of each pair, with the frames' score added where there is that branch.
        cosines: (N, B, K), before the maximum over prototypes.
        attention: (B, K, V), or None where prototypes are spans.
        spans: (B, K, 2), in clips, or None where prototypes attend.
        whole: (B, D), the frame branch's vectors, of any length; None without that branch.
    """

    queries: Tensor
    prototypes: Tensor
    scores: Tensor
    cosines: Tensor
    attention: Tensor | None
    spans: Tensor | None
    whole: Tensor | None = None


class RetrieverNetwork(nn.Module):
    """Text encoder, clip encoder and prototype generator, with the heads that train them.

    Weights are drawn from torch's global generator; seed it first.

    Args:
        config: everything about the model.
    """

    token_spans: Tensor

    def __init__(self, config: RetrieverConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextEncoder(config)
        self.video = build_sequence_encoder(config.video_dim, config, length=config.clips)
        if config.start == "shared" and config.encoder == "linear":
            self.video.load_state_dict(self.text.encoder.state_dict())
        self.generator = _generator(config)
        self.register_buffer(
            "token_spans",
            window_spans(config.clips, longest=config.window_max, lengths=config.window_lengths),
            persistent=False,
        )  # (V, 2)
        self.log_scale = nn.Parameter(
            torch.tensor(math.log(1 / config.temperature)), requires_grad=config.learn_temperature
        )
        looks_at_frames = config.frame_branch or config.frame_tokens
        self.frames = (
            build_sequence_encoder(config.video_dim, config, length=config.max_frames) if looks_at_frames else None
        )
        self.frame_pool = AttentionPool(config.hidden, edges=False) if config.frame_branch else None
        self.word_decoder = WordDecoder(config) if config.word_weight > 0 else None
        self.video_decoder = VideoDecoder(config) if config.video_weight > 0 else None

    def video_tokens(self, clips: Tensor, frames: Tensor | None = None, mask: Tensor | None = None) -> VideoTokens:
        """Clips (B, M, video_dim) to encoded clips and their windows; frames (B, F, video_dim) too where they count."""
        if clips.shape[1:] != (self.config.clips, self.config.video_dim):
            raise InvalidInput(
                f"clips have the shape {tuple(clips.shape)}",
                remedy=f"Give (B, {self.config.clips}, {self.config.video_dim}).",
            )
        encoded = self.video.contextualise(self.video.embed(clips))  # (B, M, D)
        if not self.config.frame_tokens:
            return VideoTokens(clips=encoded, spans=self.token_spans)
        shots, mask = self._encode_frames(frames, mask)
        return VideoTokens(clips=encoded, spans=self.token_spans, frames=shots, frame_mask=mask)

    def prototypes_of(self, video: VideoTokens) -> PrototypeSet:
        """Prototypes of any length, with the whole video's direction mixed in where the configuration says so."""
        made: PrototypeSet = self.generator(video)
        return dataclasses.replace(made, vectors=self._in_context(made.vectors, video.clips))

    def forward(self, batch: RetrievalBatch) -> RetrieverOutput:
        """Queries, prototypes and scores of a batch; `max_words` words of a caption count."""
        queries = self._queries(batch)
        made = self.prototypes_of(self.video_tokens(batch.clips, batch.frames, batch.frame_mask))
        return self._output(queries, made, batch)

    def loss(self, batch: RetrievalBatch, *, epoch: float = 0, together: bool = False) -> dict[str, Tensor]:
        """Every term that counts, and `total`, the weighted sum to differentiate: scalars by name.

        Args:
            batch: videos with all their captions.
            epoch: epochs done, from 0; decides about hard negatives. Masking, mixing and negatives are drawn from
                torch's global generator.
            together: rank among the videos and captions of all processes of torch's default group, all of which must
                call it; the retrieval loss is then the same at each, but for the negatives drawn.
        """
        c = self.config
        queries = self._queries(batch)
        video = self.video_tokens(batch.clips, batch.frames, batch.frame_mask)
        made = self.prototypes_of(video)
        out = self._output(queries, made, batch)
        ranked = self._retrieval_loss(out, queries, made, batch, epoch=epoch, together=together)
        terms = {"retrieval": c.retrieval_weight * ranked}
        mine = out.cosines[torch.arange(len(batch.owner), device=batch.owner.device), batch.owner]  # (N, K)
        winner = mine.argmax(dim=1)  # (N,)
        if self.word_decoder is not None:
            terms["words"] = c.word_weight * self._word_loss(batch, made.vectors[batch.owner, winner])
        if self.video_decoder is not None:
            target = batch.clips if c.video_target == "input" else video.clips
            terms["video"] = c.video_weight * L.video_reconstruction(self.video_decoder(made.vectors), target)
        if c.guidance_weight > 0 and len(batch) > 1:
            terms["guidance"] = c.guidance_weight * self._guidance_loss(batch, video, out.queries)
        elif c.guidance_weight > 0 and together:  # where another process has two videos, it has this term
            terms["guidance"] = ranked.new_zeros(())
        if c.ortho_weight > 0:
            terms["ortho"] = c.ortho_weight * L.orthogonality(made.vectors, norm=c.ortho_norm)
        if c.balance_weight > 0:
            terms["balance"] = c.balance_weight * L.winner_balance(mine, temperature=c.temperature)
        return {"total": torch.stack(list(terms.values())).sum(), **terms}

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """For an optimiser: matrices decay; biases, norms, single numbers and the shared prototypes do not."""
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        decay = [p for name, p in trained if p.dim() > 1 and name != "generator.prototypes"]
        rest = [p for name, p in trained if p.dim() <= 1 or name == "generator.prototypes"]
        return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]

    def parameters_in_use(self) -> int:
        """How many numbers encoding takes, without the heads of training."""
        heads = ("word_decoder.", "video_decoder.", "log_scale")
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith(heads))

    def with_generator(self, config: RetrieverConfig) -> Self:
        """The same trained encoders with another generator, such as `merged` after training as `tokens`.

        Weights that both have are shared, not copied; `attention` and `slots` start untrained.
        """
        other = type(self)(config).to(self.log_scale.device)
        other.text, other.video, other.log_scale = self.text, self.video, self.log_scale
        other.frames, other.frame_pool = self.frames, self.frame_pool
        return other.train(self.training)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _in_context(self, vectors: Tensor, clips: Tensor) -> Tensor:
        """Vectors (B, K, D) with the direction of the whole video mixed in, where the configuration says so."""
        if not self.config.context:
            return vectors
        whole = F.normalize(clips.mean(dim=1, keepdim=True), dim=-1)
        return F.normalize(vectors, dim=-1) + self.config.context * whole

    def _queries(self, batch: RetrievalBatch) -> Tensor:
        if batch.words.shape[2] != self.config.text_dim or batch.words.shape[1] > self.config.max_words:
            raise InvalidInput(
                f"words have the shape {tuple(batch.words.shape)}",
                remedy=f"Give at most {self.config.max_words} words of width {self.config.text_dim}.",
            )
        return torch.as_tensor(self.text(batch.words, batch.word_mask))

    def _encode_frames(self, frames: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if frames is None or mask is None or self.frames is None:
            raise InvalidInput("this model looks at frames, and there are none", remedy="Give frames and frame_mask.")
        if frames.shape[1] > self.config.max_frames:
            raise InvalidInput(
                f"{frames.shape[1]} frames a video", remedy=f"Give at most {self.config.max_frames}, by averaging."
            )
        return self.frames.contextualise(self.frames.embed(frames), mask), mask

    def _frame_vectors(self, frames: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """The frame branch's vectors (B, D), of any length; None without that branch."""
        if self.frame_pool is None:
            return None
        encoded, seen = self._encode_frames(frames, mask)
        return torch.as_tensor(self.frame_pool(encoded, seen))

    def _output(self, queries: Tensor, made: PrototypeSet, batch: RetrievalBatch) -> RetrieverOutput:
        q, p = F.normalize(queries, dim=-1), F.normalize(made.vectors, dim=-1)
        whole = self._frame_vectors(batch.frames, batch.frame_mask)
        scores, cosines = self._scores(q, p, whole)
        return RetrieverOutput(
            queries=q,
            prototypes=p,
            scores=scores,
            cosines=cosines,
            attention=made.attention,
            spans=made.spans,
            whole=whole,
        )

    def _scores(self, q: Tensor, p: Tensor, whole: Tensor | None) -> tuple[Tensor, Tensor]:
        """Unit queries (N, D) and unit prototypes (B, K, D) to scores (N, B) and cosines (N, B, K)."""
        c = self.config
        cosines = torch.unflatten(q @ p.flatten(0, 1).T, 1, tuple(p.shape[:2]))  # (N, B, K)
        scores = _maximum(cosines, width=c.smooth_max if self.training else 0.0)
        if whole is not None:
            scores = (1 - c.frame_weight) * scores + c.frame_weight * (q @ F.normalize(whole, dim=-1).T)
        return scores, cosines

    def _retrieval_loss(
        self,
        out: RetrieverOutput,
        queries: Tensor,
        made: PrototypeSet,
        batch: RetrievalBatch,
        *,
        epoch: float,
        together: bool,
    ) -> Tensor:
        c = self.config
        scores, owner, vectors, whole = out.scores, batch.owner, made.vectors, out.whole
        if together:
            own = slice(0) if batch.spare else slice(None)
            vectors, videos_before = L.gather_rows(vectors[own])
            queries, _ = L.gather_rows(queries[own])
            owner, _ = L.gather_rows(owner[own] + videos_before)
            whole = None if whole is None else L.gather_rows(whole[own])[0]
            scores, _ = self._scores(F.normalize(queries, dim=-1), F.normalize(vectors, dim=-1), whole)
        loss = scores.new_zeros(())
        if c.nce_weight > 0:
            if c.retrieval == "cosine":
                logits = scores * self.log_scale.exp().clamp(max=100.0)
            else:
                dots = torch.unflatten(queries @ vectors.flatten(0, 1).T, 1, tuple(vectors.shape[:2]))
                logits = _maximum(dots, width=0.0)
            loss = loss + c.nce_weight * L.info_nce(logits, owner)
        if c.retrieval == "dot" and whole is not None and c.frame_nce_weight > 0:
            loss = loss + c.frame_nce_weight * L.info_nce(queries @ whole.T, owner)
        if c.triplet_weight > 0:
            hard = epoch >= c.hard_negatives_from_epoch
            loss = loss + c.triplet_weight * L.triplet(
                scores, owner, margin=c.margin, hard=hard, top=c.hard_negatives_top
            )
        return loss

    def _word_loss(self, batch: RetrievalBatch, retrieved: Tensor) -> Tensor:
        assert self.word_decoder is not None
        c = self.config
        masked = L.mask_words(batch.word_mask, rate=c.mask_rate)
        projected = self.text.embed(batch.words)
        rebuilt = self.word_decoder(projected, batch.word_mask, masked, retrieved)
        target = projected[masked] if c.word_target == "projected" else batch.words[masked]
        same = L.same_words(batch.words[masked], None if batch.word_ids is None else batch.word_ids[masked])
        return L.masked_word_loss(rebuilt, target, same, temperature=c.word_temperature)

    def _guidance_loss(self, batch: RetrievalBatch, video: VideoTokens, queries: Tensor) -> Tensor:
        """Mix every video with a partner and see where the prototype that each query retrieves looks."""
        c = self.config
        partner = L.partners(len(batch), device=batch.owner.device)
        if c.mixing == "concatenate":
            mixed = video.beside(video.of(partner))
            windows, frames = len(video.spans), 0 if video.frames is None else video.frames.shape[1]
            sides = [1.0] * windows + [0.0] * windows + [1.0] * frames + [0.0] * frames
            first = video.clips.new_tensor(sides).expand(len(batch), -1)  # (B, 2V), how far a token is of the first
        else:
            place = torch.arange(c.clips, device=video.clips.device)
            start = torch.randint(c.clips, (len(batch), 1), device=place.device)
            keep = ((place - start) % c.clips) < c.clips // 2  # (B, M): half the clips, in one piece on a circle
            clips = torch.where(keep[..., None], video.clips, video.clips[partner])
            mixed = dataclasses.replace(video, clips=clips, frames=None, frame_mask=None)
            first = span_means(keep[..., None].to(clips), self.token_spans)[..., 0]
        made = self.prototypes_of(mixed)
        assert made.attention is not None  # the configuration allows guidance for generators that attend only
        on_first = (made.attention * first[:, None]).sum(dim=-1)  # (B, K)
        unit = F.normalize(made.vectors, dim=-1)
        # Mixture b holds video b first and partner[b] second; a query asks the mixture of its own video as first, and
        # the one in which its video is second.
        second = torch.empty_like(partner)
        second[partner] = torch.arange(len(batch), device=partner.device)
        shares = []
        for mixture, is_first in ((batch.owner, True), (second[batch.owner], False)):
            winner = (queries[:, None] * unit[mixture]).sum(dim=-1).argmax(dim=1)
            share = on_first[mixture, winner]
            shares.append(share if is_first else 1 - share)
        return L.attention_guidance(torch.cat(shares), margin=c.guidance_margin)


def _maximum(cosines: Tensor, *, width: float) -> Tensor:
    """Over the last axis; `width` > 0 gives width·logsumexp(x/width), which lets near winners learn too."""
    return width * torch.logsumexp(cosines / width, dim=-1) if width else cosines.amax(dim=-1)


class _TokensGenerator(nn.Module):
    """No prototypes: every window is kept."""

    def forward(self, video: VideoTokens) -> PrototypeSet:
        """The tokens themselves with their spans."""
        return PrototypeSet(vectors=video.project(), spans=video.all_spans())


def _generator(config: RetrieverConfig) -> nn.Module:
    if config.generator in ("attention", "slots"):
        return AttentionGenerator(config)
    if config.generator == "merged":
        return MergedGenerator(config.prototypes)
    return CoverageGenerator(config.prototypes) if config.generator == "coverage" else _TokensGenerator()
