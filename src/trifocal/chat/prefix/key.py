"""When two prefixes are the same: everything that the keys and values of a video depend on.

A prefix may be reused only if nothing that shaped it has changed: the video's bytes, which frames were taken and how
they were scaled, the model and its revision, the number format, whether eight bits were enough to keep them, how tokens
were merged, and the words before the question. All of it is in `PrefixKey`; its `digest` names the entry, and the whole
key is stored inside the entry and compared on read, so that two keys with one digest, or a file under a wrong name,
never meet (checklist, item 11). The `salt` keeps the entries of one library or tenant from another's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.video import Frames

__all__ = ["PrefixKey", "canonical", "frames_id"]

_HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixKey:
    """What a prefix depends on.

    Args:
        content: SHA-256 of the video's bytes (`trifocal.video.content_id`), or of the frames (`frames_id`).
        stream: which stream of the file.
        sampling: which frames, and how large, as JSON values.
        processor: how pictures become the vision tower's input, as JSON values.
        model: name and revision of the model, and what its files are known by.
        dtype: number format of the keys and values.
        method: how video tokens are merged, as JSON values; empty for not at all.
        prompt: SHA-256 of the token ids before and after the video up to the question, and of the tokenizer.
        software: versions of what computed it.
        salt: of the library or tenant.
        int8: whether keys and values went through eight bits; a store sets it to what it does.
    """

    content: str
    sampling: Mapping[str, Any]
    model: str
    dtype: str
    prompt: str
    stream: int = 0
    processor: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)
    salt: str = ""
    int8: bool = False

    def __post_init__(self) -> None:
        """Check that the hashes are hashes and the rest survives JSON."""
        for name in ("content", "prompt"):
            value = getattr(self, name)
            if len(value) != 64 or not set(value) <= _HEXADECIMAL:
                raise InvalidInput(f"{name} is {value!r:.80}", remedy="Give a SHA-256 as 64 hexadecimal digits.")
        for name in ("model", "dtype"):
            if not getattr(self, name):
                raise InvalidInput(f"{name} is empty", remedy="Say which; a prefix fits no other.")
        canonical(asdict(self))

    def to_json(self) -> str:
        """The whole key as one canonical line: equal keys give equal text."""
        return canonical(asdict(self))

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`: the name of the entry."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def canonical(value: object) -> str:
    """JSON with sorted keys and no space.

    Raises:
        InvalidInput: it holds something that JSON does not know.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"A part of the key is not plain data: {error}", remedy="Give text, finite numbers, lists and mappings."
        ) from error


def frames_id(frames: Frames) -> str:
    """The identity of frames that did not come from a file: SHA-256 of their shape, times and pixels."""
    digest = hashlib.sha256(canonical(list(frames.images.shape)).encode())
    digest.update(np.ascontiguousarray(frames.times_s).tobytes())
    for image in frames.images:  # one frame is copied at a time where the array is a view
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
