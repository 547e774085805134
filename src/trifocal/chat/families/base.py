"""What a family of models is: where its video tokens are, their grid, and how positions go.

A family is one small class in one small file and an entry in the table of `trifocal.chat.families`. Everything else
(the hooks, the positions, the caches) is the same for all. `locate` is only asked about calls that show something.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from trifocal.errors import ModelError

if TYPE_CHECKING:
    import torch

    from trifocal.chat.hooks.positions import Positions
    from trifocal.chat.hooks.spans import Call, VideoSpan

__all__ = ["Family", "GridFamily"]


class Family(ABC):
    """A kind of video language model.

    Attributes:
        name: as people call it.
        model_types: `config.model_type` of its models.
        positions: what was published for it, and the default.
        placeholder: the attribute of the configuration that holds the id of a video's placeholder.
        extra: placeholders behind each video that are not part of its grid.
        tower: the attribute of the model that holds a vision tower which is called with grids; empty for none.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    positions: ClassVar[Positions] = "reassign"
    placeholder: ClassVar[str] = "video_token_id"
    extra: ClassVar[int] = 0
    tower: ClassVar[str] = ""

    @abstractmethod
    def locate(self, call: Call) -> tuple[VideoSpan, ...]:
        """The videos of a call; empty when it holds none.

        Raises:
            ModelError: the prompt and the grids do not fit each other.
        """

    def token_id(self, config: Any) -> int:
        """The id of a video's placeholder."""
        return int(getattr(config, self.placeholder))

    def is_video(self, call: Call) -> torch.Tensor:
        """`(B, S)` bool, which places are a video's placeholders."""
        return call.input_ids == self.token_id(call.config)


class GridFamily(Family):
    """Models that are given `video_grid_thw`, in patches before the vision tower joins them."""

    tower: ClassVar[str] = "visual"

    @abstractmethod
    def merge_sizes(self, call: Call, *, videos: int) -> list[int]:
        """How many patches a side become one token, for each video."""

    def locate(self, call: Call) -> tuple[VideoSpan, ...]:
        """By the grids; the tokens may have other text between the frames."""
        from trifocal.chat.hooks.spans import spans_by_count

        is_video = self.is_video(call)
        grids = call.rows_of("video_grid_thw")
        if not grids or not bool(is_video.any()):
            if bool(is_video.any()):
                raise ModelError(
                    f"The prompt has {int(is_video.sum())} video tokens and no video_grid_thw",
                    remedy="Pass video_grid_thw, as the processor returns it.",
                )
            return ()
        sizes = self.merge_sizes(call, videos=len(grids))
        return spans_by_count(
            is_video, [(t, h // size, w // size) for (t, h, w), size in zip(grids, sizes, strict=True)]
        )
