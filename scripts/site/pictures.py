"""The site's pictures, drawn while it is built: each twice, for light and for dark pages.

A page names both, `split-light.svg#only-light` and `split-dark.svg#only-dark`: the theme shows one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drawing import THEMES, Picture

ROOT = Path(__file__).resolve().parents[2]


def split(theme: str) -> Picture:
    """What runs where, and what crosses."""
    p = Picture(
        940,
        250,
        "A split network",
        "Head on the device, a small latent on the link, tail on the server.",
        theme,
    )
    p.frame(10, 10, 440, 230, "device", "device")
    p.frame(620, 10, 310, 230, "server", "server")
    p.box(26, 70, 84, 60, "image", "uint8")
    p.box(150, 70, 120, 60, "head", "width 0.25 … 1", "device")
    p.box(310, 70, 124, 60, "latent", "first c channels")
    p.box(640, 70, 110, 60, "decode", "fill and batch")
    p.box(790, 70, 124, 60, "tail", "the rest", "server")
    p.arrow((110, 100), (148, 100))
    p.arrow((270, 100), (308, 100))
    p.arrow((434, 100), (638, 100), kind="link")
    p.word(535, 84, "60–300 bytes", anchor="middle", size=13, colour="link")
    p.arrow((750, 100), (788, 100))
    p.arrow((852, 130), (852, 196), (436, 196), kind="link")
    p.word(535, 186, "answer", anchor="middle", size=13, colour="link")
    p.box(296, 166, 138, 54, "answer", "one for every frame", "device")
    p.box(110, 166, 140, 54, "early exit", "if the link fails", "warn")
    p.arrow((372, 130), (372, 148), (180, 148), (180, 164), kind="warn")
    p.arrow((250, 193), (294, 193), kind="warn")
    return p


def points(theme: str) -> Picture:
    """Accuracy against bytes of a real bundle, from the stored result."""
    curves = _curves(json.loads((ROOT / "benchmarks" / "results" / "cifar10-resnet56.json").read_text()))
    every = [point for curve in curves.values() for point in curve]
    p = Picture(
        720, 360, "Operating points of one bundle", "Accuracy against bytes, a line for each width.", theme
    )
    left, top, wide, high = 70, 20, 500, 280
    low = math.floor(20 * min(accuracy for _, accuracy in every)) / 20
    best = math.ceil(20 * max(accuracy for _, accuracy in every)) / 20
    most = 1.05 * max(size for size, _ in every)

    def place(size: float, accuracy: float) -> tuple[float, float]:
        return left + wide * size / most, top + high * (best - accuracy) / (best - low)

    for step in range(round(20 * low), round(20 * best) + 1):
        x, y = place(0, step / 20)
        p.arrow((x, y), (left + wide, y), head=False)
        p.word(x - 8, y + 4, f"{5 * step} %", size=12, colour="soft", anchor="end")
    for size in range(0, int(most) + 1, 100):
        p.word(place(size, 0)[0], top + high + 20, str(size), size=12, colour="soft", anchor="middle")
    p.word(left + wide / 2, top + high + 42, "payload bytes a frame (mean)", size=13, anchor="middle")
    kinds = ("warn", "link", "server", "device")
    ends = []
    for kind, (width, curve) in zip(kinds, sorted(curves.items()), strict=False):
        line = [place(*point) for point in curve]
        p.arrow(*line, kind=kind, head=False)
        for x, y in line:
            p.bar(x - 4, y - 4, 8, 8, kind)
        ends.append((line[-1][1], f"width {width:g}", kind))
    beneath = 0.0
    for y, text, kind in sorted(ends):  # words that would lie upon each other move down
        beneath = max(y + 4, beneath + 17)
        p.word(left + wide + 12, beneath, text, size=13, colour=kind)
    return p


def _curves(record: Any) -> dict[float, list[tuple[float, float]]]:
    """Return (mean bytes, accuracy) of every width's points, fewest channels first."""
    curves: dict[float, list[tuple[float, float]]] = {}
    for name, figures in record["figures"]["points"].items():
        width = float(re.search(r"width ([\d.]+)", name)[1])  # type: ignore[index]
        curves.setdefault(width, []).append((figures["bytes_mean"], figures["accuracy"]))
    return {width: sorted(curve) for width, curve in curves.items()}


def frame(theme: str) -> Picture:
    """A frame's time, from capture to answer."""
    p = Picture(
        940, 230, "One frame", "The parts of a frame's latency, the guard instant and the deadline.", theme
    )
    parts = (
        ("wait", 60, "plain"),
        ("head", 90, "device"),
        ("encode", 70, "device"),
        ("send", 60, "link"),
        ("network", 130, "link"),
        ("queue", 70, "server"),
        ("tail", 80, "server"),
        ("network", 90, "link"),
    )
    x = 30.0
    for name, width, kind in parts:
        p.box(x, 60, width, 50, name, kind=kind)
        x += width
    p.word(30, 44, "capture", size=13, colour="soft")
    p.word(x, 44, "answer: remote", size=13, anchor="end", colour="link", bold=True)
    p.arrow((708, 30), (708, 150), kind="warn", head=False)
    p.word(708, 22, "guard", size=13, anchor="middle", colour="warn", bold=True)
    p.arrow((880, 30), (880, 150), head=False)
    p.word(880, 22, "deadline", size=13, anchor="middle", bold=True)
    p.box(560, 150, 148, 54, "no answer yet?", "the device answers", "warn", dashed=True)
    p.word(722, 172, "outcome exit, from the latent,", size=12, colour="soft")
    p.word(722, 190, "or local, from the image", size=12, colour="soft")
    p.word(30, 222, "Every captured frame ends exactly once: remote, exit, local, late or dropped.", size=13)
    return p


