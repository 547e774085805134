"""What every model that answers questions about videos looks like from outside.

`VideoChat.open` prefills a video once; `OpenVideo.ask` answers a question on it and leaves it as it was, so that any
number of questions share the cost. `VideoChat.ask` is both in one. `load_chat` turns a reference into such a model: the
offline default, or a video language model of Hugging Face transformers. Free of torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput, ModelError
from trifocal.weights import parse_reference

if TYPE_CHECKING:
    from trifocal.chat.answer import Answer
    from trifocal.chat.decoding import Decoding
    from trifocal.chat.prefix import PrefixStore
    from trifocal.chat.small.config import SmallChatConfig
    from trifocal.merging import MergeConfig
    from trifocal.video import Frames, Limits

__all__ = ["OFFLINE", "OpenVideo", "VideoChat", "VideoUse", "load_chat"]

OFFLINE = ("default", "playground")
"""The models that need no hub: both are SmolLM2 with an image classifier, the second trained on drawn videos."""


@dataclass(frozen=True, slots=True)
class VideoUse:
    """What of a video a model was shown.

    Args:
        frames: how many were shown.
        frames_wanted: how many the settings asked for; more than `frames` where they did not fit into the context.
        video: tokens that stand for the video before merging.
        kept: after merging.
    """

    frames: int
    frames_wanted: int
    video: int
    kept: int


class OpenVideo(ABC):
    """A video that a model has already taken in."""

    @property
    def use(self) -> VideoUse | None:
        """What of the video is shown; None for a model that does not tell."""
        return None

    @abstractmethod
    def ask(
        self,
        question: str,
        *,
        decoding: Decoding | None = None,
        on_text: Callable[[str], None] | None = None,
        evidence: int = 3,
    ) -> Answer:
        """Answer a question on this video.

        Args:
            question: in the model's language.
            decoding: how the words are chosen; the model's own default is deterministic.
            on_text: called with each new piece of the answer as it is written.
            evidence: how many frames to name at most.

        Raises:
            InvalidInput: the question is empty.
            ModelError: question, video and answer do not fit in the model's context together.
        """


class VideoChat(ABC):
    """A model that answers questions about videos.

    Attributes:
        name: how answers name the model.
        caveat: what a reader should know about its answers; empty when nothing.
    """

    name: str
    caveat: str

    @abstractmethod
    def open(self, video: str | Path | Frames, *, limits: Limits | None = None, isolated: bool = True) -> OpenVideo:
        """Take a video in, once for any number of questions.

        Args:
            video: a file, or frames that are already decoded, which are then all used.
            limits: what the file may be; the defaults of `trifocal.video`.
            isolated: decode in a separate process that can be killed.

        Raises:
            VideoError: the file cannot be used.
            InvalidInput: there are no frames.
            ModelError: the video alone does not fit in the model's context.
        """

    def ask(
        self,
        video: str | Path | Frames,
        question: str,
        *,
        decoding: Decoding | None = None,
        on_text: Callable[[str], None] | None = None,
        evidence: int = 3,
        limits: Limits | None = None,
        isolated: bool = True,
    ) -> Answer:
        """Answer one question about one video; see `open` and `OpenVideo.ask`."""
        checked_question(question)
        opened = self.open(video, limits=limits, isolated=isolated)
        return opened.ask(question, decoding=decoding, on_text=on_text, evidence=evidence)


def checked_question(question: str) -> str:
    """The question without surrounding space.

    Raises:
        InvalidInput: nothing is left, or it is not text (half a surrogate pair, as from bytes that are not UTF-8).
    """
    if not (stripped := question.strip()):
        raise InvalidInput("The question is empty", remedy='Ask something, such as "What is shown in the video?".')
    try:
        stripped.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"The question {stripped!a} is not valid text", remedy="Type it again; the terminal should use UTF-8."
        ) from error
    return stripped


def load_chat(
    reference: str | Path = "default",
    *,
    device: str = "cpu",
    offline: bool = False,
    store: PrefixStore | None = None,
    **options: Any,
) -> VideoChat:
    """A model that answers questions about videos.

    Args:
        reference: "default" for the offline model; "playground" for the same with weights trained on drawn videos,
            which knows those better and real ones worse; `hf:org/name@revision`, `org/name` or the path of a folder
            for a Hugging Face video language model.
        device: where to run it.
        offline: use cached files only.
        store: where prefilled videos are kept for later questions; None for memory alone.
        options: `method`, `layer`, `budget` and other options of merging, and `config`. Of a Hugging Face model also
            `dtype`; see `trifocal.chat.hf.load.load_hf_chat`. Of the default also `trained`: a folder of other trained
            weights. It merges in front of its first layer, so its `layer` is 0.

    Raises:
        ModelError: no such model is supported.
        InvalidInput: an option cannot be used.
        WeightsError: its files cannot be had.
    """
    # Torch and transformers take seconds to import; only who asks pays.
    if reference in OFFLINE:
        options.setdefault("trained", reference == "playground")
        return _load_default(device=device, offline=offline, store=store, **options)
    try:
        parse_reference(reference)
    except InvalidInput as error:
        raise ModelError(
            f"{reference!r} is not a video language model that can be loaded",
            remedy="Give 'default', 'playground', the path of a folder that exists, or hf:org/name@revision.",
        ) from error
    from trifocal.chat.hf.load import load_hf_chat

    return load_hf_chat(reference, device=device, offline=offline, store=store, **options)


def _load_default(
    *,
    method: str | MergeConfig | None = None,
    layer: int = 0,
    config: SmallChatConfig | None = None,
    trained: bool | Path = False,
    device: str,
    offline: bool,
    store: PrefixStore | None,
    **options: Any,
) -> VideoChat:
    """The offline default, merging as a Hugging Face model is told to."""
    from trifocal.chat.small_chat import load_small_chat
    from trifocal.merging import MergeConfig, configure

    if layer != 0:
        raise InvalidInput(f"layer is {layer}", remedy="The default model merges in front of layer 0 alone.")
    if options and (method is None or isinstance(method, MergeConfig)):
        raise InvalidInput(
            f"The default model has no option {', '.join(sorted(options))}",
            remedy="Options of merging need the name of a method, such as method='sttm'.",
        )
    # Told what is wrong before anything is fetched.
    merge = configure(method, **options) if isinstance(method, str) else method
    chat = load_small_chat(device=device, offline=offline, config=config, trained=trained, store=store)
    if merge is not None:
        chat.config = replace(chat.config, merge=merge)
    return chat
