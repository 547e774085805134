"""The report of an `add` while it grows: what became of each file, and how long that took."""

from __future__ import annotations

from dataclasses import dataclass, field

from trifocal.library.records import AddFailure, AddReport, FileChange, StageTimes

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """The lists of an `AddReport`, still open; see there."""

    added: list[FileChange] = field(default_factory=list)
    duplicates: list[FileChange] = field(default_factory=list)
    unchanged: list[FileChange] = field(default_factory=list)
    moved: list[FileChange] = field(default_factory=list)
    replaced: list[FileChange] = field(default_factory=list)
    restored: list[FileChange] = field(default_factory=list)
    missing: list[FileChange] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: list[AddFailure] = field(default_factory=list)
    skipped: list[AddFailure] = field(default_factory=list)
    times: StageTimes = field(default_factory=StageTimes)

    def report(self) -> AddReport:
        """The finished report, each list by path."""
        changes = {
            name: tuple(sorted(getattr(self, name), key=lambda change: change.path))
            for name in ("added", "duplicates", "unchanged", "moved", "replaced", "restored", "missing")
        }
        failures = {
            name: tuple(sorted(getattr(self, name), key=lambda failure: failure.path)) for name in ("failed", "skipped")
        }
        return AddReport(**changes, **failures, removed=tuple(sorted(self.removed)), times=self.times)
