"""Which files are meant by the paths that a person gives.

A file that is named is always taken, whatever it is called. In a folder, and for a glob, the videos are picked by their
suffix, or by `pattern`. Hidden files and the library's own folder are passed over; links inside a folder are followed
only on request, and a folder reached twice is read once, so loops end. Every path is kept resolved: absolute and free
of links, so that one file has one name, and a file is opened only where it was found. The place that covers a file,
the folder or file that was given, is its registered root.
"""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput, UnsupportedVideo, VideoError, VideoNotFound
from trifocal.library.records import AddFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SUFFIXES", "FoundFile", "Scan", "as_failure", "is_under", "on_disk", "scan", "still_the_same"]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "avi", "divx", "f4v", "m2ts", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4"),
        *("mpe", "mpeg", "mpg", "mts", "mxf", "ogv", "qt", "ts", "vob", "webm", "wmv"),
    )
)
"""What a file in a folder must end in to be tried; the decoder then looks at the bytes, not the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A regular file on the disk.

    Args:
        path: resolved.
        root: the given folder or file that covers it, resolved.
        size: in bytes.
        mtime_ns: when its content last changed, in nanoseconds.
        inode: its number on the file system; a change tells a replaced file with the old times.
    """

    path: str
    root: str
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found.

    Args:
        files: by path, each once.
        scopes: resolved paths at or under which the catalogue's files were looked for.
        absent: given paths at which there is nothing.
        failed: paths that cannot be taken.
    """

    files: dict[str, FoundFile] = field(default_factory=dict)
    scopes: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    failed: list[AddFailure] = field(default_factory=list)


def scan(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = True,
    pattern: str | None = None,
    follow_symlinks: bool = False,
    exclude: Path | None = None,
) -> Scan:
    """Look for the files that `paths` mean.

    Args:
        paths: files, folders and globs (`*`, `?`, `[...]`, `**`); a path that exists is taken as it stands.
        recursive: whether folders inside folders are looked into.
        pattern: a glob for the file's name, or, when it holds a slash, for its path below the given folder. The list
            of suffixes counts as well, unless the pattern ends in a suffix of its own (`*.dat`).
        follow_symlinks: whether links found inside folders are followed; what they lead to, if it lies elsewhere,
            becomes a root of its own. A link that is itself named is always followed.
        exclude: a folder that is never looked into: the library's own.

    Raises:
        InvalidInput: no path at all, or an empty one.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise InvalidInput("there is no path to add", remedy="Give at least one file or folder.")
    result = Scan()
    walk = _Walk(
        result,
        recursive=recursive,
        pattern=pattern,
        links=follow_symlinks,
        exclude=exclude.resolve() if exclude else None,
    )
    for entry in given:
        text = os.fspath(entry)
        if not text:
            raise InvalidInput("a path to add is empty", remedy="Give a file or a folder.")
        if "\0" in text:
            raise InvalidInput("a path to add holds a NUL character", remedy="Give a file or a folder.")
        expanded = os.path.expanduser(text)  # noqa: PTH111 - `Path` would drop a trailing slash and `**` alike
        if os.path.lexists(expanded):
            walk.take(expanded)
        elif glob.has_magic(expanded):
            matches = sorted(glob.glob(expanded, recursive=True))  # noqa: PTH207 - absolute and relative alike
            walk.glob(expanded, matches)
        else:
            result.absent.add(os.path.realpath(expanded))
    return result


