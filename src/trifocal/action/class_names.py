"""Names of the classes of AVA 2.2, UCF101-24 and JHMDB, in the order of published models' outputs.

AVA's stand in its own action list, numbered from 1; those of the two others are in alphabetical order, as in their
ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CLASS_NAMES"]

_AVA = """
bend/bow (at the waist); crawl; crouch/kneel; dance; fall down; get up; jump/leap; lie/sleep; martial art; run/jog; sit;
stand; swim; walk; answer phone; brush teeth; carry/hold (an object); catch (an object); chop; climb (e.g., a mountain);
clink glass; close (e.g., a door, a box); cook; cut; dig; dress/put on clothing; drink; drive (e.g., a car, a truck);
eat; enter; exit; extract; fishing; hit (an object); kick (an object); lift/pick up; listen (e.g., to music);
open (e.g., a window, a car door); paint; play board game; play musical instrument; play with pets;
point to (an object); press; pull (an object); push (an object); put down; read; ride (e.g., a bike, a car, a horse);
row boat; sail boat; shoot; shovel; smoke; stir; take a photo; text on/look at a cellphone; throw; touch (an object);
turn (e.g., a screwdriver); watch (e.g., TV); work on a computer; write; fight/hit (a person);
give/serve (an object) to (a person); grab (a person); hand clap; hand shake; hand wave; hug (a person);
kick (a person); kiss (a person); lift (a person); listen to (a person); play with kids; push (another person);
sing to (e.g., self, a person, a group); take (an object) from (a person);
talk to (e.g., self, a person, a group); watch (a person)
"""
_UCF = """
Basketball; BasketballDunk; Biking; CliffDiving; CricketBowling; Diving; Fencing; FloorGymnastics; GolfSwing;
HorseRiding; IceDancing; LongJump; PoleVault; RopeClimbing; SalsaSpin; SkateBoarding; Skiing; Skijet; SoccerJuggling;
Surfing; TennisSwing; TrampolineJumping; VolleyballSpiking; WalkingWithDog
"""
_JHMDB = """
brush_hair; catch; clap; climb_stairs; golf; jump; kick_ball; pick; pour; pullup; push; run; shoot_ball; shoot_bow;
shoot_gun; sit; stand; swing_baseball; throw; walk; wave
"""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(";"))


CLASS_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"AVA22": _listed(_AVA), "UCF": _listed(_UCF), "JHMDB": _listed(_JHMDB)}
)
"""By the first word of a published configuration's name."""
