"""Stored tubes on the command line: who does what from when to when, for `find --action`, `detect` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.cli.output import NARROW, clock, number, plain, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trifocal.action import DetectReport, Tube
    from trifocal.library import ActionSpan, Library, Moment, VideoRecord

__all__ = ["actions_of", "as_moments", "detection_json", "print_spans", "shortly", "spans_json", "tell_unseen"]

MOST_TUBES = 12
"""How many tubes are listed in short."""


def as_moments(spans: Sequence[ActionSpan]) -> list[Moment]:
    """Spans as what clips, sheets and pages are made of."""
    from trifocal.library import Moment

    return [Moment(span.video, span.start_s, span.end_s, span.score) for span in spans]


def print_spans(spans: Sequence[ActionSpan], paths: Mapping[str, str]) -> None:
    """Print who does what as a table; `paths` has the file of each video."""
    from rich.table import Table

    out = stdout()
    if not spans:
        out.print("nobody was seen doing that")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("#", "from", "to", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("action", overflow="fold")
    table.add_column("actor", justify="right", no_wrap=True)
    table.add_column("video", overflow="fold")
    if out.width >= NARROW:
        table.add_column("id", style="dim", no_wrap=True)
    for place, span in enumerate(spans, start=1):
        facts = (str(place), clock(span.start_s), clock(span.end_s), f"{span.score:.3f}", plain(span.action))
        name = plain(Path(paths[span.video]).name)
        table.add_row(*facts, str(span.actor), name, *((span.video[:8],) if out.width >= NARROW else ()))
    out.print(table)


def spans_json(spans: Sequence[ActionSpan], paths: Mapping[str, str], clips: Sequence[str | None]) -> list[Any]:
    """Spans as values for JSON, in the shape that moments have, with action and actor beside."""
    return [
        span.to_dict() | {"path": paths[span.video]} | ({"clip": clips[place]} if clips else {})
        for place, span in enumerate(spans)
    ]


def tell_unseen(library: Library, actions: Sequence[str]) -> None:
    """Say in how many videos nobody has looked for the actions."""
    if unseen := library.unseen(actions):
        have = "has" if len(unseen) == 1 else "have"
        note = f"{number(len(unseen), 'video')} {have} not been looked at; run trifocal detect --all"
        stderr().print(note, markup=False, soft_wrap=True)


def actions_of(tube: Tube, *, least: float) -> str:
    """The actions that reach a score at some moment of a tube: their means, and the peak where a mean is below it."""
    shown = []
    for name, scores in tube.actions.items():
        mean, peak = tube.score(name), float(scores.max())
        if peak >= least:
            shown.append(f"{name} {mean:.2f}" if mean >= least else f"{name} {mean:.2f} (up to {peak:.2f})")
    return ", ".join(shown) or "no sure action"


def shortly(report: DetectReport, record: VideoRecord, *, least: float = 0.5) -> str:
    """What a detector saw in a video, a line for each tube, the first dozen."""
    lines = [f"{number(len(report.tubes), 'actor')} in {number(report.moments, 'moment')}, by {report.model}"]
    for tube in report.tubes[:MOST_TUBES]:
        end_s = min(tube.end_s, record.duration_s)
        lines.append(f"actor {tube.actor}  {clock(tube.start_s)}–{clock(end_s)}  {actions_of(tube, least=least)}")
    if len(report.tubes) > MOST_TUBES:
        lines.append(f"… and {number(len(report.tubes) - MOST_TUBES, 'actor')} more: `trifocal detect {record.id[:8]}`")
    return "\n".join(plain(line) for line in lines)


def detection_json(report: DetectReport) -> dict[str, Any]:
    """What a detector saw, without boxes: times and mean scores of each tube."""
    return {
        "model": report.model,
        "moments": report.moments,
        "tubes": [
            {
                "actor": tube.actor,
                "start_s": round(tube.start_s, 3),
                "end_s": round(tube.end_s, 3),
                "actions": {name: round(tube.score(name), 4) for name in tube.actions},
            }
            for tube in report.tubes
        ],
    }
