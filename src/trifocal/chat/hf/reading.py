"""From frames to a prefix: chunks through the vision tower, one prefill, and what an entry keeps.

Frames are looked at as they are decoded, so pixels never pile up: memory holds one batch of frames, one chunk in the
vision tower, and the video's tokens, whose number the context bounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from trifocal.chat.answer import Timing
from trifocal.chat.hf.processor import Seen
from trifocal.chat.prefix import PrefixEntry
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.chat.hf.engine import Engine
    from trifocal.chat.hf.processor import FrameProcessor
    from trifocal.chat.hf.prompt import ChatPrompt
    from trifocal.video import Frames

__all__ = ["Looked", "look", "read"]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A video after the vision tower.

    Args:
        seen: its tokens.
        times_s: when each frame is shown.
        warnings: what was wrong with the file.
        decode_s: seconds for reading.
        vision_s: seconds for looking.
    """

    seen: Seen
    times_s: tuple[float, ...]
    warnings: tuple[str, ...]
    decode_s: float
    vision_s: float


@torch.inference_mode()
def look(
    batches: Iterable[Frames], *, processor: FrameProcessor, frames: int, chunk: int, device: torch.device
) -> Looked:
    """Run frames through the vision tower as they come.

    Args:
        batches: in the order of time.
        processor: how the model sees.
        frames: how many are expected; some families choose their size by it.
        chunk: how many go through at a time, rounded up to whole temporal cells.
        device: where the tower is.

    Raises:
        InvalidInput: there are no frames.
    """
    chunk = -(-chunk // processor.pair) * processor.pair
    parts: list[Seen] = []
    times: list[float] = []
    warnings: tuple[str, ...] = ()
    vision_s = 0.0
    started = time.perf_counter()
    for images, batch in _chunks(batches, chunk):
        began = time.perf_counter()
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # (T, 3, H, W)
        size = processor.picture_size(*images.shape[1:3], frames=frames)
        parts.append(processor.see(pixels, size))
        times += batch.times_s.tolist()
        warnings = batch.warnings
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        vision_s += time.perf_counter() - began
    if not parts:
        raise InvalidInput("There are no frames to ask about", remedy="Give at least one frame.")
    spent = time.perf_counter() - started
    return Looked(Seen.joined(parts), tuple(times), warnings, decode_s=spent - vision_s, vision_s=vision_s)


def _chunks(batches: Iterable[Frames], chunk: int) -> Iterator[tuple[np.ndarray, Frames]]:
    """Frames in chunks of one length, the last one shorter; memory for one batch and one chunk."""
    from trifocal.video import Frames

    left: Frames | None = None
    for batch in batches:
        if left is not None and len(left):
            batch = Frames(
                np.concatenate([left.images, batch.images]),
                np.concatenate([left.times_s, batch.times_s]),
                batch.warnings,
            )
        whole = len(batch) // chunk * chunk
        for start in range(0, whole, chunk):
            part = Frames(batch.images[start : start + chunk], batch.times_s[start : start + chunk], batch.warnings)
            yield np.ascontiguousarray(part.images), part
        left = Frames(batch.images[whole:], batch.times_s[whole:], batch.warnings)
    if left is not None and len(left):
        yield np.ascontiguousarray(left.images), left


def read(
    looked: Looked,
    *,
    engine: Engine,
    processor: FrameProcessor,
    prompt: ChatPrompt,
    duration_s: float,
    planned: int,
    wanted: int,
) -> tuple[PrefixEntry, Timing]:
    """Prefill system prompt and video once; the entry that questions fork, and what it cost.

    Args:
        looked: the video.
        engine: the model.
        processor: how it sees.
        prompt: the words.
        duration_s: of the video.
        planned: frames that fit.
        wanted: frames that the settings ask for.
    """
    started = time.perf_counter()
    cells_t, rows, columns = looked.seen.features.shape[:3]
    grid = (cells_t, rows, columns)
    text = processor.text(grid, times_s=looked.times_s, duration_s=duration_s, token=prompt.token)
    ids = prompt.before(text)
    cache, positions, cells = engine.prefill(
        ids, video=looked.seen, grid=grid, times_s=looked.times_s, processor=processor
    )
    record = engine.record(cache)
    video_tokens = cells_t * rows * columns
    kept = video_tokens if record is None else int((record.video >= 0).sum())
    frames = engine.columns(cache, cells=cells, grid=grid)
    entry = PrefixEntry.of(
        cache,
        length=len(ids),
        extra={
            **engine.merged_state(cache),
            "evidence.column": frames.column,
            "evidence.frame": frames.frame,
            "evidence.weight": frames.weight,
        },
        facts={
            # Models with three-part positions let text go on behind the picture's sides, though a long video's frames
            # have higher numbers; an answer begins above all of them. Both as in one pass over the whole prompt.
            "following": int(positions[..., -1].max()) + 1,
            "above": int(positions.max()) + 1,
            "grid": list(grid),
            # A temporal cell is shown from its first frame on.
            "times_s": list(looked.times_s[:: processor.pair]),
            "video": video_tokens,
            "kept": kept,
            "frames": len(looked.times_s),
            "frames_wanted": wanted,
            "warnings": [*looked.warnings, *_left_out(planned, wanted, engine.context)],
        },
    )
    engine.wait()
    merge_s = 0.0 if record is None else record.merge_s
    spent = time.perf_counter() - started
    timing = Timing(
        decode_s=looked.decode_s, vision_s=looked.vision_s, merge_s=merge_s, prefill_s=max(0.0, spent - merge_s)
    )
    return entry, timing


def _left_out(planned: int, wanted: int, context: int) -> list[str]:
    if planned == wanted:
        return []
    return [
        f"{planned} frames are shown where {wanted} were wanted: more do not fit into {context:,} tokens of context"
    ]
