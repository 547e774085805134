"""Asking a Hugging Face video language model: a video is read once and asked any number of times, from any thread.

`HFChat.open` reads a video, or finds its prefix in the store, where this process or, on disk, another one has left it;
`OpenHFVideo.ask` forks the prefix and leaves it as it was. With `method` the video's tokens are merged on the way,
which makes both the first answer and every later one cheaper.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal import video as video_files
from trifocal._version import __version__
from trifocal.chat.hf.config import HFChatConfig
from trifocal.chat.hf.engine import Engine
from trifocal.chat.hf.opened import OpenHFVideo
from trifocal.chat.hf.processors import processor_for
from trifocal.chat.hf.prompt import ChatPrompt
from trifocal.chat.hf.reading import look, read
from trifocal.chat.hf.sampling import Room, plan, tokens_for
from trifocal.chat.model import VideoChat
from trifocal.chat.prefix import PrefixEntry, PrefixKey, PrefixStore, frames_id
from trifocal.errors import InvalidInput, ModelError
from trifocal.video import Frames, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trifocal.chat.answer import Timing
    from trifocal.merging import MergeConfig

__all__ = ["HFChat", "OpenHFVideo"]

CAVEAT = "A language model may be wrong; the seconds named are where it looked, not a proof."


class HFChat(VideoChat):
    """A video language model of transformers.

    Args:
        model: of a supported type, in evaluation mode; its weights are not changed, hooks are taken off by `close`.
        tokenizer: of the model, one of the fast kind.
        name: how answers name it.
        revision: what its files are known by; prefixes are found again only under the same name and revision. None for
            a model that only this object knows.
        settings: of the model's video processor.
        chat_template: where the model's own is not wanted.
        config: how videos are shown and asked about.
        method: merge the video's tokens: a name of `trifocal.merging.METHODS`, or a configuration; None for not at all.
        layer: merge in front of this layer; see `trifocal.accelerate`.
        store: where prefixes are kept; None for a store in memory of 2 GiB.
        options: of the method, such as `budget=0.3`, and of `trifocal.accelerate`.

    Raises:
        ModelError: the model is not supported, or its template has no place for a video.
        InvalidInput: an option cannot be used, such as a method that looks at the question.
    """

    caveat = CAVEAT

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        name: str,
        revision: str | None = None,
        settings: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        config: HFChatConfig | None = None,
        method: str | MergeConfig | None = None,
        layer: int = 2,
        store: PrefixStore | None = None,
        **options: Any,
    ) -> None:
        self.config = config or HFChatConfig()
        self.name = name
        self.processor = processor_for(model, settings=settings)
        self.prompt = ChatPrompt(tokenizer, processor=self.processor, template=chat_template, system=self.config.system)
        self.store = PrefixStore() if store is None else store
        self.engine = Engine(
            model, method=method, layer=layer, evidence_depth=self.config.evidence_depth, options=options
        )
        # Without a revision no other object may find its prefixes.
        self.revision = revision or f"unnamed:{secrets.token_hex(16)}"
        ends = model.generation_config.eos_token_id
        ends = model.config.get_text_config(decoder=True).eos_token_id if ends is None else ends
        self.end_ids = frozenset(ends if isinstance(ends, list | tuple) else [] if ends is None else [ends])

    def close(self) -> None:
        """Take the hooks off the model; videos that are open cannot be asked any more."""
        self.engine.close()

    def open(self, video: str | Path | Frames, *, limits: Limits | None = None, isolated: bool = True) -> OpenHFVideo:
        """Take a video in, or find it in the store; see `VideoChat.open`.

        Raises:
            ModelError: it does not fit into the model's context, and the configuration says to refuse, or it is frames.
        """
        paid: list[Timing] = []

        def make() -> PrefixEntry:
            entry, timing = self._read(video, limits=limits, isolated=isolated)
            paid.append(timing)
            return entry

        entry, _ = self.store.get_or_make(self.key(video), make)
        name = "frames" if isinstance(video, Frames) else str(video)
        entry = entry.to(self.engine.device, layers=self.engine.layer_devices)
        return OpenHFVideo(self, entry, name=name, paid=paid[0] if paid else None)

    def key(self, video: str | Path | Frames) -> PrefixKey:
        """What the prefix of a video is kept under; reads the whole file.

        Raises:
            VideoError: it cannot be read.
        """
        import torch
        import transformers

        given = isinstance(video, Frames)
        config = self.config
        return PrefixKey(
            content=frames_id(video) if isinstance(video, Frames) else video_files.content_id(video),
            sampling={"given": True}
            if given
            else {
                "fps": config.fps,
                "max_frames": config.max_frames,
                "too_long": config.too_long,
                "reserved": self._reserved,
            },
            processor=self.processor.describe(),
            model=f"{self.name}@{self.revision}",
            dtype=str(self.engine.dtype).removeprefix("torch."),
            method={**self.engine.describe(), "evidence_layer": self.engine.evidence_layer},
            prompt=self.prompt.fingerprint,
            software={"trifocal": __version__, "transformers": transformers.__version__, "torch": torch.__version__},
            salt=self.store.salt,
        )

    @property
    def _reserved(self) -> int:
        return self.config.question_room + self.config.decoding.max_new_tokens

    def _read(self, video: str | Path | Frames, *, limits: Limits | None, isolated: bool) -> tuple[PrefixEntry, Timing]:
        """Decode, look, prefill."""
        room = Room(
            self.engine.context,
            self._reserved,
            budget=self.engine.budget_before_layers,
            trailing=self.processor.trailing,
        )
        started = time.perf_counter()
        with ExitStack() as stack:
            batches: Iterable[Frames]
            if isinstance(video, Frames):
                batches, planned = [video], len(video)
                wanted = planned
                duration_s = float(video.times_s[-1]) if planned else 0.0
                self._check_frames(video, room, duration_s)
            else:
                opened = stack.enter_context(video_files.open(video, limits=limits or Limits(), isolated=isolated))
                duration_s = opened.info.duration_s
                sampling, planned, wanted = plan(
                    opened.info, config=self.config, processor=self.processor, prompt=self.prompt, room=room
                )
                batches = opened.stream(sampling, batch_size=self.config.chunk)
            opening_s = time.perf_counter() - started
            looked = look(
                batches,
                processor=self.processor,
                frames=planned,
                chunk=self.config.chunk,
                device=self.engine.device,
            )
        entry, timing = read(
            looked,
            engine=self.engine,
            processor=self.processor,
            prompt=self.prompt,
            duration_s=duration_s,
            planned=planned,
            wanted=wanted,
        )
        return entry, replace(timing, decode_s=timing.decode_s + opening_s)

    def _check_frames(self, frames: Frames, room: Room, duration_s: float) -> None:
        if not len(frames):
            raise InvalidInput("There are no frames to ask about", remedy="Give at least one frame.")
        height, width = frames.images.shape[1:3]
        tokens = tokens_for(
            len(frames),
            height=height,
            width=width,
            processor=self.processor,
            prompt=self.prompt,
            duration_s=duration_s,
        )
        if not room.fits(*tokens):
            raise ModelError(
                f"{len(frames)} frames take {tokens[0]:,} video tokens, and {self.name} has room for {room.context:,} "
                "with everything else",
                remedy="Give fewer frames, or a file, which is sampled to fit.",
            )
