"""Training data of DETECT: annotation files, clips and their targets.

`formats` reads and writes labels, `windows` says which frames make a clip, `clips` opens them, `transforms` makes them
what the model sees, `build_targets` says what is true of them, `check` finds what is wrong with labels.
"""

from __future__ import annotations
