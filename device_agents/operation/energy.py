"""The joules of one run: what the meter says, what the device draws at rest, and what its profile knows.

The meter is read on a thread of its own; here its last reading is taken, and whatever becomes unknown is said
once. A run goes on without its meter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isthmus.device_agents.config import AgentConfig
from isthmus.runtime.bundle import Bundle, PointTable, head_name
from isthmus.runtime.control import with_joules
from isthmus.runtime.energy import EnergyMeter, EnergySampler, RadioModel, is_modelled, open_meter
from isthmus.runtime.machines import load_machine

# How often the sampler is asked for its first reading, and for how long.
_STEP_S, _PATIENCE_S = 0.05, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReading:
    """What is known of the run's joules at one instant; None: not known.

    Attributes:
        energy_j: Since the run began.
        source: The meter; modelled if it begins with "model:".
        power_w: Watts now, over about a second.
        idle_w: Watts before the run.
    """

    energy_j: float | None = None
    source: str | None = None
    power_w: float | None = None
    idle_w: float | None = None


class EnergyWatch:
    """Opens the meter of one run, and reads it until the run ends.

    Args:
        config: What the agent was told.
        note: Takes one line about something that changed.

    Attributes:
        idle_w: Watts before the run; None without a meter, or where they were not measured.
        radio: The radio's model, if the device's profile has one.

    Raises:
        ArtifactError: If the device's profile cannot be read.
    """

    def __init__(self, config: AgentConfig, *, note: Callable[[str], None]) -> None:
        profile = None if config.profile is None else load_machine(config.profile)
        self.idle_w: float | None = None
        self.radio: RadioModel | None = None if profile is None else profile.radio
        self._profile = profile
        self._config = config
        self._note = note
        self._sampler: EnergySampler | None = None
        self._begin_j = 0.0
        self._said: str | None = None

    @property
    def transmit_j_per_byte(self) -> float:
        """Joules of a byte sent; 0 where they are not known."""
        return 0.0 if self.radio is None else self.radio.transmit_j_per_byte

    async def begin(self, stopped: asyncio.Event | None) -> None:
        """Open the meter, and watch the device at rest before the run.

        Args:
            stopped: Cuts the rest short; None: there is none to watch, frames may come already.

        Raises:
            InputError: If the meter that was asked for cannot be used.
            MissingExtraError: If it needs a library that is not installed.
        """
        meter = await asyncio.to_thread(open_meter, self._config.energy)
        if meter is None:
            return
        self._sampler = EnergySampler(meter)
        self._sampler.start()
        try:
            await self._learn_rest(meter, stopped)
        except BaseException:  # cancelled
            self._sampler.close()
            raise
        reading = self._sampler.reading
        self._begin_j = 0.0 if reading is None else reading[1]
        rest = "" if self.idle_w is None else f", {self.idle_w:.2f} W at rest"
        self._note(f"energy: {meter.source}{' (modelled)' if is_modelled(meter.source) else ''}{rest}")

    def reading(self) -> EnergyReading:
        """Return what is known now; that it became unknown is said once."""
        if self._sampler is None:
            return EnergyReading()
        energy_j, trouble = self._sampler.energy_j, self._sampler.trouble
        if trouble is not None and trouble != self._said:
            self._note(f"energy unknown: {trouble}")
        self._said = trouble
        return EnergyReading(
            energy_j=None if energy_j is None else energy_j - self._begin_j,
            source=self._sampler.source,
            power_w=self._sampler.power_w,
            idle_w=self.idle_w,
        )

    def with_joules(self, points: PointTable, bundle: Bundle, head_s: Mapping[int, float]) -> PointTable:
        """Return `points` with the joules that the device's profile knows of its heads.

        Args:
            points: The bundle's, or those of its plain form.
            bundle: The bundle.
            head_s: Seconds per width index, as measured here.
        """
        if self._profile is None:
            return points
        files = {index: head_name(width) for index, width in enumerate(bundle.manifest.widths)}
        digests = {index: bundle.manifest.files[file] for index, file in files.items()}
        return with_joules(
            points, self._profile, head_s=head_s, digests=digests, threads=self._config.threads
        )

    def close(self) -> None:
        """End the meter; may take as long as its sensor does."""
        if self._sampler is not None:
            self._sampler.close()

    async def _learn_rest(self, meter: EnergyMeter, stopped: asyncio.Event | None) -> None:
        assert self._sampler is not None
        power = None if self._profile is None else self._profile.power
        if not meter.measured:
            self.idle_w = None if power is None else power.idle_w
        elif stopped is not None:
            self.idle_w = await self._rest_w(stopped, self._sampler)

    async def _rest_w(self, stopped: asyncio.Event, sampler: EnergySampler) -> float | None:
        """Return the mean watts over the configured rest; None where they are unknown or it was cut short."""
        for _ in range(round(_PATIENCE_S / _STEP_S)):
            if sampler.reading is not None or await _is_set(stopped, _STEP_S):
                break
        before = sampler.reading
        if (
            before is None
            or not self._config.energy_idle_s
            or await _is_set(stopped, self._config.energy_idle_s)
        ):
            return None
        after = sampler.reading
        if after is None or after[0] <= before[0]:
            return None
        return (after[1] - before[1]) / (after[0] - before[0])


async def _is_set(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        return False
    return True
