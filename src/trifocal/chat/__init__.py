"""Ask: questions about a video, answered in words with the frames they rest on.

In order of reading: `answer` (what comes back), `model` (what every chat model offers), `decoding` (how words are
chosen), `writing` (the loop that does it), `prefix` (videos that were read, kept for later questions); then the offline
default: `video_tokens`, `prompt`, `gguf_file`, `smollm2`, `language_model`, `attention`, `small_chat`; then models of
Hugging Face: `families`, `hooks`, `accelerate` (merging), `hf` (asking). The names below are free of torch; what
computes is imported when `load_chat` is called.
"""

from __future__ import annotations

from trifocal.chat.answer import Answer, Evidence, Timing, TokenUse
from trifocal.chat.decoding import Decoding
from trifocal.chat.model import OpenVideo, VideoChat, load_chat

__all__ = ["Answer", "Decoding", "Evidence", "OpenVideo", "Timing", "TokenUse", "VideoChat", "load_chat"]
