"""What the small model's trained weights need: what the projector sees, the projector, and the low-rank changes."""

from __future__ import annotations
