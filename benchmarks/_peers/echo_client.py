"""A client of the bare gRPC echo, on gRPC and asyncio as they come: `echo_client.py ADDRESS SIZE`.

Takes a line with a number of round trips from standard input, and answers a line of JSON: the nanoseconds of
each.
"""

from __future__ import annotations

import asyncio
import json
import sys

from _peers.round_trips import BareGrpc


async def _trips(address: str, size: int) -> None:
    echo = BareGrpc(address, size)
    # Blocking is no harm: between two lines nothing is under way.
    for line in sys.stdin:
        print(json.dumps([await echo.once() for _ in range(int(line))]), flush=True)
    await echo.close()


if __name__ == "__main__":
    asyncio.run(_trips(sys.argv[1], int(sys.argv[2])))
