"""What the device is like while it is measured: memory, temperature, frequency, who else computes.

Read once a second on a thread of its own: every file that is read takes the interpreter from the thread that
computes, and four looks a second cost it 5 %. What cannot be known is None.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from isthmus.device_agents.operation.thermal import ThermalMonitor, ThermalReading

PERIOD_S = 1.0


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time on the device. None: not known.

    Attributes:
        rss_bytes: Most resident memory of this process.
        temperature_c: Highest reading of the hottest computing part, degrees Celsius.
        throttled: The device said at some moment that it ran slower than it could.
        causes: Why, in words.
        frequency_min_hz, frequency_median_hz, frequency_max_hz: Of the quickest core.
        busy_share: Share of all usable processors' time in which they computed, in [0, 1].
        others_share: The part of it that was other processes', the server's on the same host among them.
    """

    rss_bytes: int | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    causes: tuple[str, ...] = ()
    frequency_min_hz: float | None = None
    frequency_median_hz: float | None = None
    frequency_max_hz: float | None = None
    busy_share: float | None = None
    others_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The device at one instant; see `Conditions`.

    Attributes:
        at_s: When, monotonic seconds.
        rss_bytes: Resident memory of this process.
        thermal: Temperature and throttling.
        frequency_hz: Of the quickest core.
        busy_s, total_s: Processor seconds since boot, of all processors.
        own_s: Processor seconds of this process.
    """

    at_s: float
    rss_bytes: int
    thermal: ThermalReading
    frequency_hz: float | None
    busy_s: float
    total_s: float
    own_s: float


def summarise(moments: list[Moment]) -> Conditions:
    """Return what `moments`, in their order, amount to."""
    if not moments:
        return Conditions()
    temperatures = [m.thermal.temperature_c for m in moments if m.thermal.temperature_c is not None]
    said = [m.thermal.throttled for m in moments if m.thermal.throttled is not None]
    frequencies = sorted(m.frequency_hz for m in moments if m.frequency_hz is not None)
    first, last = moments[0], moments[-1]
    busy = others = None
    total_s = last.total_s - first.total_s
    if total_s > 0:
        busy = min(1.0, max(0.0, (last.busy_s - first.busy_s) / total_s))
        others = max(0.0, busy - (last.own_s - first.own_s) / total_s)
    return Conditions(
        rss_bytes=max(m.rss_bytes for m in moments),
        temperature_c=max(temperatures, default=None),
        throttled=any(said) if said else None,
        causes=tuple(dict.fromkeys(cause for m in moments for cause in m.thermal.causes)),
        frequency_min_hz=frequencies[0] if frequencies else None,
        frequency_median_hz=frequencies[len(frequencies) // 2] if frequencies else None,
        frequency_max_hz=frequencies[-1] if frequencies else None,
        busy_share=busy,
        others_share=others,
    )


def read_frequency_hz(root: Path = Path("/")) -> float | None:
    """Return the frequency of the quickest core now, hertz; None where the kernel does not say.

    From cpufreq; where a virtual machine hides that, from what x86 says in /proc/cpuinfo.
    """
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    kilohertz = [value for file in files if (value := _number(_text(file))) is not None]
    if kilohertz:
        return max(kilohertz) * 1e3
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    megahertz = [_number(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return max((value for value in megahertz if value is not None), default=0.0) * 1e6 or None


class Watch:
    """Looks at the device again and again from `start` to `close`.

    Args:
        monitor: Reads the sensors.
        frequency: Reads the frequency.
        clock: Monotonic seconds.

    Attributes:
        moments: All readings so far.
    """

    def __init__(
        self,
        monitor: ThermalMonitor | None = None,
        *,
        frequency: Callable[[], float | None] = read_frequency_hz,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.moments: list[Moment] = []
        self._monitor = monitor or ThermalMonitor()
        self._frequency = frequency
        self._clock = clock
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="profile-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look(self) -> float:
        """Look once, on any thread, and return the reading's instant."""
        with self._lock:
            now_s = self._clock()
            all_of_them = psutil.cpu_times()
            idle_s = all_of_them.idle + getattr(all_of_them, "iowait", 0.0)
            # Guests are in `user` and `nice` already.
            guests_s = getattr(all_of_them, "guest", 0.0) + getattr(all_of_them, "guest_nice", 0.0)
            total_s = sum(all_of_them) - guests_s
            moment = Moment(
                at_s=now_s,
                rss_bytes=self._process.memory_info().rss,
                thermal=self._monitor.read(),
                frequency_hz=self._frequency(),
                busy_s=total_s - idle_s,
                total_s=total_s,
                own_s=time.process_time(),
            )
            self.moments.append(moment)
        return now_s

    def since(self, begin_s: float) -> Conditions:
        """Return what the device was like from `begin_s` until now."""
        self.look()
        with self._lock:
            return summarise([moment for moment in self.moments if moment.at_s >= begin_s])

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self.look()
            self._closing.wait(PERIOD_S)


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
