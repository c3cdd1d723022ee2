"""All devices and emulated links, and what a browser is told of them.

Decides which events belong to which device, and how much of it a page gets: a few numbers per device every
second, as columns, and everything only of the device somebody looks at. Pure: time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.dashboard.device import Device
from isthmus.dashboard.history import SECONDS, History, quantile_s
from isthmus.runtime.events import OUTCOMES, Event, RunEvent, ShapeEvent

# Over so many seconds a device's present is averaged.
NOW_SECONDS = 5
# Older seconds may still get events: a batch is on its way, a file is looked at now and then.
_SHOWN_SECONDS = SECONDS - 8
SILENT_S = 6.0
# What a log is called when only its folder says whose it is.
_PLAIN_NAMES = ("events", "agent", "log")

LIVE, SILENT, ENDED = "live", "silent", "ended"


class EmulatedLink:
    """The true rate of an emulated link: the latest changes, in instants of the dashboard's clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: deque[tuple[float, float]] = deque(maxlen=4096)

    def rates(self, from_s: float, seconds: int) -> list[float | None]:
        """Return the rate at the end of each of `seconds` seconds; None before anything is known."""
        changes = list(self.changes)
        rates: list[float | None] = []
        index, rate = 0, None
        for second in range(seconds):
            while index < len(changes) and changes[index][0] < from_s + second + 1:
                rate = changes[index][1]
                index += 1
            rates.append(rate)
        return rates


class Fleet:
    """Takes events, keeps the devices.

    Attributes:
        devices: By key.
        links: Emulated links, by the folder of their log.
        version: Rises whenever what stays constant in a run has changed.
    """

    def __init__(self) -> None:
        self.history = History()
        self.devices: dict[str, Device] = {}
        self.links: dict[Path, EmulatedLink] = {}
        self.version = 0

    def take(self, key: str, events: Sequence[Event], *, shift_s: float, log: Path | None = None) -> None:
        """Take events of one agent, or of one emulated link.

        Args:
            key: Whose they are.
            events: In their order.
            shift_s: Seconds from their clock to ours.
            log: The file they come from, if it is a file.
        """
        device = self.devices.get(key)
        for event in events:
            if type(event) is ShapeEvent:
                self._shape(key, log, event, shift_s)
                continue
            if device is None:
                device = self._new(key, log)
            if device.take(event, shift_s):
                self.version += 1
                if type(event) is RunEvent:
                    device.name = self._name(key, log, event)

    def tick(self, now_s: float) -> None:
        """Make what has come visible, and room for what comes."""
        self.history.settle()
        self.history.advance(now_s)

    def state(self, device: Device, now_s: float) -> str:
        """Return whether the device is live, silent or has ended."""
        if device.ended:
            return ENDED
        return SILENT if now_s - device.heard_s > SILENT_S else LIVE

    def roster(self) -> list[dict[str, Any]]:
        """Return what stays constant in the devices' runs, in the order of their rows."""
        return [_constant(device) for device in self.devices.values()]

    def columns(self, now_s: float) -> dict[str, list[Any]]:
        """Return the present of every device, as columns in the order of the roster.

        Latencies are in tenths of a millisecond, rates in bytes per second, energy in tenths of a millijoule;
        `outcomes` are frames of the last seconds, `point` is [width index, channels], channels 0 where the
        device answers by itself. None is unknown.
        """
        history = self.history
        count = history.rows
        slots = history.recent(NOW_SECONDS, now_s)
        outcomes = history.outcomes[:count, slots].sum(axis=1)
        latencies = history.latencies[:count, slots].sum(axis=1)
        devices = list(self.devices.values())
        return {
            "state": [self.state(device, now_s) for device in devices],
            "point": [_point(device) for device in devices],
            "connected": [None if device.link is None else device.link.connected for device in devices],
            "rate": [_rounded(None if d.link is None else d.link.rate_bytes_per_s) for d in devices],
            "deadline": [_rounded(device.deadline_s, 1e4) for device in devices],
            "p50": _tenths(quantile_s(latencies, 0.5)),
            "p95": _tenths(quantile_s(latencies, 0.95)),
            "outcomes": outcomes.tolist(),
            "energy": [_rounded(device.joules_per_frame, 1e4) for device in devices],
            "hot": [bool(device.link and device.link.throttled) for device in devices],
        }

    def totals(self, now_s: float) -> dict[str, Any]:
        """Return the fleet as one: frames, bytes and power a second, latency, devices by state."""
        history = self.history
        slots = history.recent(NOW_SECONDS, now_s)
        devices = list(self.devices.values())
        states = [self.state(device, now_s) for device in devices]
        latencies = history.latencies[: history.rows, slots].sum(axis=(0, 1))
        powers = [
            device.power_w
            for device, state in zip(devices, states, strict=True)
            if device.power_w is not None and state == LIVE
        ]
        modelled = sum(
            1 for d in devices if d.energy_source is not None and d.energy_source.startswith("model")
        )
        outcomes = history.outcomes[: history.rows, slots].sum(axis=(0, 1))
        return {
            "devices": len(devices),
            "live": states.count(LIVE),
            "seconds": NOW_SECONDS,
            "outcomes": dict(zip(OUTCOMES, outcomes.tolist(), strict=True)),
            "payload_bytes_per_s": _rounded(
                float(history.payload_bytes[: history.rows, slots].sum()) / NOW_SECONDS
            ),
            "p50_s": _known(quantile_s(latencies, 0.5)),
            "p99_s": _known(quantile_s(latencies, 0.99)),
            "power_w": sum(powers) if powers else None,
            "metered": len(powers),
            "modelled": modelled,
        }

    def detail(self, device: Device, now_s: float) -> dict[str, Any]:
        """Return the last two minutes of one device, second by second, and its latest frame."""
        history, row = self.history, device.row
        first = int(now_s) - _SHOWN_SECONDS
        slots = np.arange(first, int(now_s)) % SECONDS
        latencies = history.latencies[row, slots]
        link = self._link_of(device)
        return {
            "key": device.key,
            "state": self.state(device, now_s),
            "seconds": _SHOWN_SECONDS,
            "outcomes": history.outcomes[row, slots].tolist(),
            "p50": _tenths(quantile_s(latencies, 0.5)),
            "p95": _tenths(quantile_s(latencies, 0.95)),
            "rate": _floats(history.rate[row, slots], digits=0),
            "link": None if link is None else link.rates(first, _SHOWN_SECONDS),
            "width": history.width[row, slots].tolist(),
            "channels": history.channels[row, slots].tolist(),
            "deadline": _tenths(_held(history.deadline_s[row, slots])),
            "power": _floats(history.power_w[row, slots], digits=3),
            "now": _present(device),
        }

    def _link_of(self, device: Device) -> EmulatedLink | None:
        folder = Path(device.key).parent
        if len(self.links) == 1 and len(self.devices) == 1:
            return next(iter(self.links.values()))
        return self.links.get(folder)

    def _new(self, key: str, log: Path | None) -> Device:
        device = Device(key, self._name(key, log, None), self.history)
        self.devices[key] = device
        self.version += 1
        return device

    def _name(self, key: str, log: Path | None, run: RunEvent | None) -> str:
        if log is None:
            return key
        stem = log.absolute().parent.name if log.stem in _PLAIN_NAMES else log.stem
        if run is None or run.agent is None:
            return stem
        shared = any(other.name.split(" · ")[0] == run.agent for k, other in self.devices.items() if k != key)
        return f"{run.agent} · {stem}" if shared else run.agent

    def _shape(self, key: str, log: Path | None, event: ShapeEvent, shift_s: float) -> None:
        folder = Path(key).parent
        if folder not in self.links:
            self.links[folder] = EmulatedLink(key if log is None else log.stem)
            self.version += 1
        self.links[folder].changes.append((event.at_s + shift_s, event.rate_bytes_per_s))


