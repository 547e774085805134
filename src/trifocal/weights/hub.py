"""Model folders from the Hugging Face Hub, through its own client and its own cache.

Only safetensors, JSON and text (vocabularies, chat templates) are fetched: no pickles, no Python. The client checks
what it downloads and keeps it where other tools find it too (`HF_HOME`), unless a cache folder is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.errors import WeightsCorrupt, WeightsUnavailable

if TYPE_CHECKING:
    from trifocal.weights.reference import HubRepository

__all__ = ["ALLOWED_PATTERNS", "fetch_from_hub"]

ALLOWED_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja")


def fetch_from_hub(
    repository: HubRepository, *, offline: bool = False, cache: Path | None = None, quiet: bool = True
) -> Path:
    """The local folder of a repository, fetched where needed.

    Args:
        repository: which one, and which revision of it.
        offline: use the local cache only.
        cache: a folder to keep it under, instead of the Hub client's own.
        quiet: draw no progress bars.

    Returns:
        The snapshot's folder; its name is the commit.

    Raises:
        WeightsUnavailable: neither cached nor to be had.
        WeightsCorrupt: the repository has no safetensors.
    """
    # Imported at first use: the client costs more to import than everything else in this package.
    import huggingface_hub
    from huggingface_hub import errors as hub_errors
    from huggingface_hub.utils.tqdm import tqdm

    class SilentBar(tqdm):
        """A bar that draws nothing; the client's own switch would silence the whole process."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

    try:
        folder = huggingface_hub.snapshot_download(
            repository.repo,
            revision=repository.revision,
            cache_dir=cache,
            local_files_only=offline,
            allow_patterns=list(ALLOWED_PATTERNS),
            tqdm_class=SilentBar if quiet else None,
        )
    except (
        OSError,
        hub_errors.HTTPError,  # type: ignore[attr-defined]  # whichever HTTP library the client uses, it is here
        hub_errors.EntryNotFoundError,
        hub_errors.HFValidationError,
        hub_errors.RevisionResolutionError,
        hub_errors.CachedRepoTreeNotFoundError,
        hub_errors.XetDownloadError,
    ) as error:
        raise _unavailable(repository, error, offline=offline) from error
    path = Path(folder)
    if not any(path.rglob("*.safetensors")):
        raise WeightsCorrupt(
            f"{repository} has no safetensors files",
            remedy="Choose a revision that has them; Trifocal loads no other format from the Hub.",
        )
    return path


def _unavailable(repository: HubRepository, error: Exception, *, offline: bool) -> WeightsUnavailable:
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    if offline:
        return WeightsUnavailable(
            f"{repository} is not in the local Hugging Face cache, and offline use was asked for",
            remedy="Fetch it once with a network, or give the path of a folder that holds the model.",
        )
    return WeightsUnavailable(
        f"{repository} is not in the local Hugging Face cache and could not be fetched: {first_line}",
        remedy=(
            "Check the name and revision, and that this machine reaches the Hub (gated models need a login); "
            "or copy the model's folder here and give its path."
        ),
    )
