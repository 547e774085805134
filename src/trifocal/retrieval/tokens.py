"""Clip tokens: a video's frame features kept small, so that a moment found coarsely can be placed exactly.

Prototypes say which video and roughly where; `ClipTokens` keeps every encoded frame in half precision or int8, with its
time, and `sharpen` scores all stretches of frames with the query to say from when to when. It costs bytes (T x D x 2 or
1 a video, some hundred kilobytes for ten minutes), so a library keeps them only when asked.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.moment import scan_moments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ClipTokens", "TokenKind"]

_UNREADABLE = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What NumPy and the zip archive under it raise for bytes that are damaged, or packed in a way they do not know."""

TokenKind = Literal["half", "int8"]

_LARGEST = 127


@dataclass(frozen=True, slots=True, eq=False)
class ClipTokens:
    """A video's frames.

    Args:
        rows: float16 or int8 (T, D); each times its scale is a unit vector, within their precision.
        scales: float32 (T,).
        times_s: float64 (T,), seconds, never falling.
        end_s: where the video ends.

    Raises:
        InvalidInput: shapes or dtypes that do not fit, values that are not finite, times that fall.
    """

    rows: NDArray[np.float16] | NDArray[np.int8]
    scales: NDArray[np.float32]
    times_s: NDArray[np.float64]
    end_s: float

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        count = len(self.rows)
        if self.rows.ndim != 2 or not self.rows.size or self.rows.dtype not in (np.float16, np.int8):
            raise InvalidInput(
                f"tokens are {self.rows.dtype} {self.rows.shape}", remedy="Give float16 or int8 (T, D), not empty."
            )
        if self.scales.shape != (count,) or self.scales.dtype != np.float32 or self.times_s.shape != (count,):
            raise InvalidInput(
                f"scales are {self.scales.dtype} {self.scales.shape}, times_s {self.times_s.shape}",
                remedy=f"Give one of each a frame, ({count},).",
            )
        if not (np.isfinite(self.rows).all() and np.isfinite(self.scales).all() and np.isfinite(self.times_s).all()):
            raise InvalidInput("tokens hold NaN or infinity", remedy="Encode the video again.")
        if (np.diff(self.times_s) < 0).any() or self.times_s[0] < 0 or not self.end_s >= self.times_s[-1]:
            raise InvalidInput("times_s fall, or lie outside the video", remedy="Sort the frames by time.")

    @classmethod
    def pack(cls, features: ArrayLike, *, times_s: ArrayLike, end_s: float, kind: TokenKind = "half") -> ClipTokens:
        """Frame features (T, D), brought to unit length, as `half` or `int8`.

        Raises:
            InvalidInput: no frames, a zero row, or what the class refuses.
        """
        rows = np.asarray(features, dtype=np.float32)
        if kind not in get_args(TokenKind):
            raise InvalidInput(f"kind is {kind!r}", remedy="Give half or int8.")
        if rows.ndim != 2 or not rows.size or not (np.linalg.norm(rows, axis=1) > 0).all():
            raise InvalidInput(f"features are {rows.shape}, or a row is zero", remedy="Give (T, D) without zero rows.")
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        scales = np.ones(len(rows), dtype=np.float32)
        packed: Any = rows.astype(np.float16)
        if kind == "int8":
            scales = np.abs(rows).max(axis=1) / np.float32(_LARGEST)
            packed = np.round(rows / scales[:, None]).astype(np.int8)
        return cls(rows=packed, scales=scales, times_s=np.asarray(times_s, dtype=np.float64), end_s=float(end_s))

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        return f"ClipTokens(rows={self.rows.dtype} {self.rows.shape}, end_s={self.end_s:.2f})"

    def vectors(self) -> NDArray[np.float32]:
        """The frames as float32 (T, D)."""
        rows: NDArray[np.float32] = self.rows.astype(np.float32) * self.scales[:, None]
        return rows

    def edges_s(self) -> NDArray[np.float64]:
        """Where each frame's time starts and the last one's ends, (T + 1,): midway between neighbours."""
        middle = (self.times_s[:-1] + self.times_s[1:]) / 2
        return np.concatenate([[0.0], middle, [self.end_s]])

    def sharpen(
        self, query: NDArray[np.float32], *, count: int = 1, longest_share: float = 1.0
    ) -> list[tuple[float, float]]:
        """The stretches of the video that stand out most for a query (D,), best first; see `scan_moments`.

        Args:
            query: a unit vector of the same encoder.
            count: how many at most; they do not overlap much.
            longest_share: of the video that a stretch may take.

        Returns:
            Pairs (start_s, end_s).

        Raises:
            InvalidInput: a query of another width.
        """
        if query.shape != (self.rows.shape[1],):
            raise InvalidInput(
                f"the query has the shape {query.shape}", remedy=f"Give one vector, ({self.rows.shape[1]},)."
            )
        found = scan_moments(self.vectors() @ query, self.edges_s(), count=count, longest_share=longest_share)
        return [(start, end) for start, end, _ in found]

    def to_bytes(self) -> bytes:
        """The content of a .npz file; the same tokens give the same bytes."""
        buffer = BytesIO()
        arrays: dict[str, Any] = {"rows": self.rows, "scales": self.scales, "times_s": self.times_s}
        np.savez(buffer, allow_pickle=False, **arrays, end_s=np.float64(self.end_s))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> ClipTokens:
        """What `to_bytes` wrote.

        Raises:
            InvalidInput: it is something else.
        """
        try:
            with np.load(BytesIO(content), allow_pickle=False) as file:
                rows, scales, times_s, end_s = (file[name] for name in ("rows", "scales", "times_s", "end_s"))
        except _UNREADABLE as error:
            raise InvalidInput(f"these are no clip tokens ({error})", remedy="Encode the video again.") from error
        return cls(rows=rows, scales=scales, times_s=times_s, end_s=float(end_s))
