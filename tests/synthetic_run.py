"""Write the folder of a made-up run, from a seed: no agent, server, model or clock takes part.

`tests/conftest.py` loads this module on first use and hands it out as a fixture; tests do not import it. The
story of the default run: 40 s at 30 frames a second over a link of 30 kB/s that narrows at 4 s, is out from
12 s to 17 s, and widens again until it carries 60 kB/s; from 31 s to 35 s the device runs at half its speed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

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
from isthmus.runtime.events import OUTCOMES, EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent, ShapeEvent

WIDTHS = (0.25, 0.5, 0.75, 1.0)
CHANNELS = (2, 4, 8, 16)
HEAD_S = (0.006, 0.012, 0.020, 0.029)
THROTTLED_S = (31.0, 35.0)
EXIT_UTILITY, TEACHER = 0.871, 0.978
OUTAGE_S = (12.0, 17.0)
# (seconds since the start, bytes per second)
RATES = (
    (0.0, 30e3), (4.0, 14e3), (8.0, 7e3), (10.0, 4e3), (12.0, 0.0), (17.0, 3e3), (19.0, 6e3), (22.0, 12e3),
    (27.0, 40e3), (30.0, 60e3), (36.0, 22e3),
)  # fmt: skip
ZERO_S = 5_000.0  # monotonic seconds of the start: no report may take it for 0


@dataclass(frozen=True)
class SyntheticRun:
    folder: Path
    frames: tuple[FrameEvent, ...]
    outcomes: dict[str, int]


def table() -> PointTable:
    records = []
    for width_index in range(len(WIDTHS)):
        for channels in CHANNELS:
            utility = TEACHER - 0.004 - 0.10 * np.exp(-channels / 3.2) - 0.018 * (3 - width_index) ** 1.3 / 3
            size = 34 + 21.0 * channels**0.93 * (1.06 - 0.02 * width_index)
            records.append(
                PointRecord(
                    point=OperatingPoint(width_index, channels),
                    utility=float(round(utility, 4)),
                    bytes_mean=float(round(size, 1)),
                    bytes_p95=float(round(size * 1.12, 1)),
                    bytes_max=round(size * 1.3),
                    head_s=HEAD_S[width_index],
                )
            )
    exits = tuple(
        DeviceAnswer(utility=EXIT_UTILITY + 0.012 * i, compute_s=0.0005, width_index=i)
        for i in range(len(WIDTHS))
    )
    return PointTable(
        measured_on="synthetic digits test, 360 images",
        host="made-up CPU, 1 thread",
        teacher_utility=TEACHER,
        records=tuple(records),
        exits=exits,
        local=DeviceAnswer(utility=0.978, compute_s=0.03),
        tail_s=0.0008,
    )


def write_bundle(root: Path, *, made_by: str = "tests/synthetic_run.py") -> str:
    """Write a bundle whose networks are placeholders (reports read none of them); return its digest."""
    points = table()
    names = [bundles.head_name(width) for width in WIDTHS]
    for name in [*names, bundles.TAIL, bundles.TABLES, bundles.GOLDEN]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / bundles.POINTS).write_bytes(msgspec.json.encode(points))
    manifest = Manifest(
        schema_version=bundles.SCHEMA_VERSION,
        name="synthetic",
        task="classification",
        labels=tuple("0123456789"),
        input=InputSpec(height=32, width=32, channels=1),
        latent=LatentSpec(channels=16, height=4, width=4, zero_points=(128,) * 16),
        widths=WIDTHS,
        points=tuple(record.point for record in points.records),
        codecs=("rans",),
        table_id="0" * 16,
        files={},
        provenance={"made_by": made_by},
    )
    bundles.write_manifest(root, manifest)
    return hashlib.sha256((root / bundles.MANIFEST).read_bytes()).hexdigest()


def rate_at(at_s: float) -> float:
    return [rate for start, rate in RATES if start <= at_s][-1]


class Player:
    """A plausible agent on a link that is one queue: it sends the best point that fits half the budget."""

    def __init__(self, *, fps: float, deadline_s: float, seed: int) -> None:
        self.fps, self.deadline_s = fps, deadline_s
        self.rng = np.random.default_rng(seed)
        self.records = sorted(table().records, key=lambda record: record.utility)
        self.believed, self.free_s, self.probed_s = 30e3, 0.0, -1.0

    def frame(self, number: int) -> FrameEvent:
        captured_s = number / self.fps
        self.believed += 0.12 * (rate_at(captured_s) * self.noise(0.15) - self.believed)
        self.slow = 2.0 if THROTTLED_S[0] <= captured_s < THROTTLED_S[1] else 1.0
        self.truth = int(self.rng.integers(10))
        if self.rng.random() < 0.006:
            return self.ended(number, "dropped", None, reason="superseded by a newer frame")
        backlog_s = max(0.0, self.free_s - captured_s)
        fitting = [record for record in self.records if self.fits(record, backlog_s)]
        if fitting:
            chance = 1 - 0.1 * self.rng.random()
            reason = (
                f"send: {fitting[-1].utility:.3f} expected, p={chance:.2f} at {self.believed / 1e3:.1f} kB/s"
            )
            return self.send(number, fitting[-1], reason)
        if captured_s - self.probed_s > 0.5:
            self.probed_s = captured_s
            return self.send(number, self.records[0], "probe: nothing was sent for 500 ms", probe=True)
        head_s = HEAD_S[0] * self.slow * self.noise(0.1)
        took_s = head_s + 0.0006 + float(self.rng.gamma(2, 0.0006))
        within = f"{self.deadline_s * 1e3:.0f} ms at {self.believed / 1e3:.1f} kB/s"
        return self.ended(
            number, "exit", took_s, EXIT_UTILITY, reason=f"exit: no point reaches the server in {within}",
            point=OperatingPoint(0, CHANNELS[0]), head_s=head_s,
        )  # fmt: skip

    def fits(self, record: PointRecord, backlog_s: float) -> bool:
        return (
            record.bytes_mean / max(self.believed, 1.0) + backlog_s < 0.5 * self.deadline_s
            and record.bytes_mean * self.fps < 0.9 * self.believed
            and record.head_s * self.slow * self.fps < 1.0
        )

    def send(self, number: int, record: PointRecord, reason: str, *, probe: bool = False) -> FrameEvent:
        size = round(record.bytes_mean * float(self.rng.normal(1, 0.05)))
        head_s, encode_s = record.head_s * self.slow * self.noise(0.1), 0.0004
        queue_s, compute_s = float(self.rng.gamma(2, 0.0005)), 0.0009
        ready_s = number / self.fps + head_s + encode_s
        begin_s = max(self.free_s, ready_s)
        if rate_at(begin_s) == 0.0:
            begin_s = OUTAGE_S[1]
        self.free_s = begin_s + size / rate_at(begin_s)
        remote_s = self.free_s - ready_s + 0.012 + queue_s + compute_s + float(self.rng.gamma(2, 0.002))
        took_s = head_s + encode_s + remote_s + 0.0006
        sent = {"point": record.point, "payload_bytes": size, "head_s": head_s, "encode_s": encode_s} | {
            "reason": reason,
            "probe": probe,
        }
        if took_s <= self.deadline_s or self.rng.random() < 0.1:
            outcome = "remote" if took_s <= self.deadline_s else "late"
            answer = {"remote_s": remote_s, "server_queue_s": queue_s, "server_compute_s": compute_s}
            return self.ended(number, outcome, took_s, record.utility, **sent, **answer)
        kind = "exit" if self.rng.random() < 0.8 else "local"
        return self.ended(
            number, kind, self.deadline_s - 0.004 + 0.003 * self.rng.random(), EXIT_UTILITY, **sent
        )

    def ended(
        self, number: int, outcome: str, took_s: float | None, utility: float | None = None, **fields: Any
    ) -> FrameEvent:
        captured_s = ZERO_S + number / self.fps
        answer = None
        if utility is not None:
            answer = self.truth if self.rng.random() < utility else (self.truth + 1) % 10
        return FrameEvent(
            at_s=captured_s + (0.03 if took_s is None else took_s), frame=number, captured_s=captured_s,
            outcome=outcome, truth=self.truth, answer=answer, latency_s=took_s, **fields,
        )  # fmt: skip

    def noise(self, sigma: float) -> float:
        return float(self.rng.lognormal(0, sigma))


def write_run(
    folder: Path,
    *,
    seconds: float = 40.0,
    fps: float = 30.0,
    deadline_s: float = 0.15,
    seed: int = 1,
    with_bundle: bool = True,
    with_shapes: bool = True,
    with_links: bool = True,
    with_end: bool = True,
    with_truth: bool = True,
    disconnected_s: tuple[float, float] = (0.0, 0.0),
) -> SyntheticRun:
    """Write a run folder; `disconnected_s` is when link events deny a connection."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_bundle(folder / "bundle") if with_bundle else "ab" * 32
    player = Player(fps=fps, deadline_s=deadline_s, seed=seed)
    frames = sorted((player.frame(n) for n in range(round(seconds * fps))), key=lambda event: event.at_s)
    if not with_truth:
        frames = [msgspec.structs.replace(frame, truth=None) for frame in frames]
    outcomes = {name: sum(frame.outcome == name for frame in frames) for name in OUTCOMES}
    log = EventLog(folder / "events.jsonl")
    log.write(
        RunEvent(
            at_s=ZERO_S - 0.2,
            unix_s=1_760_000_000.0,
            bundle="synthetic",
            bundle_digest=digest,
            source="npz:digits-test.npz",
            policy="expected-utility",
            server="127.0.0.1:8001",
            deadline_s=deadline_s,
            fps=fps,
            widths=WIDTHS,
            labels=tuple("0123456789"),
            teacher_utility=TEACHER,
            isthmus_version="0.1.0",
        )
    )
    second = 0
    for frame in frames:
        while with_links and frame.at_s - ZERO_S >= second:
            connected = not disconnected_s[0] <= second < disconnected_s[1]
            log.write(link_event(second, player, connected=connected))
            second += 1
        log.write(frame)
    if with_end:
        reconnects = int(disconnected_s[1] > 0)
        end_s = ZERO_S + seconds + 0.2
        log.write(EndEvent(at_s=end_s, captured=len(frames), outcomes=outcomes, reconnects=reconnects))
    log.close()
    if with_shapes:
        link = EventLog(folder / "link.jsonl")
        for start_s, rate in RATES:
            # The link was there before the agent.
            link.write(ShapeEvent(at_s=ZERO_S + (start_s or -1.0), rate_bytes_per_s=rate))
        link.close()
    return SyntheticRun(folder=folder, frames=tuple(frames), outcomes=outcomes)


def link_event(second: int, player: Player, *, connected: bool) -> LinkEvent:
    rate = rate_at(max(second - 0.5, 0.0)) * player.noise(0.12)
    return LinkEvent(
        at_s=ZERO_S + second,
        connected=connected,
        rate_bytes_per_s=rate if connected else None,
        rtt_s=0.021,
        backlog_bytes=0,
    )