def _constant(device: Device) -> dict[str, Any]:
    run = device.run
    said = {"key": device.key, "name": device.name}
    if run is None:
        return {**said, "widths": []}
    return {
        **said,
        "widths": list(run.widths),
        "bundle": run.bundle,
        "policy": run.policy,
        "source": run.source,
        "server": run.server,
        "fps": run.fps,
        "version": run.isthmus_version,
        "began_unix_s": run.unix_s,
    }


def _present(device: Device) -> dict[str, Any]:
    link, last = device.link, device.last
    return {
        "point": _point(device),
        "reason": "" if device.chosen is None else device.chosen.reason,
        "outcome": None if last is None else last.outcome,
        "frame": None if last is None else last.frame,
        "payload_bytes": None if last is None else last.payload_bytes,
        "rtt_s": None if link is None else link.rtt_s,
        "backlog_bytes": None if link is None else link.backlog_bytes,
        "server": None if link is None else link.server,
        "temperature_c": None if link is None else link.temperature_c,
        "throttled": None if link is None else link.throttled,
        "power_w": device.power_w,
        "joules_per_frame": device.joules_per_frame,
        "energy_source": device.energy_source,
        "stages": device.stage_means_s(),
    }


def _point(device: Device) -> list[int] | None:
    chosen = device.chosen
    if chosen is None or chosen.point is None:
        return None
    return [chosen.point.width_index, chosen.point.channels if chosen.payload_bytes else 0]


def _rounded(value: float | None, scale: float = 1.0) -> int | None:
    return None if value is None else round(value * scale)


def _known(value: NDArray[np.float32]) -> float | None:
    return None if np.isnan(value) else float(value)


def _tenths(seconds: NDArray[np.float32]) -> list[int | None]:
    """Return tenths of a millisecond, None for NaN."""
    return [None if s != s else round(s * 1e4) for s in seconds.tolist()]


def _floats(values: NDArray[np.float32], *, digits: int) -> list[float | None]:
    return [None if value != value else round(value, digits) for value in values.tolist()]


def _held(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `values` with every gap filled by what held before it, the first one by what came after."""
    held = values.copy()
    known = np.flatnonzero(~np.isnan(held))
    if len(known):
        index = np.maximum.accumulate(np.where(np.isnan(held), -1, np.arange(len(held))))
        held = np.where(index < 0, held[known[0]], held[np.maximum(index, 0)])
    return held.astype(np.float32)
