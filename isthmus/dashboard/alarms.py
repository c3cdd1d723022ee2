"""What of all this a person should know now: alarms, since when, and those that have passed.

Decides when something is an alarm and when it is over. Pure: fleet, servers and time are arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from isthmus.dashboard.device import Device
from isthmus.dashboard.fleet import LIVE, SILENT, Fleet
from isthmus.dashboard.servers import Server
from isthmus.runtime.events import OUTCOMES

Kind = Literal["outage", "silent", "throttling", "deadline", "certificate", "server", "refusals"]

# A link is out if what was sent for so long has not been answered.
_OUTAGE_SECONDS = 3
_MISSED_SECONDS = 10
_MISSED_SHARE, _LEAST_MISSED = 0.1, 5
_REFUSED_SHARE = 0.05
_SOON_S = 14 * 86_400.0
# An alarm that is gone for so long is over; one that flickers stays one.
_CLEAR_S = 2.5
_PASSED = 30
# More of a kind are counted, not listed.
_LISTED = 50

_SERIOUS: frozenset[Kind] = frozenset({"outage", "silent", "server"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong at this instant.

    Attributes:
        kind: What.
        subject: Which device (its key) or server (its address).
        name: What people call that.
        text: What is wrong with it.
        serious: It does not do its work now; otherwise it does, worse or not for long.
    """

    kind: Kind
    subject: str
    name: str
    text: str
    serious: bool


def findings(
    fleet: Fleet, servers: Iterable[Server], *, now_s: float, now_unix_s: float
) -> Iterator[Finding]:
    """Yield everything that is wrong at `now_s` (monotonic) and `now_unix_s`."""
    history, rows = fleet.history, fleet.history.rows
    brief, longer = history.recent(_OUTAGE_SECONDS, now_s), history.recent(_MISSED_SECONDS, now_s)
    late, dropped, remote = OUTCOMES.index("late"), OUTCOMES.index("dropped"), OUTCOMES.index("remote")
    sent = history.sent[:rows, brief].sum(axis=1)
    answered = history.outcomes[:rows, brief][:, :, [remote, late]].sum(axis=(1, 2))
    frames = history.outcomes[:rows, longer].sum(axis=1)
    missed = frames[:, late] + frames[:, dropped]
    for device in fleet.devices.values():
        state = fleet.state(device, now_s)
        if state == SILENT:
            yield _of(device, "silent", f"no event for {now_s - device.heard_s:.0f} s")
        if state != LIVE:
            continue
        row = device.row
        if device.disconnected_s is not None:
            yield _of(device, "outage", "no connection to any server; the device answers by itself")
        elif sent[row] and not answered[row]:
            yield _of(device, "outage", "nothing sent is answered; the device answers by itself")
        total = int(frames[row].sum())
        if missed[row] >= _LEAST_MISSED and missed[row] > _MISSED_SHARE * total:
            share = missed[row] / total
            yield _of(device, "deadline", f"{share:.0%} of frames late or dropped")
        if device.link is not None and device.link.throttled:
            heat = device.link.temperature_c
            yield _of(device, "throttling", "slowed down" + ("" if heat is None else f" at {heat:.0f} °C"))
        end = None if device.run is None else device.run.certificate_not_after_unix_s
        if end is not None and (text := _expiry(end - now_unix_s)) is not None:
            yield _of(device, "certificate", f"its certificate {text}", serious=end <= now_unix_s)
    for server in servers:
        yield from _server(server, now_unix_s)


class AlarmBook:
    """Remembers since when alarms hold, and which have passed."""

    def __init__(self) -> None:
        self._since: dict[tuple[Kind, str], tuple[float, float, Finding]] = {}
        self._passed: deque[dict[str, Any]] = deque(maxlen=_PASSED)

    def update(self, found: Iterable[Finding], *, now_s: float, now_unix_s: float) -> None:
        """Take what is wrong at this instant."""
        for finding in found:
            key = finding.kind, finding.subject
            since_unix_s = self._since[key][0] if key in self._since else now_unix_s
            self._since[key] = since_unix_s, now_s, finding
        for key, (since_unix_s, seen_s, finding) in list(self._since.items()):
            if now_s - seen_s > _CLEAR_S:
                del self._since[key]
                until = now_unix_s - (now_s - seen_s)
                self._passed.appendleft({**_shown(finding, since_unix_s), "until_unix_s": until})

    def shown(self) -> dict[str, Any]:
        """Return the alarms for a page: counts by kind, the serious and the newest first, and what passed."""
        held = sorted(self._since.values(), key=lambda entry: (not entry[2].serious, -entry[0]))
        counts: dict[str, int] = {}
        for _, _, finding in held:
            counts[finding.kind] = counts.get(finding.kind, 0) + 1
        now = [_shown(finding, since) for since, _, finding in held[:_LISTED]]
        return {"counts": counts, "now": now, "passed": list(self._passed)}

    def subjects(self) -> dict[str, bool]:
        """Return who has an alarm, and whether a serious one."""
        found: dict[str, bool] = {}
        for _, _, finding in self._since.values():
            found[finding.subject] = found.get(finding.subject, False) or finding.serious
        return found


def _of(device: Device, kind: Kind, text: str, *, serious: bool | None = None) -> Finding:
    grave = kind in _SERIOUS if serious is None else serious
    return Finding(kind=kind, subject=device.key, name=device.name, text=text, serious=grave)


def _server(server: Server, now_unix_s: float) -> Iterator[Finding]:
    def of(kind: Kind, text: str, *, serious: bool) -> Finding:
        return Finding(kind=kind, subject=server.url, name=server.url, text=text, serious=serious)

    if server.trouble:
        yield of("server", f"its metrics cannot be read: {server.trouble}", serious=True)
        return
    if server.certificate_end_unix_s is not None:
        left_s = server.certificate_end_unix_s - now_unix_s
        if (text := _expiry(left_s)) is not None:
            yield of("certificate", f"its certificate {text}", serious=left_s <= 0)
    if (share := server.refused_share()) > _REFUSED_SHARE:
        yield of("refusals", f"{share:.0%} of frames not answered in order", serious=False)


def _expiry(left_s: float) -> str | None:
    if left_s <= 0:
        return "has expired"
    if left_s > _SOON_S:
        return None
    days = left_s / 86_400
    return f"expires in {days:.0f} days" if days >= 2 else f"expires in {left_s / 3600:.0f} hours"


def _shown(finding: Finding, since_unix_s: float) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "subject": finding.subject,
        "name": finding.name,
        "text": finding.text,
        "serious": finding.serious,
        "since_unix_s": since_unix_s,
    }


def alarm_marks(book: AlarmBook, keys: Sequence[str]) -> list[int]:
    """Return per key 0: no alarm, 1: one, 2: a serious one."""
    subjects = book.subjects()
    return [0 if key not in subjects else 1 + subjects[key] for key in keys]
