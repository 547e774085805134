"""Video language models of Hugging Face transformers, asked through the same interface as the offline default.

In order of reading: `pictures`, `processor`, `patches`, `squares`, `processors` (frames to video tokens, without
torchvision), `config`, `prompt` (the words round them), `sampling` (which frames), `evidence` (where an answer looked),
`engine` (the passes through the model), `reading` (a video to a prefix), `chat` (asking), `load` (a reference to a
model).
"""

from __future__ import annotations
