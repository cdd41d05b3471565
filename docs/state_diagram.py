"""Draws the local queue's modes from the table that the code runs on, so that the picture cannot be wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from trio_graphile._model.local_queue import TRANSITIONS, Mode, Occasion

WIDTH, HEIGHT = 720, 330
BOX_WIDTH, BOX_HEIGHT = 110, 40
PLACES = {
    Mode.STARTING: (80, 60),
    Mode.POLLING: (280, 60),
    Mode.HOLDING: (520, 60),
    Mode.EXPIRED: (520, 200),
    Mode.RELEASED: (280, 290),
}
STYLE = """
  rect { fill: none; stroke: currentColor; stroke-width: 1.5 }
  path { fill: none; stroke: currentColor; stroke-width: 1.2; marker-end: url(#head) }
  text { font: 13px sans-serif; text-anchor: middle; fill: currentColor }
  .edge { font-size: 11px; font-style: italic }
"""

ARROW_HEAD = """<defs>
  <marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
    <path d="M0,0 L8,4 L0,8" style="marker-end: none"/>
  </marker>
</defs>"""


def draw() -> str:
    """Return an SVG with a box for each mode and an arrow for each transition."""
    missing = set(Mode) - set(PLACES)
    if missing:
        raise SystemExit(f"the diagram has no place for {missing}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" color="#777">',
        f"<style>{STYLE}</style>",
        ARROW_HEAD,
    ]
    for mode, (x, y) in PLACES.items():
        left, top = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
        parts.append(
            f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
            f'<text x="{x}" y="{y + 4}">{escape(mode.value)}</text>'
        )
    parts.extend(arrow(source, occasion, target) for (source, occasion), target in TRANSITIONS.items())
    return "\n".join([*parts, "</svg>", ""])


def arrow(source: Mode, occasion: Occasion, target: Mode) -> str:
    """Return a bent arrow with its occasion, from the edge of one box to that of another."""
    if source is target:
        x, y = PLACES[source]
        right = x + BOX_WIDTH / 2
        curve = f"M{right},{y - 8} C{right + 60},{y - 30} {right + 60},{y + 30} {right},{y + 8}"
        label = f'<text class="edge" x="{right + 62}" y="{y + 4}">{escape(occasion.value)}</text>'
        return f'<path d="{curve}"/>{label}'
    (x1, y1), (x2, y2) = clip(source, target), clip(target, source)
    # Bent to the right of its direction: there and back do not lie upon one another.
    bend = 0.12
    x, y = (x1 + x2) / 2 - (y2 - y1) * bend, (y1 + y2) / 2 + (x2 - x1) * bend
    label = f'<text class="edge" x="{x:.0f}" y="{y:.0f}">{escape(occasion.value)}</text>'
    return f'<path d="M{x1:.0f},{y1:.0f} Q{x:.0f},{y:.0f} {x2:.0f},{y2:.0f}"/>{label}'


def clip(mode: Mode, towards: Mode) -> tuple[float, float]:
    """Return where the line between two boxes leaves the first."""
    (x, y), (x2, y2) = PLACES[mode], PLACES[towards]
    dx, dy = x2 - x, y2 - y
    scale = min(
        (BOX_WIDTH / 2 + 4) / abs(dx) if dx else float("inf"),
        (BOX_HEIGHT / 2 + 4) / abs(dy) if dy else float("inf"),
    )
    return x + dx * scale, y + dy * scale


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(), encoding="utf-8")
