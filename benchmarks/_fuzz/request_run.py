"""Fuzzed requests against a server process over loopback, from its start to its end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from _fuzz.payload_run import growth
from _fuzz.request_client import RequestClient
from _fuzz.request_inputs import RequestInputs
from _fuzz.server_process import Footprint, ServerProcess
from isthmus.runtime.bundle import load_bundle

# Calls before memory is measured first: pools are filled and batches of all sizes have been computed.
_WARM_UP = 2_000


def send_requests(bundle: Path, *, calls: int, seconds: float, seed: int) -> dict[str, Any]:
    """Return figures of at most `calls` made within `seconds` to a server of `bundle`."""
    server = ServerProcess(bundle)
    try:
        started_s = time.monotonic()
        verdicts, before, after = asyncio.run(_send(server, bundle, calls, seconds, seed))
        seconds = time.monotonic() - started_s
        stopped = server.stop()
        violations = verdicts.pop("violations") + _violations(
            server, stopped, verdicts["outcomes"], verdicts["cut_off"], before, after
        )
    finally:
        server.close()
    return {
        **verdicts,
        "seed": seed,
        "seconds": round(seconds, 1),
        "server_counted": stopped.get("outcomes", {}),
        "before": before.record(),
        "after": after.record(),
        "violations": violations,
    }


async def _send(
    server: ServerProcess, bundle: Path, calls: int, seconds: float, seed: int
) -> tuple[dict[str, Any], Footprint, Footprint]:
    inputs = RequestInputs(seed, load_bundle(bundle))
    until_s = time.monotonic() + seconds
    async with RequestClient(server.address, inputs) as client:
        await client.send(min(calls, _WARM_UP), until_s=until_s)
        before = server.footprint()
        await client.send(calls - client.verdicts.calls, until_s=until_s)
        return client.verdicts.record(), before, server.footprint()


def _violations(
    server: ServerProcess,
    stopped: dict[str, Any],
    answered: dict[str, int],
    cut_off: int,
    before: Footprint,
    after: Footprint,
) -> list[str]:
    found = []
    if server.process.returncode != 0 or not stopped.get("complete"):
        found.append(f"the server ended with {server.process.returncode}: {stopped}")
    counted = stopped.get("outcomes", {})
    # What the server counts as served has reached its client, each frame once, unless the stream was cut off.
    # Failures are not compared: what is no request at all it does not count.
    unseen = {outcome: counted.get(outcome, 0) - answered.get(outcome, 0) for outcome in ("ok", "expired")}
    for outcome, missing in unseen.items():
        if missing < 0 or sum(unseen.values()) > cut_off:
            found.append(f"{answered.get(outcome, 0)} answers '{outcome}', the server counts {counted}")
    if "Traceback" in (log := server.log()):
        found.append("the server logged a bug: " + log[log.index("Traceback") :][:2000])
    return found + growth(before.resident_bytes, after.resident_bytes)
