"""How well a video chat answers: published benchmarks, their wording, and accuracy with intervals.

In order of reading: `item`, `readers` (annotation files), `prompts`, `run` (resumable), `scoring`, `report`.
"""

from __future__ import annotations

from trifocal.chat.evaluation.item import Item
from trifocal.chat.evaluation.prompts import ask_text, chosen
from trifocal.chat.evaluation.readers import BENCHMARKS, read_benchmark
from trifocal.chat.evaluation.report import check_plot, compare, plot, summarise, table
from trifocal.chat.evaluation.run import AskedAnswer, ask_benchmark, read_answers
from trifocal.chat.evaluation.scoring import Accuracy, accuracy, by_kind, strict_accuracy

__all__ = [
    "BENCHMARKS",
    "Accuracy",
    "AskedAnswer",
    "Item",
    "accuracy",
    "ask_benchmark",
    "ask_text",
    "by_kind",
    "check_plot",
    "chosen",
    "compare",
    "plot",
    "read_answers",
    "read_benchmark",
    "strict_accuracy",
    "summarise",
    "table",
]
