"""Video language models of Hugging Face transformers, asked through the same interface as the offline default.

In order of reading: `pictures`, `processor`, `patches`, `squares`, `processors` (frames to video tokens, without
torchvision), `prompt` (the words round them), `sampling` (which frames), `evidence` (where an answer looked), `prefill`
(a video to a prefix), `chat` (asking), `load` (from a reference to a model).
"""

from __future__ import annotations
