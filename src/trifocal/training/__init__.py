"""The one training loop, which knows no task: several processes, precision, resume, schedules, logs, checkpoints.

In order of reading: `config` (what a run can be told), `task` (what it must be given), `trainer` (`fit`, the loop),
`step` (one move of the weights), `state` (what a checkpoint keeps of a run), and what these stand on: `batching`,
`schedule`, `optimiser`, `average`, `seeding`, `processes`, `checkpoint`, `logs`.
"""

from __future__ import annotations

from trifocal.training.average import WeightAverage
from trifocal.training.batching import EpochBatches
from trifocal.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, trained_state
from trifocal.training.config import TrainConfig
from trifocal.training.processes import Processes, pick_device, processes, rank_and_world
from trifocal.training.schedule import lr_factor
from trifocal.training.seeding import seed_everything
from trifocal.training.task import Batches, NamedParameters, Task, to_device
from trifocal.training.trainer import FitResult, Progress, fit

__all__ = [
    "Batches",
    "EpochBatches",
    "FitResult",
    "NamedParameters",
    "Processes",
    "Progress",
    "Task",
    "TrainConfig",
    "WeightAverage",
    "fit",
    "load_checkpoint",
    "load_weights",
    "lr_factor",
    "pick_device",
    "processes",
    "rank_and_world",
    "save_checkpoint",
    "seed_everything",
    "to_device",
    "trained_state",
]
