"""Sounds of known things, made from mathematics alone.

Each recipe follows how the real thing sounds and draws its settings anew each time: modes that
ring and die (bells, bars, drums), strings that are plucked, drops that trap bubbles, noise that
air or fire shapes, pulses that an engine fires. Much of it is in Farnell, "Designing Sound"
(2010); each module names what else it follows.
"""

# isort: off
# A module enters its recipes as it is imported, and trainings draw sounds in the order of RECIPES.
from training.synth import weather, bells, engines, things, animals, instruments, drums  # noqa: F401

# isort: on
from training.synth.music import chord_music, rhythm
from training.synth.recipes import RECIPES, synthesise
from training.synth.signals import RATE, Wave

__all__ = ["RATE", "RECIPES", "Wave", "chord_music", "rhythm", "synthesise"]