class _Walk:
    def __init__(
        self, result: Scan, *, recursive: bool, pattern: str | None, links: bool, exclude: Path | None
    ) -> None:
        self.result, self.recursive, self.pattern, self.links, self.exclude = result, recursive, pattern, links, exclude
        self.visited: set[tuple[int, int, str]] = set()

    def take(self, given: str) -> None:
        """A path that was named."""
        try:
            path = Path(given).resolve(strict=True)
            mode = path.stat().st_mode
        except (OSError, RuntimeError) as error:  # a dangling link, a loop of links, no permission
            self.fail(given, VideoNotFound(f"{given} cannot be reached: {_reason(error)}", remedy="Check the path."))
            return
        self.result.scopes.add(str(path))
        if stat.S_ISDIR(mode):
            self.folder(path, root=str(path), pattern=self.pattern)
        else:
            self.file(path, root=str(path))

    def glob(self, given: str, matches: list[str]) -> None:
        """The matches of a glob; like the contents of a folder, but for `pattern`, which the glob stands in for."""
        if not matches:
            self.fail(given, VideoNotFound(f"nothing matches {given}", remedy="Check the pattern."))
        own_suffix = _names_suffix(given)
        for match in matches:
            try:
                path = Path(match).resolve(strict=True)
                folder = path.is_dir()
            except (OSError, RuntimeError) as error:
                self.fail(
                    match, VideoNotFound(f"{match} cannot be reached: {_reason(error)}", remedy="Check the path.")
                )
                continue
            if folder:
                if self.recursive:
                    self.folder(path, root=str(path), pattern=self.pattern)
            elif own_suffix or path.suffix.lower() in SUFFIXES:
                self.result.scopes.add(str(path))
                self.file(path, root=str(path))

    def folder(self, top: Path, *, root: str, pattern: str | None) -> None:
        """The videos in a folder."""
        pending = [top]
        while pending:
            folder = pending.pop()
            if self.exclude is not None and folder == self.exclude:
                continue
            try:
                status = folder.stat()
                # The same folder may serve two roots; within one it is read once.
                key = (status.st_dev, status.st_ino, root)
                if key in self.visited:
                    continue
                self.visited.add(key)
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self.fail(
                    str(folder),
                    VideoNotFound(f"{folder} cannot be read: {_reason(error)}", remedy="Give yourself permission."),
                )
                continue
            deeper = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    if self.links:
                        deeper += self._linked(Path(entry.path), top=top, root=root, pattern=pattern)
                elif entry.is_dir(follow_symlinks=False):
                    if self.recursive:
                        deeper.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False) and _wanted(Path(entry.path), top=top, pattern=pattern):
                    self.file(Path(entry.path), root=root)
            pending += reversed(deeper)

    def _linked(self, link: Path, *, top: Path, root: str, pattern: str | None) -> list[Path]:
        """What a link inside a folder leads to: folders to read there, the rest is dealt with."""
        try:
            target = link.resolve(strict=True)
            folder, regular = target.is_dir(), target.is_file()
        except (OSError, RuntimeError):
            return []  # leads nowhere or in a circle: there is no file
        inside = is_under(str(target), root)
        if folder and self.recursive:
            if inside:
                return [target]
            self.folder(target, root=str(target), pattern=pattern)
        elif regular and _wanted(link, top=top, pattern=pattern):
            self.file(target, root=root if inside else str(target))
        return []

    def file(self, path: Path, *, root: str) -> None:
        """A file, as it is on the disk."""
        text = str(path)
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(text).decode(errors="replace")
            self.fail(shown, UnsupportedVideo(f"the name of {shown!r} is not UTF-8", remedy="Rename the file."))
            return
        try:
            status = path.lstat()
        except OSError as error:
            self.fail(text, VideoNotFound(f"{text} cannot be read: {_reason(error)}", remedy="Check the path."))
            return
        if not stat.S_ISREG(status.st_mode):
            self.fail(text, VideoNotFound(f"{text} is not a regular file", remedy="Copy its contents to a file first."))
            return
        known = self.result.files.get(text)
        if known is not None and len(known.root) <= len(root):
            return  # the widest of the given paths is the root
        self.result.files[text] = FoundFile(
            path=text, root=root, size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino
        )

    def fail(self, path: str, error: VideoError) -> None:
        """Remember a path that cannot be taken, in a form that can be stored and printed."""
        self.result.failed.append(as_failure(os.fsencode(path).decode(errors="replace"), error))


def as_failure(path: str, error: VideoError) -> AddFailure:
    """An error as the report tells it."""
    message = os.fsencode(error.message).decode(errors="replace")
    return AddFailure(path=path, code=error.code, message=message, remedy=error.remedy)


def is_under(path: str, root: str) -> bool:
    """Whether a resolved path is `root` or lies below it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def on_disk(path: str) -> bool:
    """Whether there is a regular file at a resolved path, not reached through a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and os.path.realpath(path) == path
    except OSError:
        return False


def still_the_same(found: FoundFile) -> bool:
    """Whether the file is where it was found, inside its root, and untouched since."""
    if not is_under(os.path.realpath(found.path), found.root) or not on_disk(found.path):
        return False
    try:
        status = os.lstat(found.path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns, status.st_ino) == (found.size, found.mtime_ns, found.inode)


def _wanted(path: Path, *, top: Path, pattern: str | None) -> bool:
    suffix_fits = path.suffix.lower() in SUFFIXES
    if pattern is None:
        return suffix_fits
    subject = str(path.relative_to(top)) if "/" in pattern and path.is_relative_to(top) else path.name
    return fnmatch(subject, pattern) and (suffix_fits or _names_suffix(pattern))


def _names_suffix(pattern: str) -> bool:
    suffix = PurePath(pattern).suffix
    return bool(suffix) and not glob.has_magic(suffix)


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
