"""Trifocal: find moments, ask questions and detect actions in a library of videos."""

from trifocal._version import __version__

__all__ = ["__version__"]
