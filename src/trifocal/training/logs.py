"""What a run leaves to read: `metrics.csv` with a row an epoch, and TensorBoard events for who wants them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trifocal.errors import MissingExtra
from trifocal.training.checkpoint import write_atomically

__all__ = ["TensorBoardLog", "write_history"]


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the rows of all epochs; a figure that an epoch lacks is left empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue())


class TensorBoardLog:
    """TensorBoard events in a folder.

    Args:
        folder: where the events go.
        step: the step that the run goes on from; later events of an interrupted run are hidden.

    Raises:
        MissingExtra: tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        """Open the event file."""
        try:
            from torch.utils.tensorboard import SummaryWriter  # an optional extra
        except ImportError as error:
            raise MissingExtra(
                "TensorBoard logs need tensorboard, which is not installed",
                remedy='Run: pip install "trifocal[train]", or leave tensorboard off.',
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step or None)

    def write(self, figures: Mapping[str, float], *, step: int) -> None:
        """Write figures at a step."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Bring everything to the disk."""
        self._writer.close()
