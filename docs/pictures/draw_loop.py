"""Draw the loop: `python docs/pictures/draw_loop.py`."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent

STATIONS = (
    ("data", "versions, checks"),
    ("features", "point in time"),
    ("training", "pipelines, search"),
    ("registry", "bundles, parity proof"),
    ("release", "gates, canary, rollback"),
    ("serving", "predictions, each logged"),
    ("monitoring", "drift, late labels, alerts"),
)
WIDTH, HEIGHT, ACROSS, UP = 720, 430, 260, 150
BOX_WIDTH, BOX_HEIGHT = 164, 46


def place(number: float) -> tuple[float, float]:
    """The middle of a station; they stand in a circle, clockwise from the top."""
    angle = 2 * math.pi * number / len(STATIONS) - math.pi / 2
    return WIDTH / 2 + ACROSS * math.cos(angle), HEIGHT / 2 + UP * math.sin(angle)


def draw() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="The loop from data to monitoring and back to training" '
        'font-family="system-ui, sans-serif" font-size="13" text-anchor="middle">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<ellipse cx="{WIDTH / 2:g}" cy="{HEIGHT / 2:g}" rx="{ACROSS}" ry="{UP}" fill="none" stroke="#00796b" '
        'stroke-width="3" stroke-dasharray="10 5"/>',
    ]
    for number, (name, says) in enumerate(STATIONS):
        parts += [_arrow(number + 0.5), *_station(name, says, *place(number))]
    middle = (
        "an alert triggers the loop: retrain, gate, approve,",
        "canary, then promote or roll back. Each decision is",
        "an event that names its cause and its evidence.",
    )
    for line, text in enumerate(middle):
        parts.append(
            f'<text x="{WIDTH / 2:g}" y="{HEIGHT / 2 - 14 + 20 * line:g}" fill="#263238">{escape(text)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _arrow(number: float) -> str:
    """A triangle that points clockwise, between two stations."""
    (x, y), (ahead_x, ahead_y) = place(number), place(number + 0.01)
    turn = math.degrees(math.atan2(ahead_y - y, ahead_x - x))
    return f'<path d="M-7 -7 L9 0 L-7 7 Z" fill="#00796b" transform="translate({x:.0f} {y:.0f}) rotate({turn:.0f})"/>'


def _station(name: str, says: str, x: float, y: float) -> list[str]:
    return [
        f'<rect x="{x - BOX_WIDTH / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
        'rx="6" fill="#e0f2f1" stroke="#00796b"/>',
        f'<text x="{x:.0f}" y="{y - 3:.0f}" fill="#004d40" font-weight="bold">{escape(name)}</text>',
        f'<text x="{x:.0f}" y="{y + 15:.0f}" fill="#263238" font-size="12">{escape(says)}</text>',
    ]


if __name__ == "__main__":
    (HERE / "loop.svg").write_text(draw(), encoding="utf-8")
