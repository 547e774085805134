"""`python -m trifocal` is the command line."""

from __future__ import annotations

from trifocal.cli import main

main()
