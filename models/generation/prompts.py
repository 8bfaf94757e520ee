"""Prompts for panoramas: the lines of a file, or composed of lists of rooms, styles and lights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..support.files import list_lines

_ROOMS = """
    a living room | a bedroom | a kitchen | a bathroom | a dining room | a home office | a children's room | an attic |
    a hallway with doors | a staircase hall | a basement | a garage | a loft | a studio flat | a winter garden |
    a hotel lobby | a hotel room | a classroom | a lecture hall | a library | an open-plan office | a meeting room |
    a workshop full of tools | a warehouse with shelves | a supermarket aisle | a clothes shop | a restaurant | a café |
    a bar | a gym | an indoor swimming pool | a museum gallery | a church nave | a theatre | a hospital ward |
    a laboratory | a train station hall | an underground car park | an art studio | a conference hall
"""
_STYLES = """
    modern | minimalist | Scandinavian | industrial | rustic | Victorian | Art Deco | mid-century modern | Japanese |
    Mediterranean | Moroccan | baroque | farmhouse | bohemian | brutalist | colonial | shabby and worn | brand-new
"""
_LIGHTS = """
    in soft daylight from large windows | in hard midday sun with sharp shadows | at golden hour | on an overcast day |
    at night under warm lamps | at night under cold fluorescent tubes | dimly lit by candles |
    under spotlights in an otherwise dark space | in the blue light before dawn | evenly lit without a window
"""


def _words(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split("|")]


@dataclass(frozen=True)
class Words:
    """What prompts are composed of: one of each list, drawn by seed and number, in the places of the template."""

    rooms: list[str] = field(default_factory=lambda: _words(_ROOMS))
    styles: list[str] = field(default_factory=lambda: _words(_STYLES))
    lights: list[str] = field(default_factory=lambda: _words(_LIGHTS))
    template: str = "This is a panorama. The image shows {room}, {style} in style, {light}."

    def __post_init__(self) -> None:
        if not (self.rooms and self.styles and self.lights):
            raise ValueError("words: rooms, styles and lights need one entry each at least")
        try:
            self.compose(0, 0)
        except (KeyError, IndexError, ValueError) as error:
            places = "{room}, {style} and {light}"
            raise ValueError(f"words: template {self.template!r}: its places are {places}") from error

    def compose(self, seed: int, number: int) -> str:
        """The prompt of one panorama."""
        rng = np.random.Generator(np.random.PCG64([seed, number]))
        room, style, light = (words[rng.integers(len(words))] for words in (self.rooms, self.styles, self.lights))
        return self.template.format(room=room, style=style, light=light)


def read_prompts(path: str) -> list[str]:
    """The prompts of a text file, one a line; empty lines and those that begin with `#` are none. Raises ValueError."""
    prompts = [line for _, line in list_lines(Path(path).read_bytes())]
    if not prompts:
        raise ValueError(f"{path}: holds no prompt")
    return prompts
