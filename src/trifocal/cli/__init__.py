"""The command line: one file per verb, joined in `app`.

Start-up stays quick because a verb imports what it needs when it runs.
"""

from __future__ import annotations

from trifocal.cli.app import main

__all__ = ["main"]
