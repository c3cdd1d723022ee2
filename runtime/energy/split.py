"""Where a run's joules went: resting, the radio, and the rest, which is computing; per frame over windows.

Pure. Meters know joules alone. What they read at rest is known from before the run; what the radio takes is
modelled from bytes and instants, even where the total was measured, and says so by its name. A meter in the
supply sees the radio, so that its joules are a share of the total; meters of processors and GPUs do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import RadioModel

# Shorter windows show the sensor's own steps rather than the frames'.
SHORTEST_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySplit:
    """The joules of a stretch of time. None: not known.

    Attributes:
        total_j: By the meter.
        idle_j: What the device would have drawn at rest.
        radio_modelled_j: What the radio's model says of the bytes that crossed; never measured.
        radio_apart: Whether the radio is no part of the total, because the meter does not see it.
        compute_j: The rest of the total. None unless the other two are known.
        modelled: Whether the total itself is modelled.
    """

    total_j: float
    idle_j: float | None
    radio_modelled_j: float | None
    radio_apart: bool
    compute_j: float | None
    modelled: bool

    @property
    def above_idle_j(self) -> float | None:
        """Joules beyond those at rest: computing, and the radio where the meter sees it."""
        return None if self.idle_j is None else self.total_j - self.idle_j

    def per_frame_j(self, frames: int) -> float | None:
        """Return the joules of one of so many frames, resting included; None without frames."""
        return self.total_j / frames if frames else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Joules between two readings.

    Attributes:
        begin_s, end_s: Instants of the readings.
        total_j: Joules between them.
        frames: Frames that ended in between.
    """

    begin_s: float
    end_s: float
    total_j: float
    frames: int

    @property
    def per_frame_j(self) -> float | None:
        """Joules per frame, resting included; None where no frame ended."""
        return self.total_j / self.frames if self.frames else None

    @property
    def power_w(self) -> float:
        """Mean watts."""
        return self.total_j / (self.end_s - self.begin_s)


# Meters that see a part of the machine which no radio belongs to.
_WITHOUT_RADIO = ("rapl", "nvml")


def is_modelled(source: str) -> bool:
    """Return whether joules of this `energy_source` are modelled."""
    return source.startswith("model:")


def split_energy(
    total_j: float,
    *,
    source: str,
    elapsed_s: float,
    idle_w: float | None = None,
    radio: RadioModel | None = None,
    sent_bytes: float = 0.0,
    received_bytes: float = 0.0,
    awake_s: float = 0.0,
) -> EnergySplit:
    """Return where the joules of a stretch of `elapsed_s` seconds went.

    Args:
        total_j: By the meter.
        source: The meter.
        elapsed_s: Seconds between the two readings.
        idle_w: Watts at rest; None: not known.
        radio: The radio's model; None: not known.
        sent_bytes: What crossed to the server, overhead included.
        received_bytes: What came back.
        awake_s: For how long the radio was awake, as `RadioModel.awake_s` says.
    """
    idle_j = None if idle_w is None else min(total_j, idle_w * elapsed_s)
    apart = source.startswith(_WITHOUT_RADIO)
    busy_j = total_j - (idle_j or 0.0)
    radio_j = None
    if radio is not None:
        bytes_j = radio.transfer_j(sent_bytes, received_bytes, next_s=0.0)
        radio_j = bytes_j + radio.tail_w * awake_s
        if not apart:
            radio_j = min(radio_j, busy_j)  # a share cannot be larger than the whole
    known = idle_j is not None and (apart or radio_j is not None)
    return EnergySplit(
        total_j=total_j,
        idle_j=idle_j,
        radio_modelled_j=radio_j,
        radio_apart=apart,
        compute_j=busy_j - (0.0 if apart else radio_j or 0.0) if known else None,
        modelled=is_modelled(source),
    )


def windows(
    readings: Iterable[tuple[float, float | None]], frames_s: Sequence[float], *, width_s: float = 10.0
) -> list[Window]:
    """Return the joules of a run in windows of at least `width_s`, from reading to reading.

    A window never spans a reading that is unknown: what was drawn around it cannot be told.

    Args:
        readings: (instant, joules so far or None), in rising order.
        frames_s: When frames ended, in rising order.
        width_s: Seconds of a window.

    Raises:
        InputError: If the windows are so short that they show the sensor's steps.
    """
    if not width_s >= SHORTEST_WINDOW_S:
        raise InputError(f"a window of {width_s:g} s: give {SHORTEST_WINDOW_S:g} s or more")
    found: list[Window] = []
    begin: tuple[float, float] | None = None
    ended = 0
    for at_s, energy_j in readings:
        if energy_j is None:
            begin = None
        elif begin is None:
            begin = at_s, energy_j
        elif at_s - begin[0] >= width_s:
            while ended < len(frames_s) and frames_s[ended] <= begin[0]:
                ended += 1
            frames = ended
            while ended < len(frames_s) and frames_s[ended] <= at_s:
                ended += 1
            found.append(
                Window(begin_s=begin[0], end_s=at_s, total_j=energy_j - begin[1], frames=ended - frames)
            )
            begin = at_s, energy_j
    return found
