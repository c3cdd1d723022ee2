"""What an agent says of itself, gathered from its parts for the status file."""

from __future__ import annotations

import os
import time

import isthmus
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.ledger import Ledger
from isthmus.device_agents.operation.energy import EnergyReading
from isthmus.device_agents.operation.status import AgentStatus
from isthmus.device_agents.operation.thermal import ThermalReading
from isthmus.device_agents.uplink.flight import Flight
from isthmus.runtime.bundle import Bundle


def make_status(
    *,
    config: AgentConfig,
    bundle: Bundle,
    bank: WidthBank,
    ledger: Ledger,
    flight: Flight,
    policy: str,
    thermal: ThermalReading,
    energy: EnergyReading,
    open_frames: int,
    results_lost: int,
    last_note: str,
    state: str,
) -> AgentStatus:
    """Return the status of a run at this instant."""
    now_s = time.monotonic()
    link, summary = flight.estimate(now_s), ledger.summary
    return AgentStatus(
        pid=os.getpid(),
        written_unix_s=time.time(),
        uptime_s=ledger.elapsed_s(now_s),
        state=state,
        isthmus_version=isthmus.__version__,
        bundle=bundle.manifest.name,
        bundle_digest=bundle.digest,
        source=config.source,
        policy=policy,
        provider=bank.provider,
        servers=config.servers,
        server=flight.server,
        connected=flight.connected,
        connections=flight.connections,
        rate_bytes_per_s=link.rate_bytes_per_s,
        rtt_s=link.rtt_s,
        server_load=flight.server_load,
        fps=config.fps,
        deadline_s=config.deadline_s,
        point=None if ledger.last is None else ledger.last.point,
        captured=summary.captured + open_frames,
        outcomes={str(outcome): count for outcome, count in summary.outcomes.items()},
        open=open_frames,
        accuracy=summary.accuracy,
        latency_p50_s=summary.latency_p50_s,
        latency_p90_s=summary.latency_p90_s,
        latency_p99_s=summary.latency_p99_s,
        mean_payload_bytes=summary.mean_payload_bytes,
        temperature_c=thermal.temperature_c,
        throttled=thermal.throttled,
        power_w=energy.power_w,
        idle_w=energy.idle_w,
        energy_j=energy.energy_j,
        energy_source=energy.source,
        events_lost=ledger.events_lost,
        results_lost=results_lost,
        last_note=last_note,
    )
