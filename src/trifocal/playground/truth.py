"""The truth of a video: tracks, captions and questions in one record, computed from the spec alone.

`truth(spec)` needs no picture; ten minutes take about two seconds. `Truth.at` gives one frame in the form a
detector is trained with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput
from trifocal.playground.actions import ACTIONS
from trifocal.playground.captions import Caption, write_captions
from trifocal.playground.questions import Question, ask_questions
from trifocal.playground.tracks import ActorTrack, ThingTrack, track_scene, tracks_from_json, tracks_to_json

if TYPE_CHECKING:
    from trifocal.playground.spec import VideoSpec

__all__ = ["ActorNow", "Truth", "truth", "truth_from_json", "truth_to_json"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ActorNow:
    """An actor in one frame: box, labels, and for each context action the deciding id and its box."""

    id: str
    box_xyxy: Box
    actions: tuple[str, ...]
    deciders: dict[str, tuple[str, Box]]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Everything true of a video.

    Attributes:
        frame_count: of the video.
        fps: frames per second; frame `i` shows the time `i / fps`.
        actors: one track per actor and scene.
        things: one track per thing and scene.
        captions: moments in order of time.
        questions: with one right answer each.
    """

    frame_count: int
    fps: float
    actors: tuple[ActorTrack, ...]
    things: tuple[ThingTrack, ...]
    captions: tuple[Caption, ...]
    questions: tuple[Question, ...]

    def box(self, name: str, index: int) -> Box | None:
        """The box of an actor or thing in frame `index`; None where it is not in view."""
        tracks: tuple[ActorTrack | ThingTrack, ...] = (*self.actors, *self.things)
        for track in tracks:
            at = index - track.first
            if track.id == name and 0 <= at < len(track.boxes_xyxy) and track.visible[at]:
                x0, y0, x1, y1 = (float(value) for value in track.boxes_xyxy[at])
                return x0, y0, x1, y1
        return None

    def at(self, index: int) -> list[ActorNow]:
        """All actors in view in frame `index`.

        Raises:
            InvalidInput: there is no such frame.
        """
        if not 0 <= index < self.frame_count:
            raise InvalidInput(f"the video has no frame {index}", remedy=f"Ask for 0 to {self.frame_count - 1}.")
        out = []
        for track in self.actors:
            box = self.box(track.id, index) if track.first <= index < track.first + len(track.labels) else None
            if box is None:
                continue
            row = track.labels[index - track.first]
            deciders = {}
            for decider in track.deciders:
                if decider.first <= index < decider.stop:
                    where = self.box(decider.target, index)
                    if where is not None:
                        deciders[decider.action] = (decider.target, where)
            names = tuple(action.name for i, action in enumerate(ACTIONS) if row[i])
            out.append(ActorNow(track.id, box, names, deciders))
        return out


def truth(spec: VideoSpec) -> Truth:
    """Compute the truth of a video from its description."""
    actors: list[ActorTrack] = []
    things: list[ThingTrack] = []
    for number in range(len(spec.scenes)):
        more_actors, more_things = track_scene(spec, number)
        actors += more_actors
        things += more_things
    captions = write_captions(spec, actors, things)
    questions = ask_questions(spec, actors, things, captions)
    return Truth(spec.frame_count, spec.fps, tuple(actors), tuple(things), captions, questions)


def truth_to_json(facts: Truth) -> dict[str, Any]:
    """Plain data: runs for boxes and labels, seconds to three decimals."""
    return {
        "frame_count": facts.frame_count,
        "fps": facts.fps,
        "actions": {action.name: action.kind for action in ACTIONS},
        **tracks_to_json(facts.actors, facts.things),
        "captions": [
            {
                "start_s": round(c.start_s, 3),
                "end_s": round(c.end_s, 3),
                "sentences": list(c.sentences),
                "subject": c.subject,
                "action": c.action,
                "target": c.target,
            }
            for c in facts.captions
        ],
        "questions": [
            {
                "type": q.type,
                "text": q.text,
                "answer": q.answer,
                "choices": list(q.choices),
                "start_s": round(q.start_s, 3),
                "end_s": round(q.end_s, 3),
                "about": dict(q.about),
            }
            for q in facts.questions
        ],
    }


def truth_from_json(data: dict[str, Any]) -> Truth:
    """What `truth_to_json` wrote, seconds rounded to three decimals."""
    actors, things = tracks_from_json(data)
    captions = tuple(
        Caption(c["start_s"], c["end_s"], tuple(c["sentences"]), c["subject"], c["action"], c["target"])
        for c in data["captions"]
    )
    questions = tuple(
        Question(
            q["type"], q["text"], q["answer"], tuple(q["choices"]), q["start_s"], q["end_s"], tuple(q["about"].items())
        )
        for q in data["questions"]
    )
    return Truth(data["frame_count"], data["fps"], actors, things, captions, questions)
