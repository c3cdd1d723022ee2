"""`isthmus report` on a long log: seconds and memory of the whole command, run as a process.

Options:
    frames: How many frames the log has.
    rounds: How often each contender runs; they take turns.
    formats: Formats to write, comma-separated; each is a contender, and `html` with one process too.

The log is made up from a seed, line for line as an agent writes it (its own encoder makes the lines; 30,000
frames repeat with other numbers and instants), with link events once a second, the rates of an emulated link
with an outage every ten minutes, and a bundle's table, so that every figure of a report has to be computed.
Six gigabytes for ten million frames lie in a temporary folder meanwhile. Memory is the sum of the resident
sets of the command and all its processes, looked at twenty times a second; pages they share count for each.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from isthmus.runtime import bundle as bundles
from isthmus.runtime.bundle import (
    DeviceAnswer,
    InputSpec,
    LatentSpec,
    Manifest,
    OperatingPoint,
    PointRecord,
    PointTable,
)
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import OUTCOMES, EndEvent, FrameEvent, LinkEvent, Outcome, RunEvent, ShapeEvent

SEED = 7
FPS, DEADLINE_S, START_S = 30.0, 0.15, 5_000.0
WIDTHS, CHANNELS = (0.25, 0.5, 0.75, 1.0), (2, 4, 8, 16)
_TEMPLATES = 30_000
_SHARES = {"remote": 85, "exit": 10, "local": 2, "late": 2, "dropped": 1}
_OUTAGE_EVERY_S, _OUTAGE_S = 600, 5
_ENCODER = msgspec.json.Encoder()
_LOOK_EVERY_S = 0.05


def run(
    *, quick: bool = False, frames: int | None = None, rounds: int | None = None, formats: str = "html"
) -> dict[str, Any]:
    """Return `figures` and `ratios`; `quick` takes 200,000 frames.

    Raises:
        InputError: If there would be no frame, or the command fails.
    """
    count = frames or (200_000 if quick else 10_000_000)
    if count < 1:
        raise InputError(f"frames={count}: give 1 or more")
    contenders = {form.strip(): ["--format", form.strip()] for form in formats.split(",")}
    if "html" in contenders:
        contenders["html, one process"] = ["--format", "html", "--jobs", "1"]
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory(prefix="isthmus-report-") as folder:
        root = Path(folder)
        outcomes = write_log(root, count)
        log_bytes = (root / "events.jsonl").stat().st_size
        for _ in range(rounds or 1):
            for name, flags in contenders.items():
                samples[name].append(_report(root, flags, outcomes))
    figures: dict[str, Any] = {"frames": count, "log_bytes": log_bytes}
    figures |= {
        name: {key: _spread([s[key] for s in taken]) for key in taken[0]} for name, taken in samples.items()
    }
    first = samples[next(iter(contenders))]
    return {
        "figures": figures,
        "ratios": {
            "frames_per_s": _spread([count / s["wall_s"] for s in first]),
            "log_bytes_per_s": _spread([log_bytes / s["wall_s"] for s in first]),
        },
    }


def write_log(root: Path, frames: int) -> dict[Outcome, int]:
    """Write the run folder `root`, and return how its frames end."""
    rng = random.Random(SEED)
    digest = _write_bundle(root / "bundle")
    bodies = [_body(rng) for _ in range(_TEMPLATES)]
    ends: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
    per_s = int(FPS)
    with (root / "events.jsonl").open("wb") as log:
        log.write(_line(_run_event(digest)))
        for begin in range(0, frames, per_s):
            second = begin // per_s
            lines = [_line(_link_event(second, rng))]
            for number in range(begin, min(begin + per_s, frames)):
                outcome, latency_s, body = bodies[number % _TEMPLATES]
                captured_s = START_S + number / FPS
                ends[outcome] += 1
                lines.append(
                    b'{"type":"frame","at_s":%.9f,"frame":%d,"captured_s":%.9f%s\n'
                    % (captured_s + latency_s, number, captured_s, body)
                )
            log.write(b"".join(lines))
        log.write(_line(EndEvent(at_s=START_S + frames / FPS + 1, captured=frames, outcomes=dict(ends))))
    with (root / "link.jsonl").open("wb") as log:
        for second in range(0, int(frames / FPS) + 1, 5):
            rate = 0.0 if second % _OUTAGE_EVERY_S == _OUTAGE_EVERY_S // 2 else rng.uniform(5e3, 60e3)
            log.write(_line(ShapeEvent(at_s=START_S - 1 + second, rate_bytes_per_s=rate)))
    return ends


def _body(rng: random.Random) -> tuple[Outcome, float, bytes]:
    """Return how a frame ends, how long it took, and its line from behind the instant of its capture."""
    outcome: Outcome = rng.choices(list(_SHARES), list(_SHARES.values()))[0]  # type: ignore[assignment]
    took_s = rng.lognormvariate(-3.0, 0.4)
    truth = rng.randrange(10)
    point = OperatingPoint(rng.randrange(len(WIDTHS)), rng.choice(CHANNELS))
    server: dict[str, Any] = {}
    if outcome in ("remote", "late"):
        parts = zip(("decode", "queue", "compute", "answer"), (0.01, 0.05, 0.06, 0.01), strict=True)
        server = {f"server_{name}_s": share * took_s * rng.random() for name, share in parts}
        server |= {"remote_s": took_s * 0.7, "server_received_s": 1e4 * rng.random()}
    event = FrameEvent(
        at_s=0.0,
        frame=0,
        captured_s=0.0,
        outcome=outcome,
        point=None if outcome == "dropped" else point,
        payload_bytes=rng.randrange(60, 400) if server else 0,
        answer=None if outcome == "dropped" else truth if rng.random() < 0.95 else (truth + 1) % 10,
        truth=truth,
        latency_s=None if outcome == "dropped" else took_s,
        wait_s=took_s * 0.01,
        handover_s=took_s * 0.01,
        head_s=took_s * 0.2,
        encode_s=took_s * 0.02,
        send_s=took_s * 0.01,
        reason=f"{rng.randrange(80, 100)} % in time with {rng.randrange(50, 900)} B at "
        f"{rng.random() * 50:.1f} kB/s, {rng.randrange(900)} B queued",
        **server,
    )
    line = _ENCODER.encode(event)
    mark = b'"captured_s":0.0'
    return outcome, took_s, line[line.index(mark) + len(mark) :]


def _run_event(digest: str) -> RunEvent:
    return RunEvent(
        at_s=START_S - 0.2,
        unix_s=1_760_000_000.0,
        bundle="made-up",
        bundle_digest=digest,
        source="made up",
        policy="expected-utility",
        server="127.0.0.1:8001",
        deadline_s=DEADLINE_S,
        fps=FPS,
        widths=WIDTHS,
        labels=tuple("0123456789"),
        teacher_utility=0.978,
        isthmus_version="0",
        idle_w=2.0,
    )


def _link_event(second: int, rng: random.Random) -> LinkEvent:
    out = 0 <= second - 299 - second // _OUTAGE_EVERY_S * _OUTAGE_EVERY_S < _OUTAGE_S
    return LinkEvent(
        at_s=START_S + second,
        connected=not out,
        rate_bytes_per_s=None if out else rng.uniform(5e3, 60e3),
        rtt_s=0.021,
        backlog_bytes=0,
        energy_j=3.5 * second,
        energy_source="made up",
    )


def _write_bundle(root: Path) -> str:
    """Write a bundle whose networks are placeholders (reports read none of them); return its digest."""
    records = tuple(
        PointRecord(
            point=OperatingPoint(width, channels),
            utility=0.9 + 0.01 * width + 0.002 * channels,
            bytes_mean=40.0 + 18.0 * channels,
            bytes_p95=50.0 + 20.0 * channels,
            bytes_max=80 + 25 * channels,
            head_s=0.005 * (1 + width),
        )
        for width in range(len(WIDTHS))
        for channels in CHANNELS
    )
    exits = tuple(DeviceAnswer(utility=0.85, compute_s=0.0005, width_index=i) for i in range(len(WIDTHS)))
    table = PointTable(
        measured_on="made up",
        host="made up",
        teacher_utility=0.978,
        records=records,
        exits=exits,
        tail_s=0.001,
    )
    for name in [*map(bundles.head_name, WIDTHS), bundles.TAIL, bundles.TABLES, bundles.GOLDEN]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / bundles.POINTS).write_bytes(_ENCODER.encode(table))
    manifest = Manifest(
        schema_version=bundles.SCHEMA_VERSION,
        name="made-up",
        task="classification",
        labels=tuple("0123456789"),
        input=InputSpec(height=32, width=32, channels=1),
        latent=LatentSpec(channels=16, height=4, width=4, zero_points=(128,) * 16),
        widths=WIDTHS,
        points=tuple(record.point for record in records),
        codecs=("rans",),
        table_id="0" * 16,
        files={},
        provenance={"made_by": "benchmarks/report.py"},
    )
    bundles.write_manifest(root, manifest)
    return hashlib.sha256((root / bundles.MANIFEST).read_bytes()).hexdigest()


def _line(event: msgspec.Struct) -> bytes:
    return _ENCODER.encode(event) + b"\n"


def _report(root: Path, flags: list[str], outcomes: dict[Outcome, int]) -> dict[str, float]:
    """Return what one run of the command took, after checking that it counted every frame."""
    out = root / "report"
    command = [sys.executable, "-m", "isthmus", "report", str(root), "--out", str(out), "--json", *flags]
    begin_s = time.perf_counter()
    with (root / "figures.json").open("wb") as told:
        process = subprocess.Popen(command, stdout=told)
        peak = _peak_bytes(process)
    wall_s = time.perf_counter() - begin_s
    if process.returncode:
        raise InputError(f"{' '.join(command)}: ended with {process.returncode}")
    (figures,) = json.loads((root / "figures.json").read_text())["runs"]
    if figures["accounting"]["outcomes"] != outcomes or not figures["accounting"]["balanced"]:
        raise InputError(f"the report counted {figures['accounting']}; the log has {outcomes}")
    if figures["regret"] is None or figures["energy"] is None:
        raise InputError("the report left out regret or energy, so it is not what is to be measured")
    return {"wall_s": wall_s, "peak_mb": peak / 1e6, "report_bytes": float(out.stat().st_size)}


def _peak_bytes(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory that the process and its children held at once."""
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        held = 0
        try:
            for one in (watched, *watched.children(recursive=True)):
                held += one.memory_info().rss
        except psutil.Error:  # one of them ended while it was asked
            continue
        peak = max(peak, held)
        time.sleep(_LOOK_EVERY_S)
    return peak


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
