"""Drawings as SVG in a data URI: text stays text and grows with the picture, and the page loads nothing.

A drawing is as wide as a phone's screen, so that on one its smallest letters have 9 pixels or more.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH = 360.0
SIZE = 10.5  # of the smallest text; 336 of 360 px remain on a phone, where it has 9.8 px
LINE = 13.0
INK, SOFT, GRID = "#1d2129", "#5b6472", "#dde1e7"
# Distinct in brightness as well as in hue; each has a contrast of 3 or more on white.
COLOURS = ("#6b7280", "#9a6b00", "#2f6fb0", "#c2541b", "#2f7d32", "#7b4fa3", "#b3261e", "#0b7a89")
NARROW, BROAD = frozenset("iljtfrI.,:;'!|()[]/- "), frozenset("mwMW%@—…")
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Picture:
    """A finished drawing: its address for `img`, and its size in px."""

    uri: str
    width: int
    height: int


class Drawing:
    """Shapes on a white ground, in px from the top left corner."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def text(
        self, x: float, y: float, words: str, anchor: Anchor = "start", size: float = SIZE, colour: str = INK,
        bold: bool = False,
    ) -> None:  # fmt: skip
        """One line of text on the base line `y`."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{weight}>'
            f"{escape(printable(words))}</text>"
        )

    def line(
        self, x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1, dashed: bool = False
    ) -> None:
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width:g}"{dashes}/>'
        )

    def dot(self, x: float, y: float, colour: str, radius: float = 4, hollow: bool = False) -> None:
        fill = "#fff" if hollow else colour
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
        )

    def whiskers(self, x1: float, x2: float, y: float, colour: str) -> None:
        """A horizontal interval."""
        self.line(x1, y, x2, y, colour, 2)

    def finish(self, height: float) -> Picture:
        """The drawing as a picture of this height."""
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:g}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH:g} {height:.0f}" font-family="system-ui, -apple-system, Segoe UI, Roboto, '
            f'Liberation Sans, DejaVu Sans, sans-serif">'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(self._parts)}</svg>'
        )
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        return Picture(uri, int(WIDTH), round(height))


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to pixels from `left` to `right`; values beyond it lie on its ends."""

    low: float
    high: float
    left: float
    right: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)


def printable(text: str) -> str:
    """The text without characters that XML does not allow: controls, and halves of surrogate pairs."""
    return "".join(
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else "\ufffd" if _is_forbidden(c) else c for c in text
    )


def _is_forbidden(character: str) -> bool:
    return unicodedata.category(character) == "Cs" or character in "\ufffe\uffff"


def width_of(text: str, size: float = SIZE) -> float:
    """Width in px, on the wide side: which font a browser takes is not known here (DejaVu Sans is the widest)."""
    return size * sum(_width(character) for character in text)


def _width(character: str) -> float:
    if character in NARROW:
        return 0.42
    if character in BROAD or unicodedata.east_asian_width(character) in "WF":
        return 1.0
    return 0.72 if character.isupper() or not character.isascii() else 0.65


def wrapped(text: str, width: float, size: float = SIZE) -> list[str]:
    """The text in lines no wider than `width` px; a word that is wider alone is divided, and nothing is left out."""
    lines = [""]
    for word in printable(text).split():
        for part in _pieces(word, width, size):
            joined = f"{lines[-1]} {part}".strip()
            if width_of(joined, size) <= width:
                lines[-1] = joined
            elif lines[-1]:
                lines.append(part)
            else:
                lines[-1] = part
    return lines


def _pieces(word: str, width: float, size: float) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and width_of(pieces[-1] + character, size) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, the same in every figure."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