def adaptation(theme: str) -> Picture:
    """From deliveries to the next operating point."""
    p = Picture(
        940,
        250,
        "How a point is chosen",
        "Deliveries become a belief about the link, which weighs every operating point against the deadline.",
        theme,
    )
    p.box(20, 40, 150, 64, "deliveries", "bytes, when they came", "link")
    p.box(220, 40, 160, 64, "estimate", "rate and its errors")
    p.box(430, 40, 190, 64, "outlook", "chance to be in time")
    p.box(670, 40, 250, 64, "expected utility", "accuracy × chance − price", "device")
    for x in (170, 380, 620):
        p.arrow((x, 72), (x + 48, 72))
    p.box(220, 160, 160, 64, "head times", "measured on this device", "device")
    p.box(430, 160, 190, 64, "budget", "what the deadline leaves")
    p.box(670, 160, 250, 64, "point, or answer alone", "with its reason, in the log", "device")
    p.arrow((380, 192), (428, 192))
    p.arrow((525, 160), (525, 106))
    p.arrow((795, 104), (795, 158))
    p.arrow((668, 205), (648, 205), (648, 236), (95, 236), (95, 106), kind="link")
    return p


def ways(theme: str) -> Picture:
    """Where the time goes in the four kinds of candidates of a plan."""
    p = Picture(
        940,
        300,
        "Four ways to run a network",
        "Time on device, link and server for local, offload, plain split and bottleneck; lengths are drawn, "
        "not measured.",
        theme,
    )
    rows = (
        ("all on the device", (("device", 620),)),
        ("send the image", (("link", 420), ("server", 70))),
        ("plain split: raw features", (("device", 150), ("link", 480), ("server", 50))),
        ("bottleneck: a learned latent", (("device", 120), ("link", 60), ("server", 60))),
    )
    for index, (name, parts) in enumerate(rows):
        y = 34 + index * 60
        p.word(16, y + 20, name, size=13, bold=index == 3)
        x = 235.0
        for kind, width in parts:
            p.bar(x, y, width, 32, kind)
            if width >= 60:
                p.word(x + width / 2, y + 21, kind, size=13, anchor="middle", colour=kind)
            x += width
    p.word(
        235,
        290,
        "time of one frame → (lengths are drawn, not measured: 'isthmus partition' measures yours)",
        size=12,
        colour="soft",
    )
    return p


def bundle(theme: str) -> Picture:
    """The files that both ends load."""
    p = Picture(940, 290, "A bundle", "The files of a bundle and which end reads them.", theme)
    p.frame(250, 10, 440, 270, "bundle/", "plain")
    files = (
        ("manifest.json", "names, digests", "plain"),
        ("heads/w025.onnx …", "one per width", "device"),
        ("exit.onnx, local.onnx", "answers alone", "device"),
        ("tables.npz", "entropy coder", "link"),
        ("points.json", "what points are worth", "device"),
        ("tail.onnx", "the rest", "server"),
        ("golden/", "inputs and answers", "plain"),
    )
    for index, (name, what, kind) in enumerate(files):
        y = 44 + index * 33
        edge = kind
        p.box(266, y, 190, 28, kind=edge)
        p.word(276, y + 19, name, size=13)
        p.word(470, y + 19, what, size=13, colour="soft")
    p.box(20, 90, 170, 80, "device", ["heads, exit, tables,", "points"], "device")
    p.box(750, 90, 170, 80, "server", ["tail, tables"], "server")
    p.arrow((250, 130), (194, 130), kind="device")
    p.arrow((690, 130), (746, 130), kind="server")
    p.word(105, 200, "both verify every digest", size=12, colour="soft", anchor="middle")
    p.word(835, 200, "nothing is unpickled", size=12, colour="soft", anchor="middle")
    return p


def measuring(theme: str) -> Picture:
    """What writes an event log, and what reads it."""
    p = Picture(
        940,
        270,
        "Where figures come from",
        "Agent, link and meters write event logs; report, dashboard and simulator read them.",
        theme,
    )
    p.box(20, 30, 180, 60, "isthmus agent", "a line per frame", "device")
    p.box(20, 110, 180, 60, "isthmus link", "the true rate", "link")
    p.box(20, 190, 180, 60, "energy meter", "or a model, labelled", "warn")
    p.box(320, 110, 200, 60, "events.jsonl", "JSON lines, versioned")
    p.box(640, 30, 280, 60, "isthmus report", "one file, no outside requests", "plain")
    p.box(640, 110, 280, 60, "isthmus dashboard", "live, in the browser", "plain")
    p.box(640, 190, 280, 60, "isthmus simulate", "the same run again, virtually", "plain")
    for y in (60, 140):
        p.arrow((200, y), (318, 140))
    p.arrow((200, 220), (318, 150), kind="warn")
    for y in (60, 140, 220):
        p.arrow((520, 140), (638, y))
    return p


def icon(theme: str) -> Picture:
    """The mark in the browser's tab."""
    p = Picture(64, 64, "Isthmus", "Two lands and the narrow bridge between them.", theme)
    steps = [(x, 12 + 14 * math.exp(-(((x - 32) / 9) ** 2))) for x in range(4, 61, 2)]
    p.arrow(*steps, kind="device", head=False)
    p.arrow(*[(x, 64 - y) for x, y in steps], kind="server", head=False)
    return p


PICTURES: dict[str, Callable[[str], Picture]] = {
    drawn.__name__: drawn for drawn in (split, points, frame, adaptation, ways, bundle, measuring)
}


def drawn() -> dict[str, str]:
    """Return every picture by the name of its file."""
    files = {f"{name}-{theme}.svg": make(theme).svg() for name, make in PICTURES.items() for theme in THEMES}
    return {**files, "icon.svg": icon("light").svg()}
