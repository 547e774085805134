"""Trifocal: find moments, ask questions and detect actions in a library of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trifocal._version import __version__

if TYPE_CHECKING:
    from trifocal.chat.accelerate import accelerate

__all__ = ["__version__", "accelerate"]


def __getattr__(name: str) -> object:
    """Import torch and transformers only for who attaches to a model."""
    if name == "accelerate":
        from trifocal.chat.accelerate import accelerate

        return accelerate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
