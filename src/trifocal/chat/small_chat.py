"""The offline default: SmolLM2-135M reads what an ImageNet classifier sees.

frames → EfficientNet-Lite0 → class scores per cell → tokens that are mixtures of the class names' embeddings → prompt,
with nothing trained to join the two; or, with trained weights, features and colours per cell → a projector → the
model with small trained changes. Either field of tokens may be merged before the language model reads it. Untrained it
is weak by construction: it knows the 1000 classes of ImageNet (no actions, few people), and a language model of 135
million parameters guesses the rest from what usually goes together. Of 14 open questions on six real clips it gets 8
right (3 without the video); of 17 either-or questions, asked in both orders, 1 (5 without): it says what it sees and
cannot weigh it. Its answers say so in `caveat`. Figures: `trifocal.bench.ask_wording`, `bench/ask_wording/`. The
weights that come with the package were trained on drawn videos: of questions on others of those they get 59 % right
(chance 28, without the video 53), and of the 14 open questions on real clips 3. So they are the model "playground", and
not the default. Figures: `trifocal.bench.small_chat_eval`, `bench/small_chat/`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trifocal import __version__
from trifocal import video as video_files
from trifocal.chat.answer import Timing
from trifocal.chat.model import VideoChat
from trifocal.chat.prefix import PrefixEntry, PrefixKey, PrefixStore, frames_id
from trifocal.chat.prefix.key import canonical
from trifocal.chat.prompt import chat_parts, lay_out
from trifocal.chat.small.asking import prefix_of
from trifocal.chat.small.cells import cell_inputs
from trifocal.chat.small.config import FrameNetwork, SmallChatConfig
from trifocal.chat.small.field import Field, field_parts, joined, video_field
from trifocal.chat.small.opened import OpenSmallVideo, question_attention
from trifocal.chat.small.trained import Trained, load_trained
from trifocal.chat.video_tokens import class_embeddings, likeliest_classes, video_tokens
from trifocal.errors import InvalidInput, ModelError
from trifocal.video import Frames, Limits, Sampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.chat.language_model import LanguageModel

__all__ = ["FrameNetwork", "OpenSmallVideo", "SmallChat", "SmallChatConfig", "load_small_chat"]

NEUTRAL_QUESTION = "What is shown in the video?"

CAVEAT = (
    "This small offline model is weak: it sees only the 1000 object classes of ImageNet, no actions and few people, "
    "and it often guesses; either-or questions are beyond it. Check what it says against the video."
)
TRAINED_CAVEAT = (
    "This small offline model was trained on drawn videos (the playground), and often guesses even there; what it says "
    "of real ones means little. Check what it says against the video."
)


class SmallChat(VideoChat):
    """SmolLM2 with video tokens from an image classifier.

    Args:
        language_model: reads the tokens; with `trained`, its changes are part of it already.
        network: the classifier.
        class_names: one for each class of `network`, in its order.
        config: how it looks.
        trained: the projector that makes the cells' tokens; `None` for mixtures of class names.
        store: where prefilled videos are kept for later questions; `None` keeps none.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        *,
        network: FrameNetwork,
        class_names: Sequence[str],
        config: SmallChatConfig | None = None,
        trained: Trained | None = None,
        store: PrefixStore | None = None,
    ) -> None:
        """Embed the class names once."""
        self.config = config or SmallChatConfig()
        self.caveat = TRAINED_CAVEAT if trained else CAVEAT
        self.name = f"{language_model.name} with {'trained' if trained else 'untrained'} ImageNet tokens"
        self.language_model = language_model
        self.network = network
        self.trained = trained
        self.store = store
        # With the leading space: that is how a name looks inside a sentence.
        self.class_names = tuple(class_names)
        names = [language_model.token_ids(f" {name}", literal=True) for name in class_names]
        self.class_embeddings = class_embeddings(language_model.embeddings, token_ids=names)
        self._norm = float(language_model.embeddings.norm(dim=-1).mean())

    def open(
        self, video: str | Path | Frames, *, limits: Limits | None = None, isolated: bool = True
    ) -> OpenSmallVideo:
        """Take a video in; see `VideoChat.open`."""
        warnings: tuple[str, ...] = ()
        timing = Timing()

        def make() -> PrefixEntry:
            nonlocal warnings, timing
            started = time.perf_counter()
            if isinstance(video, Frames):
                frames = video
            else:
                sampling = Sampling.uniform(self.config.frames, size=self.network.frame_size)
                with video_files.open(video, limits=limits or Limits(), isolated=isolated) as opened:
                    frames = opened.read(sampling)
            warnings, decoded = frames.warnings, time.perf_counter() - started
            entry, timing = self.prefill(frames)
            timing = replace(timing, decode_s=decoded)
            return entry

        name = "frames" if isinstance(video, Frames) else str(video)
        if self.store is None:
            return OpenSmallVideo(self, make(), name=name, warnings=warnings, timing=timing)
        entry, found = self.store.get_or_make(self.key(video), make)
        return OpenSmallVideo(self, entry, name=name, warnings=warnings, timing=timing, found=found)

    @torch.inference_mode()
    def prefill(self, frames: Frames) -> tuple[PrefixEntry, Timing]:
        """Run the prompt up to the question through the language model; see `OpenSmallVideo` for what the entry holds.

        Raises:
            InvalidInput: there are no frames, or merging cannot meet its budget on them.
            ModelError: the video alone does not fit in the model's context.
        """
        if len(frames.images) == 0:
            raise InvalidInput("There are no frames to ask about", remedy="Give at least one frame.")
        started = time.perf_counter()
        if self.trained is None and self.config.merge is None:
            frame_tokens, names = self.tokens(self.look(frames))
            times_s = frames.times_s.tolist()
            parts = lay_out(self.config.style, frame_tokens=frame_tokens, times_s=times_s, video_tokens=names)
            merged_away, merge_s = 0, 0.0
        else:
            field, names = self.field(frames)
            parts = field_parts(self.config.style, field, names=names)
            merged_away, merge_s = field.cells - len(field.tokens), field.merge_s
        prompt = prefix_of(self.language_model, style=self.config.style, video=parts)
        tokenised = time.perf_counter()
        self.language_model.check_fits(len(prompt.embeddings), decoding=self.config.decoding)
        entry = self.language_model.prefill(prompt.embeddings)
        prefilled = time.perf_counter()
        neutral = question_attention(self, entry, question=NEUTRAL_QUESTION)
        entry = PrefixEntry(
            layers=entry.layers,
            length=entry.length,
            extra={
                "frame_of": prompt.frame_of,
                "neutral": neutral,
                "times_s": torch.from_numpy(np.asarray(frames.times_s, np.float64).copy()),
            },
            facts={"video": prompt.video_tokens + merged_away, "merged_away": merged_away},
        )
        return entry, Timing(
            vision_s=tokenised - started - merge_s,
            merge_s=merge_s,
            prefill_s=prefilled - tokenised,
            evidence_s=time.perf_counter() - prefilled,
        )

    @torch.inference_mode()
    def field(self, frames: Frames) -> tuple[Field, torch.Tensor]:
        """The trained or merged tokens of the cells, and the names of the whole video, `(M, C)`."""
        config, times_s = self.config, frames.times_s.tolist()
        if self.trained is None:
            frame_tokens, names = self.tokens(self.look(frames))
            tokens = frame_tokens.view(len(frame_tokens), config.grid, config.grid, -1)  # (T, grid, grid, C)
            return joined(tokens, torch.zeros_like(tokens), merge=config.merge), names
        images = np.ascontiguousarray(frames.images)
        feature_map = self._features(images)
        cells = cell_inputs(feature_map, images, grid=config.grid)
        names = self.names(self.network.classify_cells(feature_map).mean(dim=(2, 3)))
        return video_field(self.trained.projector, cells, times_s=times_s, merge=config.merge), names

    @torch.inference_mode()
    def look(self, frames: Frames) -> torch.Tensor:
        """Class scores at each cell of each frame, `(T, A, h, w)`, a batch of frames at a time."""
        return self.network.classify_cells(self._features(np.ascontiguousarray(frames.images)))

    def _features(self, images: NDArray[np.uint8]) -> torch.Tensor:
        # Torch cannot take a reversed view as it is; the callers copy only those.
        size = self.config.batch_size
        starts = range(0, len(images), size)
        return torch.cat(
            [self.network.features(self.network.preprocess(images[start : start + size])) for start in starts]
        )

    @torch.inference_mode()
    def names(self, frame_logits: torch.Tensor) -> torch.Tensor:
        """The embeddings of the classes that the video most likely shows: scores `(T, A)` to `(video_names, C)`."""
        if not self.config.video_names:
            return self.class_embeddings.new_zeros(0, self.class_embeddings.shape[1])
        # The mean probability over the frames, as scores again.
        scores = frame_logits.to(self.class_embeddings).softmax(-1).mean(0).log()[None]
        best, _ = likeliest_classes(scores, count=self.config.video_names)
        return self._scaled(self.class_embeddings[best[0]])  # (video_names, C)

    def _scaled(self, tokens: torch.Tensor) -> torch.Tensor:
        norm = self.config.norm
        return tokens if norm is None else torch.nn.functional.normalize(tokens, dim=-1) * (norm * self._norm)

    @torch.inference_mode()
    def tokens(self, cell_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Untrained video tokens, from class scores.

        Args:
            cell_logits: `(T, A, h, w)`.

        Returns:
            What stands for each frame, `(T, N, C)` (its likeliest classes, then its cells row by row), and for the
            whole video, `(M, C)`.
        """
        config, embeddings = self.config, self.class_embeddings
        frame_logits = cell_logits.mean(dim=(2, 3)).to(embeddings)  # (T, A)
        frame_tokens = embeddings.new_zeros(len(cell_logits), 0, embeddings.shape[1])
        if config.frame_names:
            best, _ = likeliest_classes(frame_logits, count=config.frame_names)
            frame_tokens = self._scaled(embeddings[best])  # (T, frame_names, C)
        if config.grid:
            cells = video_tokens(
                cell_logits,
                embeddings,
                grid=config.grid,
                top_k=config.top_k,
                temperature=config.temperature,
                norm=None if config.norm is None else config.norm * self._norm,
            )
            frame_tokens = torch.cat([frame_tokens, cells.flatten(1, 2)], dim=1)
        return frame_tokens, self.names(frame_logits)

    def key(self, video: str | Path | Frames) -> PrefixKey:
        """What the prefix of a video is kept under; reads the whole file.

        Raises:
            VideoError: it cannot be read.
        """
        import transformers

        config, model = self.config, self.language_model
        before, _ = chat_parts(model, style=config.style, video=(), question="")
        words = canonical([str(part) for part in before]) + model.tokenizer.to_str()
        look = {name: value for name, value in asdict(config).items() if name not in ("merge", "decoding")}
        given = isinstance(video, Frames)
        return PrefixKey(
            content=frames_id(video) if isinstance(video, Frames) else video_files.content_id(video),
            sampling={"given": True} if given else {"frames": config.frames, "size": list(self.network.frame_size)},
            processor={"look": look, "network": str(getattr(self.network, "id", type(self.network).__name__))},
            model=f"{self.name}@{self._revision}",
            dtype=str(model.embeddings.dtype).removeprefix("torch."),
            method={} if config.merge is None else {"merge": config.merge.to_json()},
            prompt=hashlib.sha256(words.encode()).hexdigest(),
            software={"trifocal": __version__, "transformers": transformers.__version__, "torch": torch.__version__},
        )

    @property
    def _revision(self) -> str:
        """Tells language models and trained parts of one name apart, by some of their numbers."""
        digest = hashlib.sha256(self.class_embeddings.float().cpu().numpy().tobytes())
        for _, tensor in sorted(self.trained.low_rank.items()) if self.trained else ():
            digest.update(tensor.float().cpu().numpy().tobytes())
        if self.trained:
            digest.update(self.trained.projector.linear.weight.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def load_small_chat(
    *,
    device: str = "cpu",
    offline: bool = False,
    config: SmallChatConfig | None = None,
    trained: bool | Path = False,
    store: PrefixStore | None = None,
) -> SmallChat:
    """The default model, with its weights.

    Args:
        device: where to run both networks.
        offline: use cached files only.
        config: how it looks at videos; with trained weights what they were trained with by default.
        trained: whether to use the trained weights that come with the package, or the folder of others.
        store: where prefilled videos are kept for later questions.

    Raises:
        WeightsError: a file cannot be had.
        ModelError: the trained weights belong to another language model.
    """
    from trifocal.backbones import load_class_names, load_efficientnet_lite0
    from trifocal.chat.small.low_rank import fold
    from trifocal.chat.smollm2 import load_smollm2

    language_model = load_smollm2(device=device, offline=offline)
    parts: Trained | None = None
    if trained is not False:
        parts = load_trained(None if trained is True else Path(trained))
        if parts.language_model != language_model.name:
            raise ModelError(
                f"The trained weights belong to {parts.language_model}, and this is {language_model.name}",
                remedy="Train them for this language model, or use the untrained model.",
            )
        parts.projector.to(device)
        fold(language_model.model, parts.low_rank)
        config = config or parts.config()
    return SmallChat(
        language_model,
        network=load_efficientnet_lite0(device=device, offline=offline),
        # Of names like "handrail / baluster" the first says enough, and a mean over both says neither.
        class_names=[known.name.partition(" / ")[0] for known in load_class_names(offline=offline)],
        config=config,
        trained=parts,
        store=store,
    )
