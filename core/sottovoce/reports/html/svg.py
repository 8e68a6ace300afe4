"""Pieces of pictures as SVG inside a page; every text is escaped, and colors are classes of the page's style."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.reports.html.scale import Scale

WIDTH = 640
COLORS = 8
"""Number of colors, of the classes ``c0`` and so on."""


def text(x: float, y: float, content: object, kind: str = "", anchor: str = "start") -> str:
    """Return a line of text."""
    escaped = html.escape(str(content), quote=True)
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escaped}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" class="{kind}"/>'


def titled(shape: str, title: str) -> str:
    """Return a shape that says something when it is pointed at."""
    return f"<g><title>{html.escape(title, quote=True)}</title>{shape}</g>"


def color(number: int) -> str:
    """Return the class of a model's color."""
    return f"c{number % COLORS}"


def marker(x: float, y: float, number: int, size: float = 5) -> str:
    """Return a point whose form differs from model to model, for those who do not see the color."""
    sides = (0, 4, 3, 5)[number % 4]
    if not sides:
        return f'<circle cx="{x:g}" cy="{y:g}" r="{size:g}" class="{color(number)}"/>'
    turn = math.pi / 4 if sides == 4 else -math.pi / 2
    angles = [turn + 2 * math.pi * corner / sides for corner in range(sides)]
    points = " ".join(
        f"{x + 1.25 * size * math.cos(angle):.1f},{y + 1.25 * size * math.sin(angle):.1f}" for angle in angles
    )
    return f'<polygon points="{points}" class="{color(number)}"/>'


@dataclass(frozen=True)
class Axes:
    """Two axes with their marks."""

    x: Scale
    y: Scale
    x_label: str
    y_label: str

    def draw(self) -> str:
        """Return lines, marks and labels."""
        pieces = []
        for tick in self.y.ticks:
            place = self.y(tick)
            pieces.append(line(self.x.start, place, self.x.end, place, "grid"))
            pieces.append(text(self.x.start - 6, place + 4, _number(tick), "tick", "end"))
        for tick in self.x.ticks:
            pieces.append(text(self.x(tick), self.y.start + 16, _number(tick), "tick", "middle"))
        pieces.append(line(self.x.start, self.y.start, self.x.end, self.y.start, "axis"))
        pieces.append(text((self.x.start + self.x.end) / 2, self.y.start + 34, self.x_label, "label", "middle"))
        pieces.append(text(self.x.start - 44, self.y.end - 12, self.y_label, "label"))
        return "".join(pieces)


def picture(pieces: Sequence[str], height: float, label: str) -> str:
    """Return a picture that is as wide as the page allows.

    Args:
        pieces: Shapes.
        height: Its height, where its width is 640.
        label: Description for those who do not see it.
    """
    described = html.escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{described}">{"".join(pieces)}</svg>'


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}"
