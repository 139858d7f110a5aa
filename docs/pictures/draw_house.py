"""Draw the house from the order of the rooms that import-linter keeps: `python docs/pictures/draw_house.py`.

The picture is drawn from pyproject.toml, so that it cannot show an order that the code does not have; a test fails
when `house.svg` is older than the order.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGE = ROOT / "src" / "loopwright"

SAYS = {
    "cli": "commands: parse, call, print",
    "demos": "a whole project on real flights",
    "ui": "pages: read only what the API gives",
    "recording": "lw.start_run and its kin: from the training code into a spool",
    "server": "the control app: operations as routes, who may ask, foreign protocols",
    "connect": "one file per outside system",
    "workspace": "the composition root: opens the stores, hands out one service per room",
    "loop": "triggers, policies, the controller: where the circle closes",
    "release": "endpoints, traffic, gates, approvals, rollouts, rollback",
    "monitor": "windows, drift, late labels, alerts",
    "serve": "the inference process and its prediction log",
    "train": "search, baselines, comparisons",
    "models": "bundles, signatures, registry, cards",
    "pipeline": "steps, cache, runners, capture of code and environment",
    "features": "entities, views, point-in-time joins, online reads",
    "track": "experiments, runs, metrics, artifacts",
    "data": "ingest, versions, profiles, checks",
    "govern": "tokens, roles, projects, the audit's face",
    "store": "how to keep: db, objects, tables, online, events, lineage",
    "stats": "the arithmetic of judgement: pure functions",
    "core": "the words: ids, digests, refs, schemas, operations, errors, clock, settings",
}
STOREYS = (
    ("faces", ("cli", "demos", "ui", "recording", "server", "connect"), "#e0f2f1"),
    ("root", ("workspace",), "#fff8e1"),
    ("closing the loop", ("loop", "release", "monitor", "serve"), "#e8eaf6"),
    ("making models", ("train", "models", "pipeline", "features", "track", "data", "govern"), "#f3e5f5"),
    ("the ground", ("store", "stats", "core"), "#eceff1"),
)
WIDTH, ROW, TOP, LEFT = 860, 30, 70, 150


def layers() -> list[str]:
    """The rooms that there are, from the top down, as import-linter keeps them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [item for item in settings["tool"]["importlinter"]["contracts"] if item["type"] == "layers"]
    names = [name.strip("()").removeprefix("loopwright.") for name in contract["layers"]]
    return [name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()]


def draw() -> str:
    """The picture as SVG."""
    rooms = layers()
    height = TOP + ROW * len(rooms) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="The rooms of Loopwright, from the command line down to core" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<path d="M{LEFT - 12} {TOP - 8} L{WIDTH // 2 + 60} 14 L{WIDTH - 28} {TOP - 8} Z" fill="#00796b"/>',
        f'<text x="{WIDTH // 2 + 60}" y="{TOP - 18}" text-anchor="middle" fill="#ffffff" font-weight="bold">'
        "imports go down only</text>",
    ]
    for name, members, colour in STOREYS:
        places = [rooms.index(room) for room in members if room in rooms]
        parts += _storey(name, colour, min(places), max(places))
    for place, room in enumerate(rooms):
        parts += _room(room, place)
    return "\n".join([*parts, "</svg>", ""])


def _storey(name: str, colour: str, first: int, last: int) -> list[str]:
    top, height = TOP + ROW * first, ROW * (last - first + 1)
    return [
        f'<rect x="{LEFT - 8}" y="{top}" width="{WIDTH - LEFT - 16}" height="{height - 4}" rx="4" fill="{colour}"/>',
        f'<text x="{LEFT - 22}" y="{top + height / 2 + 2:g}" text-anchor="end" fill="#455a64">{escape(name)}</text>',
    ]


def _room(room: str, place: int) -> list[str]:
    line = TOP + ROW * place + 18
    return [
        f'<text x="{LEFT + 6}" y="{line}" fill="#004d40" font-family="ui-monospace, monospace" font-weight="bold">'
        f"{escape(room)}</text>",
        f'<text x="{LEFT + 110}" y="{line}" fill="#263238">{escape(SAYS[room])}</text>',
    ]


if __name__ == "__main__":
    (HERE / "house.svg").write_text(draw(), encoding="utf-8")
